"""Pilothouse's own API under /api/v1; errors have the same form as the vendor's wire, for one kind of client code."""
