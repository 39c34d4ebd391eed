"""Phases of a ``ProgressEvent`` that are work, and those that only poll the cluster."""

WAITING = frozenset({"wait", "hook"})
WORKING = frozenset({"render", "apply", "delete"})
