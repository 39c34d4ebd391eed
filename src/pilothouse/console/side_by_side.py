"""Two texts side by side, line by line, in groups: what differs with some lines around it, and what is folded away.

Pure functions. Comparing lines takes the square of their number in the worst case, so both are limited.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any, Final, Literal

from pilothouse.chart_archive.yaml_text import dump_yaml
from pilothouse.services.releases.plan_changes import PlannedChange

#: Lines around a difference, and the fewest that are worth a fold.
_AROUND: Final = 3
_FEWEST_FOLDED: Final = 4
#: Lines that differ, between what both texts begin and end with, which is cut off first.
_MOST_COMPARED: Final = 1500
#: Of one page: a browser is slow with more.
MOST_LINES: Final = 6000
Kind = Literal["same", "changed", "removed", "added"]


@dataclass(frozen=True)
class Line:
    """A line of either text, or of both; a number is 0, and its text empty, where there is none."""

    kind: Kind
    old_number: int = 0
    old: str = field(default="", repr=False)
    new_number: int = 0
    new: str = field(default="", repr=False)


@dataclass(frozen=True)
class Group:
    """Consecutive lines; ``folded`` ones are the same in both texts and away from what differs."""

    folded: bool
    lines: list[Line]


@dataclass(frozen=True)
class ObjectSides:
    """An object of a plan with its groups; without any, its fields tell what differs."""

    change: PlannedChange
    groups: list[Group]


def compare_planned(objects: Sequence[PlannedChange]) -> list[ObjectSides]:
    """Return the objects that change with their texts compared, while the page has room. Takes a while."""
    found, room = [], MOST_LINES
    for obj in objects:
        groups: list[Group] = []
        if room > 0 and obj.change != "unchanged":
            groups = group_lines(compare_lines(_lines(obj.old), _lines(obj.new)))
            lines = sum(len(group.lines) for group in groups)
            groups = groups if lines <= room else []
            room -= lines
        found.append(ObjectSides(obj, groups))
    return found


def _lines(document: dict[str, Any] | None) -> list[str]:
    return dump_yaml(document).splitlines() if document else []


def compare_lines(old: Sequence[str], new: Sequence[str]) -> list[Line]:
    """Return the lines of both texts, those that are the same beside each other."""
    start = _common(old, new)
    end = _common(old[start:][::-1], new[start:][::-1])
    between = old[start : len(old) - end], new[start : len(new) - end]
    found = [Line("same", index + 1, text, index + 1, text) for index, text in enumerate(old[:start])]
    for kind, (a, b), (c, d) in _blocks(*between):
        found += _pair(kind, (start + a, old[start + a : start + b]), (start + c, new[start + c : start + d]))
    return [*found, *_pair("equal", (len(old) - end, old[len(old) - end :]), (len(new) - end, new[len(new) - end :]))]


def _common(old: Sequence[str], new: Sequence[str]) -> int:
    """Return how many lines both begin with."""
    count = 0
    for before, after in zip(old, new, strict=False):
        if before != after:
            break
        count += 1
    return count


def _blocks(old: Sequence[str], new: Sequence[str]) -> Iterator[tuple[str, tuple[int, int], tuple[int, int]]]:
    if len(old) + len(new) > _MOST_COMPARED:
        yield "replace", (0, len(old)), (0, len(new))
        return
    for kind, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        yield kind, (a, b), (c, d)


def _pair(kind: str, old: tuple[int, Sequence[str]], new: tuple[int, Sequence[str]]) -> Iterator[Line]:
    (first_old, olds), (first_new, news) = old, new
    for index in range(max(len(olds), len(news))):
        was = (first_old + index + 1, olds[index]) if index < len(olds) else (0, "")
        now = (first_new + index + 1, news[index]) if index < len(news) else (0, "")
        if kind == "equal":
            yield Line("same", *was, *now)
        else:
            yield Line("changed" if was[0] and now[0] else "removed" if was[0] else "added", *was, *now)


def group_lines(lines: Sequence[Line]) -> list[Group]:
    """Return the lines in groups; those that are the same and far from what differs are folded."""
    near = [False] * len(lines)
    for index, line in enumerate(lines):
        if line.kind != "same":
            for place in range(max(0, index - _AROUND), min(len(lines), index + _AROUND + 1)):
                near[place] = True
    groups: list[Group] = []
    for line, shown in zip(lines, near, strict=True):
        if not groups or groups[-1].folded == shown:
            groups.append(Group(not shown, []))
        groups[-1].lines.append(line)
    return _unfold_short(groups)


def _unfold_short(groups: list[Group]) -> list[Group]:
    found: list[Group] = []
    for group in groups:
        folded = group.folded and len(group.lines) >= _FEWEST_FOLDED
        if found and found[-1].folded == folded:
            found[-1].lines.extend(group.lines)
        else:
            found.append(Group(folded, group.lines))
    return found
