"""Sources of charts: registered, synchronised, searched, pulled from."""
