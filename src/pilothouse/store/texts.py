"""Texts as PostgreSQL takes them. What Helm, a cluster or a chart says may hold anything, and is kept all the same."""

from typing import Any


def storable(text: str) -> str:
    """The text without what PostgreSQL cannot hold: NUL, and halves of pairs of surrogates."""
    return text.replace("\x00", "").encode("utf-8", "ignore").decode()


def storable_data(data: Any) -> Any:
    """The same for everything that is text in a JSON value, the keys included."""
    match data:
        case str():
            return storable(data)
        case dict():
            return {storable(str(key)): storable_data(value) for key, value in data.items()}
        case list() | tuple():
            return [storable_data(one) for one in data]
    return data
