"""Sanitising of texts for PostgreSQL: texts from Helm, clusters and charts may contain anything."""

from typing import Any


def sanitize(text: str) -> str:
    """Remove what PostgreSQL cannot store: NUL and unpaired surrogates."""
    if text.isascii() and "\x00" not in text:  # nearly all
        return text
    return text.replace("\x00", "").encode("utf-8", "ignore").decode()


def sanitize_data(data: Any) -> Any:
    """Do the same for all strings in a JSON value, including keys."""
    match data:
        case str():
            return sanitize(data)
        case dict():
            return {sanitize(str(key)): sanitize_data(value) for key, value in data.items()}
        case list() | tuple():
            return [sanitize_data(item) for item in data]
    return data
