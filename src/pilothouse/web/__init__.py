"""What the dialects ``cce`` and ``api`` share at the edge: reading a request, and the form of every error."""
