"""Sanitising of texts for PostgreSQL: texts from Helm, clusters and charts may contain anything."""

from typing import Any


def storable(text: str) -> str:
    """Remove what PostgreSQL cannot store: NUL and unpaired surrogates."""
    return text.replace("\x00", "").encode("utf-8", "ignore").decode()


def storable_data(data: Any) -> Any:
    """Do the same for all strings in a JSON value, including keys."""
    match data:
        case str():
            return storable(data)
        case dict():
            return {storable(str(key)): storable_data(value) for key, value in data.items()}
        case list() | tuple():
            return [storable_data(one) for one in data]
    return data
