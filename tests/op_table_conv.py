"""Lines of the op table: conv."""
