"""Maintains the release index: watches Helm's storage in every cluster, each under a lease."""
