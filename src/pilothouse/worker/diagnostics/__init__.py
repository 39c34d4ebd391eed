"""Evidence of failures."""
