"""Where in the text of values the errors are that Helm tells of: its words name values, not lines."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import yaml

from pilothouse.console.texts import Texts, gettext, gettext_noop
from pilothouse.services.releases.value_layers import DEEPEST

_Loader: Final[Any] = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
#: What the layer of a form is called in errors.
LAYER: Final = "values"
_SYNTAX: Final = re.compile(rf"^{LAYER}, line (\d+), column (\d+): (.*)", re.DOTALL | re.MULTILINE)
#: What Helm's reader of YAML, and the reader of JSON that it has, say in front of what is wrong.
_READERS: Final = re.compile(
    r"(?:cannot unmarshal yaml document: )?(?:error converting YAML to JSON: |error unmarshaling JSON: )?"
    r"(?:while decoding JSON: )?(?:yaml: (?:line \d+: )?|json: )?"
)
_NO_MAPPING: Final = re.compile(r"cannot unmarshal (\w+) into Go value of type map\[string\].*", re.DOTALL)
#: What a text is that is no mapping, by Go's word for it.
_KINDS: Final = Texts({
    "array": gettext_noop("it is a list, and values are names with what each is, as “replicas: 2”"),
    "bool": gettext_noop("it is yes or no alone, and values are names with what each is, as “replicas: 2”"),
    "number": gettext_noop("it is a number alone, and values are names with what each is, as “replicas: 2”"),
    "string": gettext_noop("it is a text alone, and values are names with what each is, as “replicas: 2”"),
})  # fmt: skip
_OF_SCHEMA: Final = "values don't meet the specifications of the schema"
_CHART: Final = re.compile(r"([^\s:]+):")
#: Without the layer at its end, which is the form's own text or what is below it.
_AT: Final = re.compile(r"\s*- at '([^']*)': (.+?)(?: \(set by [^()]*\))?")
_MOST: Final = 100
#: A text that is longer is searched for its errors by people.
_LONGEST: Final = 512 * 1024
Path = tuple[str, ...]


@dataclass(frozen=True)
class ValueProblem:
    """An error in the values, at the line of what it is about, or of what holds that; both count from 1."""

    line: int
    column: int
    text: str


def locate_problems(said: str, text: str, *, chart_name: str) -> list[ValueProblem]:
    """Return the errors of values that the server's words tell of, by line; none if they tell of something else."""
    if syntax := _SYNTAX.search(said):
        return [ValueProblem(int(syntax[1]), int(syntax[2]), _reword(syntax[3]))]
    if _OF_SCHEMA not in said:
        return []
    places = list(_parse_problems(said, chart_name))[:_MOST]
    marks = _find_marks(text, {path[:length] for path, _ in places for length in range(1, len(path) + 1)})
    found = [ValueProblem(*_nearest(path, marks), problem) for path, problem in places]
    return sorted(found, key=lambda problem: (problem.line, problem.column))


def may_tell_lines(said: str) -> bool:
    """Return False for words that tell of no error in the values."""
    return "\n" in said or said.startswith(LAYER)


def _reword(said: str) -> str:
    """Return what a reader says without the names of what it is made of."""
    what = _READERS.sub("", said, count=1)
    kind = _NO_MAPPING.fullmatch(what)
    if kind is not None and kind[1] in _KINDS:
        return _KINDS[kind[1]]
    return gettext("not valid YAML: %(problem)s", problem=what) if what != said else said


def _parse_problems(said: str, chart_name: str) -> Iterator[tuple[Path, str]]:
    """Yield the path of each value that Helm names with what is wrong there; those of a subchart are below its name."""
    below: Path = ()
    for line in said.splitlines():
        if problem := _AT.fullmatch(line):
            pointer = problem[1].split("/")[1:]
            path = (*below, *(key.replace("~1", "/").replace("~0", "~") for key in pointer))
            name = ".".join(path)
            yield path, f"{name}: {problem[2]}" if name else problem[2]
        elif chart := _CHART.fullmatch(line.strip()):
            below = () if chart[1] == chart_name else (chart[1],)


def _nearest(path: Path, marks: dict[Path, tuple[int, int]]) -> tuple[int, int]:
    while path and path not in marks:
        path = path[:-1]
    return marks.get(path, (1, 1))


def _find_marks(text: str, wanted: set[Path]) -> dict[Path, tuple[int, int]]:
    """Return line and column of the keys and items that are wanted; nothing of a text that is no YAML."""
    marks: dict[Path, tuple[int, int]] = {}
    if not wanted or len(text) > _LONGEST:
        return marks
    place = _Location(max(map(len, wanted)))
    try:
        for event in yaml.parse(text, Loader=_Loader):
            if isinstance(event, yaml.NodeEvent):
                path, mark = place.enter(event), event.start_mark
                if place.depth > DEEPEST:
                    return marks
                if mark is not None and path in wanted and path not in marks:
                    marks[path] = (mark.line + 1, mark.column + 1)
            elif isinstance(event, yaml.CollectionEndEvent):
                place.leave()
            elif isinstance(event, yaml.DocumentEndEvent):
                break
    except yaml.YAMLError:
        return {}
    return marks


class _Location:
    """Where in a document its events are."""

    def __init__(self, longest: int) -> None:
        """``longest``: of the paths that are asked for; others are not built."""
        self._longest = longest
        self._path: list[str] = []
        #: Of each open collection: the index of its next item, or None for a mapping; and whether a key has been read.
        self._open: list[tuple[int | None, bool]] = []

    @property
    def depth(self) -> int:
        """The number of open collections."""
        return len(self._open)

    def enter(self, event: Any) -> Path:
        """Return the path of a key or item; an empty one for the value of a key, and for the document itself."""
        is_named = self._begin(event)
        path = tuple(self._path) if is_named and len(self._path) <= self._longest else ()
        if isinstance(event, yaml.CollectionStartEvent):
            self._open.append((0 if isinstance(event, yaml.SequenceStartEvent) else None, False))
        else:
            self._end(is_key=is_named and self._in_mapping())
        return path

    def leave(self) -> None:
        """Leave a collection."""
        self._open.pop()
        self._end(is_key=False)

    def _in_mapping(self) -> bool:
        return bool(self._open) and self._open[-1][0] is None

    def _begin(self, event: Any) -> bool:
        if not self._open:
            return False
        index, has_key = self._open[-1]
        if index is not None:
            self._path.append(str(index))
            self._open[-1] = (index + 1, False)
            return True
        if has_key:
            return False
        self._path.append(event.value if isinstance(event, yaml.ScalarEvent) else "?")
        return True

    def _end(self, *, is_key: bool) -> None:
        """End a key, or the value of one, or an item."""
        if not self._open:
            return
        index, has_key = self._open[-1]
        if (index is None and not has_key and is_key) or (index is None and not has_key):
            self._open[-1] = (None, True)
        else:
            if self._path:
                self._path.pop()
            self._open[-1] = (index, False)
