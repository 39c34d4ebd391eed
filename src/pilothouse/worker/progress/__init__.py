"""What a running operation tells while it works."""
