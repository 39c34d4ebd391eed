"""Pilothouse's native API under /api/v1; errors have the same form as the vendor's, so clients can share code."""
