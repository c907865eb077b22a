"""Normalisation as one op each, with a joint way back."""
