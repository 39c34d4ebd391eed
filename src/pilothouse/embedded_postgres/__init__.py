"""The PostgreSQL server that ``pilothouse serve`` brings along."""
