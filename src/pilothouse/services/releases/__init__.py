"""Releases: what may be done with them, and what is to be seen of them."""
