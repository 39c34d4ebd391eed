"""Periodic repair and cleanup next to the operations."""
