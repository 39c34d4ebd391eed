"""Values that somebody gives and the chart's defaults do not have: most likely misspelt, and then without effect."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

#: Helm gives it to subcharts, whatever the chart has.
_GLOBAL: Final = "global"
#: How alike two names are, from 0 to 1.
_LIKE: Final = 0.75
_MOST: Final = 20
_LONGEST: Final = 100


@dataclass(frozen=True)
class UnknownValue:
    """A value that was given, by its path; ``like``: the name beside it that the defaults have, if one is alike."""

    path: str
    like: str


def find_unknown(
    layers: Sequence[Mapping[str, Any]], defaults: Mapping[str, Any], computed: Mapping[str, Any], *, schema: Any
) -> list[UnknownValue]:
    """Return the values that neither the chart's defaults nor its schema name.

    ``computed``: what all comes to; what is below the name of a subchart has more there than was given. Below the top
    only names are told that are like one of the defaults: many a mapping takes any name.
    """
    found = [value for values in layers for value in _walk(values, defaults, computed, schema, ())]
    return list(dict.fromkeys(found))[:_MOST]


def _walk(
    values: Mapping[str, Any],
    defaults: Mapping[str, Any],
    computed: Mapping[str, Any],
    schema: Any,
    at: tuple[str, ...],
) -> Iterator[UnknownValue]:
    properties = schema.get("properties") if isinstance(schema, dict) else None
    known = properties if isinstance(properties, dict) else {}
    for key, value in values.items():
        if key in defaults:
            below, more = defaults[key], computed.get(key)
            if isinstance(value, dict) and isinstance(below, dict) and below and isinstance(more, dict):
                yield from _walk(value, below, more, known.get(key), (*at, key))
            continue
        is_ours = key in known or (not at and (key == _GLOBAL or _has_more(computed.get(key), value)))
        like = next(iter(get_close_matches(key[:_LONGEST], [*defaults, *known], n=1, cutoff=_LIKE)), "")
        if not is_ours and (like or not at) and value is not None:
            yield UnknownValue(".".join((*at, key)), like)


def _has_more(computed: Any, value: Any) -> bool:
    """Return whether a subchart has added its defaults to what was given for it."""
    return isinstance(computed, dict) and isinstance(value, dict) and computed.keys() - value.keys() != set()
