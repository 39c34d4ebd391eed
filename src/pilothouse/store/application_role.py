"""The database role of API, worker and observer; its grants are in ``database_grants``."""

from typing import Final

APPLICATION: Final = "pilothouse_application"
