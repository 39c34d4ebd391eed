"""Masks secrets in all texts that leave the process: logs, errors, events, crash reports.

There are two methods, because neither is sufficient. By shape: whatever looks like a token, a key or a password is
masked wherever it appears. By value: code that handles secrets knows them, and masks exactly those in texts that others
(Helm, an API server, a crash) make of them. Neither finds a secret that was transformed first, as a chart's template
can.
"""

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from functools import cached_property, lru_cache
from itertools import islice
from typing import Any, Final, Self

from ahocorasick_rs import AhoCorasick, MatchKind

MASK: Final = "***"

#: Names under which short and ordinary words are secrets, too; of names in small letters, which is eight times faster.
_SENSITIVE: Final = re.compile(
    r"passw|secret|token|credential|private|api_?key|access_?key|client-key|kubeconfig|authorization|signature|dsn$"
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
_MOST_CHARACTERS: Final = 512 * 1024
#: So much of each is looked for, and the rest compared where that is found: a certificate costs as much as a password.
_HEAD: Final = 64
#: Characters of one automaton. One takes about 5 ms to build, in which no other thread runs.
_SHARD: Final = 32 * 1024
#: Among more with the same head nothing is compared: as much is masked as the longest has.
_MOST_ALIKE: Final = 8
_FEW_VALUES: Final = 500
_FEW_CHARACTERS: Final = 16 * 1024
WITHHELD: Final = "(withheld: it has too many secrets to mask)"
_WORD: Final = re.compile(r"[A-Za-z0-9_-]++")
#: 'password: x' and 'token=x'; for logs only, because a message for a person says 'password: missing'.
NAMES: Final = r"(?:passw(?:or)?d|secret(?:_key)?|token|client-key-data|authorization)"
_NAMED: Final = re.compile(rf"""(?i)({NAMES}["']?\s*[:=]\s*["']?)([^\s"',}}\]]{{3,}})""")
_KUBECONFIG: Final = re.compile(
    r"""(?:token|password|client-key-data|client-certificate-data)["']?\s*:\s*["']?([^\s"',}]+)"""
)


class Masks:
    """A set of known secrets, and a filter for texts.

    All are searched in a few passes (Aho-Corasick automata, and a set of words), so that the time does not depend on
    their number.
    """

    def __init__(self, secrets: Iterable[str] = (), *, sensitive: Iterable[str] = ()) -> None:
        """Mask ``sensitive`` secrets from 4 characters on, others from 8: shorter ones are common words."""
        self._wanted = {secret for secret in secrets if len(secret) >= _SHORTEST}
        self._wanted |= {secret for secret in sensitive if len(secret) >= _SHORTEST_SENSITIVE}

    @cached_property
    def _matchers(self) -> "_Matchers | None":
        """The matchers for secrets anywhere, and for whole words; None for too many secrets. Built on first use."""
        forms: set[str] = set()
        for secret in self._wanted:
            for form in _forms(secret):
                forms.add(form)
                if len(forms) > _MOST_FORMS:
                    return None
        return _matchers(forms)

    @property
    def ready(self) -> bool:
        """True if the next text needs no preparation."""
        return not self._wanted or "_matchers" in self.__dict__

    def prepare(self) -> Self:
        """Build now what the first text would build, which may take 100 ms; return this object."""
        if self._wanted:
            _ = self._matchers
        return self

    def on_several_lines(self) -> Iterator[list[str]]:
        """Yield the lines of each secret that has more than one."""
        stripped = (secret.strip() for secret in self._wanted)
        yield from (secret.split("\n") for secret in stripped if "\n" in secret)

    @property
    def withholds(self) -> bool:
        """True if there are too many secrets to search for, so that every text is withheld."""
        return bool(self._wanted) and self._matchers is None

    def apply(self, text: str) -> str:
        """Return the text with every known secret, and whatever has a secret's shape, masked."""
        text = _cut(text)
        if self._wanted:
            if self._matchers is None:
                return WITHHELD
            text = _hide(text, *self._matchers)
        return _without_shapes(text)


class Compared:
    """One text that is compared with the data of Secrets, in portions.

    No automaton is built of data that is not in the text: eight characters that are nowhere in it rule it out.
    """

    def __init__(self, text: str) -> None:
        """Take a text without secrets recognisable by shape at its end."""
        self._text = _cut(text)
        self._short, self._long = (
            {self._text[start : start + size] for start in range(len(self._text) - size + 1)}
            for size in (_SHORTEST_SENSITIVE, _SHORTEST)
        )

    def hide(self, *data: Mapping[str, Any]) -> bool:
        """Mask the values of these Secrets' ``data``; return True if all could be searched for."""
        forms: set[str] = set()
        for secret in _decoded(*data):
            if len(secret) >= _SHORTEST_SENSITIVE:
                forms.update(form for form in _forms(secret) if self._may_have(form))
        if len(forms) > _MOST_FORMS or (matchers := _matchers(forms)) is None:
            return False
        self._text = _hide(self._text, *matchers)
        return True

    def text(self) -> str:
        """Return the masked text."""
        return _without_shapes(self._text)

    def _may_have(self, form: str) -> bool:
        if len(form) < _SHORTEST:
            return form[:_SHORTEST_SENSITIVE] in self._short
        return form[:_SHORTEST] in self._long


class _Shard:
    """An automaton of the first characters of secrets, and the secrets that start with them."""

    def __init__(self, prefixes: list[str], alike: Mapping[str, list[str]]) -> None:
        self._secrets = [alike[head] for head in prefixes]
        # Longest first, so that a secret inside another one does not leave the other's rest.
        self._automaton = AhoCorasick(prefixes, matchkind=MatchKind.LeftmostLongest)

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield the spans of secrets, or of more than the head of one."""
        end = 0
        for which, start, stop in self._automaton.find_matches_as_indexes(text):
            if stop > end:
                secrets = self._secrets[which]
                lengths = (
                    map(len, secrets) if len(secrets) > _MOST_ALIKE else (_shared(text, start, s) for s in secrets)
                )
                end = max(stop, min(start + max(lengths), len(text)))
                yield start, end


#: What is found anywhere, and what only as a word of its own.
_Matchers = tuple[list[_Shard], frozenset[str]]


def _matchers(forms: set[str]) -> _Matchers | None:
    """Return matchers for the forms; None if there are too many."""
    words = frozenset(form for form in forms if len(form) < _LONG and _WORD.fullmatch(form))
    alike: dict[str, list[str]] = {}
    for form in forms - words:
        alike.setdefault(form[:_HEAD], []).append(form)
    if sum(map(len, alike)) > _MOST_CHARACTERS:
        return None
    return [_Shard(prefix_group, alike) for prefix_group in _portions(alike)], words


def _hide(text: str, shards: list[_Shard], words: frozenset[str]) -> str:
    text = _without(text, sorted(span for shard in shards for span in shard.spans(text)))
    return _WORD.sub(lambda word: MASK if word[0] in words else word[0], text) if words else text


def _portions(prefixes: Iterable[str]) -> Iterator[list[str]]:
    portion: list[str] = []
    size = 0
    for head in prefixes:
        if size + len(head) > _SHARD:
            yield portion
            portion, size = [], 0
        portion.append(head)
        size += len(head)
    if portion:
        yield portion


def _shared(text: str, start: int, secret: str) -> int:
    """Return how many characters of the secret are in the text from ``start`` on."""
    least, most = 0, min(len(secret), len(text) - start)
    while least < most:
        middle = (least + most + 1) // 2
        if text.startswith(secret[least:middle], start + least):
            least = middle
        else:
            most = middle - 1
    return least


def _without(text: str, spans: list[tuple[int, int]]) -> str:
    """Return the text with the spans, which are in order and may overlap, masked."""
    pieces, end = [], 0
    for start, stop in spans:
        if start >= end:
            pieces += [text[end:start], MASK]
        end = max(end, stop)
    return "".join([*pieces, text[end:]]) if spans else text


def _cut(text: str) -> str:
    if len(text) <= _LONGEST_TEXT:
        return text
    kept = text[:_LONGEST_TEXT]
    # Not in the middle of a word: half a secret is not found.
    kept = kept[: max(kept.rfind(" "), kept.rfind("\n"), 0)]
    return f"{kept}… ({len(text) - len(kept)} more characters omitted)"


def redact(text: str) -> str:
    """Return the text with whatever has the shape of a secret masked; a text that is too long is cut."""
    return _without_shapes(_cut(text))


def _without_shapes(text: str) -> str:
    for mark, shape in _SHAPES:
        if mark in text:
            text = shape.sub(MASK, text)
    return text


def redact_log(text: str) -> str:
    """Return the text with secrets masked by shape, by name, and the context's known secrets."""
    known = _KNOWN.get()
    return redact_named(known.apply(text) if known is not None else text)


def redact_named(text: str) -> str:
    """Return the text with secrets masked by shape or name."""
    text = redact(text)
    return _NAMED.sub(rf"\1{MASK}", text) if ":" in text or "=" in text else text


def redact_event(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return a log event with secrets masked at any depth; any value under a sensitive name is masked."""
    return {
        name: MASK if _is_sensitive_field(name) and not isinstance(value, int) else _redact_value(value)
        for name, value in event.items()
    }


@lru_cache(maxsize=256)
def _is_sensitive_field(name: object) -> bool:
    return _SENSITIVE_FIELD.search(str(name)) is not None


_KNOWN: ContextVar[Masks | None] = ContextVar("known_secrets", default=None)


def hide_from_log(masks: Masks) -> None:
    """Mask these secrets too in the log of this task from now on, and of tasks that it starts."""
    _KNOWN.set(masks)


def masks_of(
    *,
    values: Mapping[str, Any] | None = None,
    merged_values: Mapping[str, Any] | None = None,
    kubeconfig: str = "",
    public: Iterable[str] = (),
) -> Masks:
    """Collect the secrets of a release (its values and the cluster's credentials), except the strings in ``public``.

    Every string among the ``values`` counts, and every number of eight digits and more; under a name like ``password``
    shorter ones, too. Of ``merged_values``, where the chart's defaults are mostly common words, only the latter.
    """
    ordinary: set[str] = set()
    sensitive = set(_KUBECONFIG.findall(kubeconfig))
    _collect(values or {}, ordinary, sensitive)
    _collect(merged_values or {}, set(), sensitive)
    known = set(public)
    return Masks(ordinary - known, sensitive=sensitive - known)


def has_few(*values: Any) -> bool:
    """Return True if masks of these values take a millisecond to prepare, which is not worth the wait for a thread."""
    waiting, room, left = list(values), _FEW_CHARACTERS, _FEW_VALUES
    while waiting and room >= 0 and left >= 0:
        node = waiting.pop()
        if isinstance(node, Mapping):
            waiting += islice(node.values(), left + 1)
            room -= sum(map(len, islice(node, left + 1)))
        elif isinstance(node, list | tuple):
            waiting += node[: left + 1]
        else:
            room -= len(node) if isinstance(node, str) else 0
        left -= 1
    return not waiting and room >= 0 and left >= 0


def masks_of_data(*data: Mapping[str, Any], plain: Iterable[Mapping[str, Any]] = ()) -> Masks:
    """Collect the values of Kubernetes Secrets: of their ``data``, which are base64, and of their ``stringData``."""
    return Masks(sensitive={*_decoded(*data), *(str(value) for section in plain for value in section.values())})


def _decoded(*data: Mapping[str, Any]) -> Iterator[str]:
    for value in (value for section in data for value in section.values()):
        try:
            yield base64.b64decode(str(value), validate=True).decode()
        except (ValueError, UnicodeDecodeError):
            yield str(value)


def _collect(values: Any, ordinary: set[str], sensitive: set[str]) -> None:
    waiting: list[tuple[Any, bool]] = [(values, False)]
    while waiting:
        node, is_named = waiting.pop()
        if isinstance(node, Mapping):
            for name, inner in node.items():
                if not _PUBLIC.fullmatch(str(name)) or not isinstance(inner, str):
                    waiting.append((inner, is_named or bool(_SENSITIVE.search(str(name).casefold()))))
        elif isinstance(node, list | tuple):
            waiting += [(inner, is_named) for inner in node]
        elif node is not None and not isinstance(node, bool):
            (sensitive if is_named else ordinary).add(str(node))


def _forms(secret: str) -> Iterator[str]:
    """Yield the forms of a secret in a text: unchanged, line by line, quoted, and in base64 as in a Secret."""
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
        return [_redact_value(item) for item in value]
    return value
