"""Which layer of a request set a value that the schema of a chart refuses, and in which line.

Helm names the value only, and by then the layers are one.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

from pilothouse.engine.protocol import ValuesLayer

_Loader: Final[Any] = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
#: How Helm's validator names a value, by its JSON pointer, and what it says of it.
_REFUSED: Final = re.compile(r"\s*- at '(?P<pointer>(?:[^'\\]|\\.)*)': (?P<why>.*)")
_CHART: Final = re.compile(r"([a-z0-9][a-z0-9._-]*):")
_NAME: Final = re.compile(r"'([^'\\]{1,200})'")
_SET: Final = re.compile(r"(?:^|,)\s*((?:[^,=\\]|\\.)+)=")
_SET_PART: Final = re.compile(r"\[(\d+)\]|((?:[^.\[\\]|\\.)+)")
#: Nobody reads more.
_MOST: Final = 20
_LONGEST: Final = 64 * 1024
#: The limit of a request's own JSON is less.
_DEEPEST: Final = 200

Path = tuple[str, ...]


@dataclass(frozen=True)
class _Location:
    """A value in a layer; ``where`` names both, ``whole``: it is a mapping, which another layer only adds to."""

    where: str
    whole: bool


def locate_in_layers(text: str, layers: Sequence[ValuesLayer]) -> str:
    """Return a schema's errors, each with the layers that the value is from. Takes as long as reading the layers.

    They stand below the name of their chart. Only the first can be that of the chart itself, whose values are at the
    top; those of a subchart are below its name.
    """
    if not layers or len(text) > _LONGEST:
        return text
    found, lines, left = [_Layer(layer) for layer in layers], [], _MOST
    charts: list[str] = []
    for line in text.split("\n"):
        if chart := _CHART.fullmatch(line):
            charts.append(chart[1])
        refused = _REFUSED.fullmatch(line) if left else None
        places: list[str] = []
        if refused:
            path, why = _path(refused["pointer"]), refused["why"]
            places = _places((*charts[-1:], *path), why, found)
            if not places and len(charts) <= 1:
                places = _places(path, why, found)
        left -= bool(places)
        lines.append(f"{line} (set by {' and '.join(places)})" if places else line)
    return "\n".join(lines)


def _places(path: Path, why: str, layers: "list[_Layer]") -> list[str]:
    """Return where the value is from: the last layer that has it, or all that add to it if it is a mapping.

    What is said of a mapping mostly names a key in it, which is what somebody has to change.
    """
    keys = [(*path, name) for name in _NAME.findall(why)]
    named = [place for key in keys for place in _winning(key, layers)]
    return list(dict.fromkeys(place.where for place in named or _winning(path, layers)))


def _winning(path: Path, layers: "list[_Layer]") -> list[_Location]:
    found: list[_Location] = []
    for layer in layers:
        place = layer.find(path)
        if place is not None:
            found = [*found, place] if place.whole and all(location.whole for location in found) else [place]
    return found


class _Layer:
    """One layer; what is in it is read once."""

    def __init__(self, layer: ValuesLayer) -> None:
        self._layer = layer
        self._documents: list[yaml.Node] = []
        self._set: list[Path] = []
        try:
            if layer.kind == "yaml":
                self._documents = _compose(layer.text)
            elif layer.kind == "object" or (layer.kind == "set_json" and layer.text.lstrip().startswith("{")):
                self._set = list(_leaves(json.loads(layer.text), ()))
            else:
                self._set = [_set_path(key) for key in _SET.findall(layer.text)]
        except (yaml.YAMLError, ValueError, RecursionError):
            return  # it has been read by Helm, which knows better

    def find(self, path: Path) -> _Location | None:
        """Return where the layer sets the value, or a part of it; None if it does not."""
        if not path:
            whole = bool(self._documents or self._set)
            return _Location(self._layer.name, whole=True) if whole else None
        for document in reversed(self._documents):
            if (node := _descend(document, path)) is not None:
                where = f"{self._layer.name}, line {node.start_mark.line + 1}"
                return _Location(where, whole=isinstance(node, yaml.MappingNode))
        below = [one for one in self._set if one[: len(path)] == path or path[: len(one)] == one]
        return _Location(self._layer.name, whole=len(below[-1]) > len(path)) if below else None


def _compose(text: str) -> list[yaml.Node]:
    """Return the documents; none of a text so deep that libyaml would end the process."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            return []
    return [node for node in yaml.compose_all(text, Loader=_Loader) if node is not None]


def _descend(node: yaml.Node, path: Path) -> yaml.Node | None:
    for part in path:
        if isinstance(node, yaml.MappingNode):
            below = [value for key, value in node.value if isinstance(key, yaml.ScalarNode) and key.value == part]
        elif isinstance(node, yaml.SequenceNode) and part.isdecimal():
            below = node.value[int(part) : int(part) + 1]
        else:
            return None
        if not below:
            return None
        node = below[-1]
    return node


def _leaves(value: Any, path: Path) -> Iterator[Path]:
    if isinstance(value, dict) and value:
        for key, below in value.items():
            yield from _leaves(below, (*path, key))
    elif path:
        yield path


def _set_path(key: str) -> Path:
    parts = _SET_PART.findall(key)
    return tuple(index or re.sub(r"\\(.)", r"\1", name.strip()) for index, name in parts)


def _path(pointer: str) -> Path:
    unquoted = re.sub(r"\\(.)", r"\1", pointer)
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in unquoted.split("/")[1:])
