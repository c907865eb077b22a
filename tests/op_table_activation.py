"""Lines of the op table: activation."""
