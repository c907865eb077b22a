"""Lines of the op table: linalg."""
