"""Lines of the op table: attention."""
