"""The two APIs: the vendor's dialect, and our own."""
