"""Lines of the op table: embedding."""
