"""Lines of the op table: pool."""
