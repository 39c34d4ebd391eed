"""Which phases of a ``ProgressEvent`` are work, and in which nothing is done but looking at the cluster."""

WAITING = frozenset({"wait", "hook"})
WORKING = frozenset({"render", "apply", "delete"})
