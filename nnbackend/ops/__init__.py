"""Floor 1: every differentiable op, by subject. `core` says what an op is."""
