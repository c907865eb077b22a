"""Lines of the op table: resample."""
