"""What must not leave is masked in every text that does: logs, errors, events, crash reports.

Two ways, because neither is enough. By shape: what looks like a token, a key or a password is masked wherever it
stands. By value: whoever handles secrets knows them, and masks exactly those in the texts that others (Helm, an API
server, a crash) make of them. A text that transforms a secret first, as a chart's template can, is beyond both.
"""

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, Final

MASK: Final = "***"

#: Names under which short and ordinary words are secrets, too.
_SENSITIVE: Final = re.compile(
    r"(?i)passw|secret|token|credential|private|api_?key|access_?key|client-key|kubeconfig|authorization|signature|dsn$"
)
#: From here on a value is masked wherever it occurs; a shorter one only as a word of its own.
_LONG: Final = 12
_SHORTEST: Final = 8
_SHORTEST_SENSITIVE: Final = 4
#: A log event's own fields; numbers under such names are counts.
_SENSITIVE_FIELD: Final = re.compile(
    r"(?i)passw|secret|(?:^|_)token$|private|kubeconfig|authorization|signature|^values$|dsn$"
)
#: Values under these names become names of objects, which stand in every text about them.
_PUBLIC: Final = re.compile(r"(?i)(?:full)?name(?:override)?")
#: What a text must hold for a shape to be looked for, and the shape. The look costs next to nothing; logs are many.
_SHAPES: Final = (
    ("pht-", re.compile(r"pht-[A-Za-z0-9_-]{43}")),  # our own tokens
    (
        "PRIVATE KEY-----",
        re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)"),
    ),
    ("eyJ", re.compile(r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}")),  # JSON web tokens
    ("earer ", re.compile(r"(?<=earer )[A-Za-z0-9._~+/=-]{8,}")),
    ("ignature=", re.compile(r"(?<=ignature=)[0-9A-Za-z+/=]{16,}")),
    ("://", re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)")),  # user and password of a URL
)
#: 'password: x' and 'token=x'; for logs only, because a message for a person says 'password: missing'.
_NAMED: Final = re.compile(
    r"""(?i)((?:passw(?:or)?d|secret(?:_key)?|token|client-key-data|authorization)["']?\s*[:=]\s*["']?)([^\s"',}\]]{3,})"""
)
_KUBECONFIG: Final = re.compile(
    r"""(?:token|password|client-key-data|client-certificate-data)["']?\s*:\s*["']?([^\s"',}]+)"""
)


class Masks:
    """A set of known secrets, and the texts without them."""

    def __init__(self, secrets: Iterable[str] = (), *, sensitive: Iterable[str] = ()) -> None:
        """``sensitive`` ones are masked from 4 characters on, the others from 8: shorter ones are everyday words."""
        wanted = {one for one in secrets if len(one) >= _SHORTEST}
        wanted |= {one for one in sensitive if len(one) >= _SHORTEST_SENSITIVE}
        forms = {form for one in wanted for form in _forms(one)}
        # Longest first, so that a secret inside another one does not leave the other's rest.
        ordered = sorted(forms, key=lambda form: (-len(form), form))
        self._pattern = re.compile("|".join(_as_pattern(form) for form in ordered)) if ordered else None

    def apply(self, text: str) -> str:
        """The text with every known secret, and whatever has a secret's shape, masked."""
        return redact(self._pattern.sub(MASK, text) if self._pattern is not None else text)


def redact(text: str) -> str:
    """The text without what has the shape of a secret."""
    for mark, shape in _SHAPES:
        if mark in text:
            text = shape.sub(MASK, text)
    return text


def redact_log(text: str) -> str:
    """The text without what has the shape or the name of a secret, or is one of the context's known secrets."""
    known = _KNOWN.get()
    return redact_named(known.apply(text) if known is not None else text)


def redact_named(text: str) -> str:
    """The text without what has the shape or the name of a secret."""
    text = redact(text)
    return _NAMED.sub(rf"\1{MASK}", text) if ":" in text or "=" in text else text


def redact_event(event: Mapping[str, Any]) -> dict[str, Any]:
    """A log event without secrets, at any depth; what has a sensitive name is masked whatever it is."""
    return {
        name: MASK if _is_sensitive_field(name) and not isinstance(value, int) else _redact_value(value)
        for name, value in event.items()
    }


@lru_cache(maxsize=256)
def _is_sensitive_field(name: object) -> bool:
    return _SENSITIVE_FIELD.search(str(name)) is not None


_KNOWN: ContextVar[Masks | None] = ContextVar("known_secrets", default=None)


def hide_from_log(masks: Masks) -> None:
    """In this task from now on, and in tasks that begin in it, the log masks these too."""
    _KNOWN.set(masks)


def masks_of(
    *,
    values: Mapping[str, Any] | None = None,
    merged_values: Mapping[str, Any] | None = None,
    kubeconfig: str = "",
    public: Iterable[str] = (),
) -> Masks:
    """The secrets of a release: what its values say, but for the words that are ``public`` anyway, and its cluster's.

    Every text among the ``values`` counts, and every number of eight digits and more; under a name like ``password``
    shorter ones, too. Of ``merged_values``, where the chart's defaults are mostly everyday words, only the latter.
    """
    ordinary: set[str] = set()
    sensitive = set(_KUBECONFIG.findall(kubeconfig))
    _collect(values or {}, ordinary, sensitive)
    _collect(merged_values or {}, set(), sensitive)
    known = set(public)
    return Masks(ordinary - known, sensitive=sensitive - known)


def masks_of_data(data: Mapping[str, Any]) -> Masks:
    """The values of a Kubernetes Secret's ``data``, which are base64."""
    found = set()
    for value in data.values():
        try:
            found.add(base64.b64decode(str(value), validate=True).decode())
        except (ValueError, UnicodeDecodeError):
            found.add(str(value))
    return Masks(sensitive=found)


def _collect(values: Any, ordinary: set[str], sensitive: set[str]) -> None:
    waiting: list[tuple[Any, bool]] = [(values, False)]
    while waiting:
        one, is_named = waiting.pop()
        if isinstance(one, Mapping):
            for name, inner in one.items():
                if not _PUBLIC.fullmatch(str(name)) or not isinstance(inner, str):
                    waiting.append((inner, is_named or bool(_SENSITIVE.search(str(name)))))
        elif isinstance(one, list | tuple):
            waiting += [(inner, is_named) for inner in one]
        elif one is not None and not isinstance(one, bool):
            (sensitive if is_named else ordinary).add(str(one))


def _forms(secret: str) -> Iterator[str]:
    """How a secret can stand in a text: as it is, line by line, quoted, and in base64 as in a Secret."""
    yield secret
    yield json.dumps(secret)[1:-1]
    yield base64.b64encode(secret.encode(errors="surrogatepass")).decode()
    stripped = secret.strip()
    if len(stripped) >= _SHORTEST_SENSITIVE:
        yield stripped
    if "\n" in stripped:
        yield from (line.strip() for line in stripped.splitlines() if len(line.strip()) >= _SHORTEST)


def _as_pattern(form: str) -> str:
    escaped = re.escape(form)
    return escaped if len(form) >= _LONG else rf"(?<![A-Za-z0-9_-]){escaped}(?![A-Za-z0-9_-])"


def _redact_value(value: Any) -> Any:
    if isinstance(value, str):
        return redact_log(value)
    if isinstance(value, Mapping):
        return redact_event(value)
    if isinstance(value, list | tuple):
        return [_redact_value(one) for one in value]
    return value
