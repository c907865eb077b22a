"""Lines of the op table: loss_margin."""
