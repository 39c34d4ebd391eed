"""Releases: create, update, delete, unlock, and reads."""
