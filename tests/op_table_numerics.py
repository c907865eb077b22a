"""Lines of the op table: numerics."""
