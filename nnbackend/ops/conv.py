"""Convolutions: three bilinear maps, each the way back of the others."""
