"""Callers: users, keys, tokens, projects."""
