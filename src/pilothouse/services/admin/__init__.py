"""What an administrator of the whole installation does."""
