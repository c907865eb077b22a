"""Lines of the op table: recurrent."""
