"""Accepted operations: read, cancelled, announced."""
