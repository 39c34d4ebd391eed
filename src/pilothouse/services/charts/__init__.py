"""Charts: checks, storage, lists."""
