"""The YAML of charts, parsed to the values that Helm sees, at bounded cost.

Helm reads YAML with ``sigs.k8s.io/yaml``: YAML 1.1 as ``go.yaml.in/yaml/v2`` resolves it, converted to JSON and read
back, so that every number is a 64-bit float, every key a string, and a date stays text. PyYAML's own rules differ
(``y``, ``1e3``, ``0o17``, ``1:30``, dates, ``<<``), so only its event stream is used and the scalars are resolved here
by the Go rules. Working on events also bounds the cost: depth, nodes and text are counted as they come, and an alias is
charged with everything that it refers to, so a bomb is refused before it is built.

Known differences to Helm, all stricter: tags other than those of JSON's types, ``%TAG`` lines, and documents over the
limits below.
"""

import base64
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import yaml

from pilothouse.errors import InvalidChart

_DEPTH = 100
#: The largest known values files have about 5,000; libyaml and we need about 5 µs for each.
_NODES = 100_000
#: A release Secret of 1 MiB can hold, packed, the manifest of many objects.
_MANIFEST_NODES = 250_000
#: Each costs a new parser.
_DOCUMENTS = 1000
_SEPARATOR = re.compile(r"^---(.*)$", re.MULTILINE)

_CORE = "tag:yaml.org,2002:"
_SCALAR_TAGS = frozenset({"str", "int", "float", "bool", "null"})
_WORDS: dict[str, Any] = {
    word: value
    for value, words in (
        (True, "y Y yes Yes YES true True TRUE on On ON"),
        (False, "n N no No NO false False FALSE off Off OFF"),
        (None, "~ null Null NULL"),
        (float("nan"), ".nan .NaN .NAN"),
        (float("inf"), ".inf .Inf .INF +.inf +.Inf +.INF"),
        (float("-inf"), "-.inf -.Inf -.INF"),
    )
    for word in words.split()
} | {"": None}
_INTEGER = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]?([0-7]+)|(0|[1-9][0-9]*))", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_INT64_DIGITS = 20
_EXACT = 2**63

_Loader: Any = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader


def read_document(data: bytes, *, file: str, max_bytes: int) -> Any:
    """Return the first document with its numbers as written (int or float); InvalidChart names file and line."""
    return _Builder(file=file, max_bytes=max_bytes).build(_decode(data, file=file), first_line=1)


def read_values(data: bytes, *, file: str, max_bytes: int) -> dict[str, Any]:
    """Return the mapping that a template sees as ``.Values``; documents separated by ``---`` are merged as Helm does.

    ``max_bytes`` limits the text with every alias expanded. InvalidChart names file and line.
    """
    values: dict[str, Any] = {}
    builder = _Builder(file=file, max_bytes=max_bytes, as_json=True)
    for text, first_line in _documents(_decode(data, file=file), file=file):
        document = builder.build(text, first_line=first_line)
        if document is None:
            continue
        if not isinstance(document, dict):
            raise InvalidChart(f"{file}: line {first_line}: must be a mapping of names to values")
        values = _merge(values, document)
    return values


def read_objects(data: bytes, *, file: str, max_bytes: int) -> list[dict[str, Any]]:
    """Return the mappings among the documents of a rendered manifest, in order; InvalidChart names the line."""
    builder = _Builder(file=file, max_bytes=max_bytes, max_nodes=_MANIFEST_NODES)
    documents = [
        builder.build(text, first_line=first_line)
        for text, first_line in _documents(_decode(data, file=file), file=file)
    ]
    return [document for document in documents if isinstance(document, dict)]


def go_text(value: float | bool) -> str:  # noqa: FBT001  # the value, no switch
    """Convert a number or boolean where Helm wants text: ``1.10`` becomes ``1.1``, ``yes`` becomes ``true``.

    Floats pass through 32 bits (``strconv.FormatFloat(value, 'g', -1, 32)`` in ``sigs.k8s.io/yaml``).
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    short = _single(value)
    if short - short != 0:
        return {"nan": ".nan", "inf": ".inf", "-inf": "-.inf"}[str(short)]
    scientific = next(text for digits in range(9) if _single(float(text := f"{short:.{digits}e}")) == short)
    mantissa, exponent = scientific.split("e")
    if -4 <= int(exponent) < 6:  # noqa: PLR2004  # bounds of %g
        places = max(0, len(mantissa.lstrip("-").replace(".", "")) - 1 - int(exponent))
        return f"{float(scientific):.{places}f}"
    return scientific


def _single(value: float) -> float:
    """Return the nearest 32-bit float; infinite if there is none."""
    return float(struct.unpack("f", struct.pack("f", value))[0])


def _decode(data: bytes, *, file: str) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidChart(f"{file}: not UTF-8 text (byte {error.start})") from None
    # libyaml compares each %TAG line with all before it: a file of them would stop the process for minutes.
    if text.startswith("%TAG") or "\n%TAG" in text or "\r%TAG" in text:
        raise InvalidChart(f"{file}: %TAG lines are not accepted")
    return text


def _documents(text: str, *, file: str) -> Iterator[tuple[str, int]]:
    """Split at lines that start with ``---``, before any YAML is parsed, as Kubernetes' YAMLReader does."""
    start, first_line, documents = 0, 1, 0
    for separator in _SEPARATOR.finditer(text):
        line = first_line + text.count("\n", start, separator.start())
        rest = separator[1].strip()
        if rest and not rest.startswith("#"):
            raise InvalidChart(f"{file}: line {line}: nothing but a comment may follow '---'")
        if separator.start() > start:
            documents += 1
            if documents > _DOCUMENTS:
                raise InvalidChart(f"{file}: line {line}: more than {_DOCUMENTS} documents, the limit")
            yield text[start : separator.start()], first_line
            start, first_line = separator.end() + 1, line + 1
    yield text[start:] + "\n", first_line


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        merged[key] = _merge(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return merged


@dataclass
class _Frame:
    """A list or mapping under construction, and the cost when it began."""

    value: Any
    anchor: str | None
    nodes: int
    spent: int
    key: Any = None
    has_key: bool = False
    height: int = 0


@dataclass(frozen=True)
class _Anchored:
    """An anchored value and the cost of each alias of it: nodes, text, levels of nesting."""

    value: Any
    nodes: int
    spent: int
    height: int


@dataclass
class _Builder:
    """Builds one document at a time; the limits apply to all of them together."""

    file: str
    max_bytes: int
    max_nodes: int = _NODES
    as_json: bool = False
    nodes: int = 0
    spent: int = 0
    first_line: int = 1
    stack: list[_Frame] = field(default_factory=list)
    anchors: dict[str, _Anchored | None] = field(default_factory=dict)

    def build(self, text: str, *, first_line: int) -> Any:
        """Return the text's first document, None if it has none."""
        self.first_line = first_line
        self.stack, self.anchors = [_Frame([], None, 0, 0)], {}
        try:
            for event in yaml.parse(text, Loader=_Loader):
                self._take(event)
                if isinstance(event, yaml.DocumentEndEvent):
                    break
        except yaml.MarkedYAMLError as error:
            line = f"line {error.problem_mark.line + first_line}: " if error.problem_mark else ""
            raise InvalidChart(f"{self.file}: {line}{error.problem or 'not valid YAML'}") from None
        except yaml.YAMLError:
            raise InvalidChart(f"{self.file}: holds characters that YAML does not allow") from None
        root = self.stack[0].value
        return root[0] if root else None

    def _take(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.ScalarEvent):
            value, spent = self._scalar(event), len(event.value) + 2
            self._charge(event, 1, spent)
            if event.anchor:
                self.anchors[event.anchor] = _Anchored(value, 1, spent, 0)
            self._put(value, event)
        elif isinstance(event, yaml.AliasEvent):
            self._repeat(event)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self._open(event)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            frame = self.stack.pop()
            if frame.anchor:
                self.anchors[frame.anchor] = _Anchored(
                    frame.value, self.nodes - frame.nodes, self.spent - frame.spent, frame.height + 1
                )
            self._put(frame.value, event, height=frame.height + 1)

    def _repeat(self, event: yaml.AliasEvent) -> None:
        name = event.anchor or ""
        anchored = self.anchors.get(name)
        if anchored is None:
            problem = "holds itself" if name in self.anchors else "is unknown"
            raise self._invalid(event, f"the alias *{name} {problem}")
        self._charge(event, anchored.nodes, anchored.spent)
        self._check_depth(event, len(self.stack) - 1 + anchored.height)
        self._put(anchored.value, event, height=anchored.height)

    def _open(self, event: Any) -> None:
        kind = "map" if isinstance(event, yaml.MappingStartEvent) else "seq"
        if event.tag not in (None, "!", _CORE + kind):
            raise self._invalid(event, f"the tag {event.tag!r} is not accepted")
        self._check_depth(event, len(self.stack))
        frame = _Frame({} if kind == "map" else [], event.anchor, self.nodes, self.spent)
        self._charge(event, 1, 2)
        if event.anchor:
            self.anchors[event.anchor] = None
        self.stack.append(frame)

    def _put(self, value: Any, event: yaml.Event, *, height: int = 0) -> None:
        frame = self.stack[-1]
        frame.height = max(frame.height, height)
        if isinstance(frame.value, list):
            frame.value.append(self._as_json(value, event))
        elif not frame.has_key:
            merges = isinstance(event, yaml.ScalarEvent) and value == "<<" and event.implicit[0]
            frame.key, frame.has_key = (None if merges else self._key(value, event)), True
        else:
            frame.has_key = False
            if frame.key is not None:
                frame.value[frame.key] = self._as_json(value, event)
            else:
                self._merge_key(frame.value, value, event)

    def _merge_key(self, target: dict[str, Any], value: Any, event: yaml.Event) -> None:
        """Apply ``<<``: it overrides the keys before it and is overridden by those after it, as in the Go library."""
        sources = reversed(value) if isinstance(value, list) else [value]
        for source in sources:
            if not isinstance(source, dict):
                raise self._invalid(event, "'<<' must be a mapping or a list of mappings")
            target.update(source)

    def _key(self, value: Any, event: yaml.Event) -> str:
        if isinstance(value, str):
            return value
        if value is None or isinstance(value, dict | list) or (isinstance(value, int) and value >= _EXACT):
            raise self._invalid(event, "a key must be text, a number or a boolean")
        return go_text(value)

    def _scalar(self, event: yaml.ScalarEvent) -> Any:
        tag = event.tag
        if tag is None:
            return resolve(event.value) if event.implicit[0] else event.value
        if tag == "!":
            return event.value
        name = tag.removeprefix(_CORE)
        if tag == _CORE + "binary":
            return self._binary(event)
        if name not in _SCALAR_TAGS or name == tag:
            raise self._invalid(event, f"the tag {tag!r} is not accepted")
        if name == "str":
            return event.value
        value = resolve(event.value)
        kind = "null" if value is None else type(value).__name__
        if kind != name and (kind, name) != ("int", "float"):
            raise self._invalid(event, f"{event.value[:20]!r} is no {name}")
        return value

    def _binary(self, event: yaml.ScalarEvent) -> str:
        """Return the bytes as text, as Helm gets them through Go's YAML and JSON."""
        packed = event.value.replace("\r", "").replace("\n", "")
        try:
            return base64.b64decode(packed, validate=True).decode(errors="replace")
        except ValueError:
            raise self._invalid(event, "!!binary value contains invalid base64 data") from None

    def _as_json(self, value: Any, event: yaml.Event) -> Any:
        """Return a number as Helm's round trip through JSON leaves it: whole ones as int, others as float."""
        if not self.as_json or type(value) not in (int, float):
            return value
        number = float(value)
        if number - number != 0:
            raise self._invalid(event, "JSON has no infinity and no NaN")
        if not number.is_integer() or abs(number) >= 2 * _EXACT:
            return number
        # Go prints the shortest digits that read back as the same float, then zeros.
        whole = int(Decimal(repr(number)))
        return whole if -_EXACT <= whole < 2 * _EXACT else number

    def _charge(self, event: yaml.Event, nodes: int, spent: int) -> None:
        self.nodes += nodes
        self.spent += spent
        if self.nodes > self.max_nodes:
            raise self._invalid(event, f"more than {self.max_nodes} values with every alias expanded, the limit")
        if self.spent > self.max_bytes:
            raise self._invalid(event, f"more than {self.max_bytes} bytes with every alias expanded, the limit")

    def _check_depth(self, event: yaml.Event, depth: int) -> None:
        if depth > _DEPTH:
            raise self._invalid(event, f"nested more than {_DEPTH} deep, the limit")

    def _invalid(self, event: yaml.Event, problem: str) -> InvalidChart:
        line = event.start_mark.line if event.start_mark else 0
        return InvalidChart(f"{self.file}: line {line + self.first_line}: {problem}")


def resolve(text: str) -> Any:
    """Return the value of a plain scalar in the Go library: None, bool, int, float or str."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "+-.0123456789":
        return text
    if text[0] != ".":
        text_digits = text.replace("_", "")
        number = _integer(text_digits)
        if number is not None:
            return number
    else:
        text_digits = text
    if _FLOAT.fullmatch(text_digits):
        value = float(text_digits)
        return value if value - value == 0 else text
    return text


def _integer(digits: str) -> int | None:
    """Parse a signed 64-bit or, without sign, an unsigned 64-bit integer in any of Go's bases."""
    matched = _INTEGER.fullmatch(digits)
    if matched is None:
        return None
    sign, hexadecimal, binary, octal, decimal = matched.groups()
    if decimal is not None:
        if len(decimal) > _INT64_DIGITS:
            return None
        value = int(decimal)
    else:
        value = int(hexadecimal or binary or octal, 16 if hexadecimal else 2 if binary else 8)
    if sign == "-":
        return -value if value <= _EXACT else None
    return value if value < (_EXACT if sign else 2 * _EXACT) else None
