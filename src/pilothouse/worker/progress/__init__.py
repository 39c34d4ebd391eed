"""Progress reports of a running operation."""
