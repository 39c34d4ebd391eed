"""The PostgreSQL server bundled with ``pilothouse serve``."""
