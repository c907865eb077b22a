"""Neural networks on plain arrays, GPU optional."""

__version__ = "0.1.0"
