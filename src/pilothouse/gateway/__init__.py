"""What the vendor's API gateway does in front of all routes: request ids, limits, credentials, errors in JSON."""
