"""Implementation of each kind of operation in a worker."""
