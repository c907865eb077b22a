"""Lines of the op table: norm."""
