"""Lines of the op table: distance."""
