"""Administration of the whole installation."""
