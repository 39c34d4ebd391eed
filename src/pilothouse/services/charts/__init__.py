"""Charts: checked, stored, listed."""
