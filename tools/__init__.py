"""What developers run: the local cluster and the demo."""
