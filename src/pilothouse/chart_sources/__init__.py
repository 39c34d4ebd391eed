"""Requests to chart sources: HTTP repositories and OCI registries."""
