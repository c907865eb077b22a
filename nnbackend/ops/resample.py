"""Images larger and smaller."""
