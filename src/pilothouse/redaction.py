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
from functools import cached_property, lru_cache
from typing import Any, Final

from ahocorasick_rs import AhoCorasick, MatchKind

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
#: Each is linear: what it scans ends where the next one may begin, and nothing is scanned back.
_SHAPES: Final = (
    ("pht-", re.compile(r"pht-[A-Za-z0-9_-]{43}")),  # our own tokens
    (
        "PRIVATE KEY-----",
        re.compile(
            r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----|\Z)"
        ),
    ),
    (  # JSON web tokens
        "eyJ",
        re.compile(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}+"),
    ),
    ("earer ", re.compile(r"(?<=earer )[A-Za-z0-9._~+/=-]{8,}+")),
    ("ignature=", re.compile(r"(?<=ignature=)[0-9A-Za-z+/=]{16,}+")),
    ("://", re.compile(r"(?<=://)[^/\s:@]++:[^/\s@]++(?=@)")),  # user and password of a URL
    # What Helm keeps in a release's Secret: gzip, in base64 once or twice, or what is left of its bytes in a text.
    ("H4sI", re.compile(r"(?<![A-Za-z0-9+/])H4sI[A-Za-z0-9+/=]{16,}+")),
    ("SDRzS", re.compile(r"(?<![A-Za-z0-9+/])SDRzS[A-Za-z0-9+/=]{16,}+")),
    ("\x1f", re.compile(r"\x1f[\x8b\ufffd]+\x08(?s:.*)")),
)
#: Longer texts are cut: nobody reads them, and they must not cost others their turn.
_LONGEST_TEXT: Final = 256 * 1024
#: So much can be known of one release; a text about one with more is withheld whole.
_MOST_FORMS: Final = 40_000
_MOST_CHARACTERS: Final = 512 * 1024  # 95 ms of building for 5,000 values of 100 characters
WITHHELD: Final = "(withheld: there is more to be masked in it than can be looked for)"
_WORD: Final = re.compile(r"[A-Za-z0-9_-]++")
#: 'password: x' and 'token=x'; for logs only, because a message for a person says 'password: missing'.
_NAMED: Final = re.compile(
    r"""(?i)((?:passw(?:or)?d|secret(?:_key)?|token|client-key-data|authorization)["']?\s*[:=]\s*["']?)([^\s"',}\]]{3,})"""
)
_KUBECONFIG: Final = re.compile(
    r"""(?:token|password|client-key-data|client-certificate-data)["']?\s*:\s*["']?([^\s"',}]+)"""
)


class Masks:
    """A set of known secrets, and the texts without them.

    All are looked for in one pass each (Aho and Corasick's automaton, and a set of words), so that the time does not
    depend on how many there are.
    """

    def __init__(self, secrets: Iterable[str] = (), *, sensitive: Iterable[str] = ()) -> None:
        """``sensitive`` ones are masked from 4 characters on, the others from 8: shorter ones are everyday words."""
        wanted = {one for one in secrets if len(one) >= _SHORTEST}
        wanted |= {one for one in sensitive if len(one) >= _SHORTEST_SENSITIVE}
        self._wanted = wanted
        self._is_too_much = len(wanted) > _MOST_FORMS or sum(map(len, wanted)) > _MOST_CHARACTERS

    @cached_property
    def _matchers(self) -> tuple[AhoCorasick | None, frozenset[str]]:
        """What is found anywhere, and what only as a word of its own; made when a text first has to be masked."""
        forms = {form for one in self._wanted for form in _forms(one)}
        words = frozenset(form for form in forms if len(form) < _LONG and _WORD.fullmatch(form))
        rest = sorted(forms - words)
        # Longest first, so that a secret inside another one does not leave the other's rest.
        return (AhoCorasick(rest, matchkind=MatchKind.LeftmostLongest) if rest else None), words

    def apply(self, text: str) -> str:
        """The text with every known secret, and whatever has a secret's shape, masked."""
        if self._is_too_much:
            return WITHHELD
        text = _cut(text)
        if self._wanted:
            anywhere, words = self._matchers
            if anywhere is not None:
                text = _without(text, anywhere.find_matches_as_indexes(text))
            if words:
                text = _WORD.sub(lambda word: MASK if word[0] in words else word[0], text)
        return _without_shapes(text)


def _without(text: str, found: list[tuple[int, int, int]]) -> str:
    """The text with what lies from start to end of each match, in order, masked."""
    pieces, end = [], 0
    for _, start, stop in found:
        pieces += [text[end:start], MASK]
        end = stop
    return "".join([*pieces, text[end:]]) if found else text


def _cut(text: str) -> str:
    if len(text) <= _LONGEST_TEXT:
        return text
    kept = text[:_LONGEST_TEXT]
    # Not in the middle of a word: half a secret is not found.
    kept = kept[: max(kept.rfind(" "), kept.rfind("\n"), 0)]
    return f"{kept}… ({len(text) - len(kept)} more characters are left out)"


def redact(text: str) -> str:
    """The text without what has the shape of a secret; one that is too long is cut."""
    return _without_shapes(_cut(text))


def _without_shapes(text: str) -> str:
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


def _redact_value(value: Any) -> Any:
    if isinstance(value, str):
        return redact_log(value)
    if isinstance(value, Mapping):
        return redact_event(value)
    if isinstance(value, list | tuple):
        return [_redact_value(one) for one in value]
    return value
