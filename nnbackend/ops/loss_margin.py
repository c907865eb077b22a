"""Losses of margins, pairs and triplets."""
