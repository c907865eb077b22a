"""Lines of the op table: loss."""
