"""Accepted operations: read, cancel, notifications."""
