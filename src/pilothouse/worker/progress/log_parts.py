"""Parts of a log that can be masked by themselves, while more of it is to come.

What a mask finds only as a whole must not be shown as a half: lines that may be the beginning of a secret wait for what
comes next, and what is left of a secret that has begun is masked, in however many parts it comes.
"""

import re
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from pilothouse.kubernetes.pods import KEY_BEGIN, KEY_END, shown_lines, without_escapes
from pilothouse.redaction import MASK, NAMES, WITHHELD, Masks

#: Of one part, which becomes one row; and of a log, after which no more of it is told.
MOST_LINES_AT_ONCE: Final = 400
MOST_BYTES_AT_ONCE: Final = 24 * 1024
MOST_LINES: Final = 2000
MOST_BYTES: Final = 128 * 1024
_LONGEST_LINE: Final = 1000
#: Where a name of a secret may begin, the value of which is on the next line.
_LONGEST_NAME: Final = 200
_NAME_AT_END: Final = re.compile(rf"""(?i){NAMES}["']?\s*+(?:[:=]\s*+["']?)?\Z""")
_BINARY_BEGIN: Final = re.compile(r"\x1f[\x8b\ufffd]+\x08")


@dataclass
class Room:
    """For how many more lines, and bytes of them, there is room."""

    lines: int = MOST_LINES
    size: int = MOST_BYTES

    def has(self, line: bytes) -> bool:
        """Return whether there is room for the line."""
        return self.lines > 0 and self.size > len(line)

    def spend(self, line: bytes) -> None:
        """Take the room of the line."""
        self.lines -= 1
        self.size -= len(line) + 1


class LogParts:
    """One log as it comes: within its limits and those of all logs together, after which it is cut."""

    def __init__(self, of_all: Room) -> None:
        self._rooms = Room(), of_all
        self._pending: deque[bytes] = deque()
        self._opening = ""
        self._ended = False
        self.is_cut = False

    def add(self, lines: Iterable[bytes]) -> None:
        """Add the next lines, as far as there is room for them."""
        for line in lines:
            if self.is_cut or not all(room.has(line) for room in self._rooms):
                self.is_cut = True
                return
            for room in self._rooms:
                room.spend(line)
            self._pending.append(line)

    def end(self) -> None:
        """Note that nothing comes any more: what waited for more is whole."""
        self._ended = True

    @property
    def is_waiting(self) -> bool:
        """True if lines were added that were not taken."""
        return bool(self._pending)

    def take(self, masks: Sequence[Masks], starts: "SecretStarts") -> list[str]:
        """Return the next lines without secrets; none if what there is has to wait for what comes next."""
        while texts := self._next(starts):
            if shown := self._without_secrets(texts, masks):
                return shown
        return []

    def _next(self, starts: "SecretStarts") -> list[str]:
        texts, size = list[str](), 0
        for line in self._pending:
            size += len(line)
            if texts and (len(texts) == MOST_LINES_AT_ONCE or size > MOST_BYTES_AT_ONCE):
                break
            texts.append(without_escapes(line.decode(errors="replace")))
        whole = self._ended and not self.is_cut and len(texts) == len(self._pending)
        held = 0 if whole else starts.held(texts)
        if held == len(texts) < len(self._pending):
            held = 0  # as long as that no secret is; each longer line of one is masked by itself
        if held:
            del texts[-held:]
        for _ in texts:
            self._pending.popleft()
        return texts

    def _without_secrets(self, texts: list[str], masks: Sequence[Masks]) -> list[str]:
        opening = self._opening
        if opening:
            texts = [opening, *texts]
        self._opening = _opened(text := "\n".join(texts))
        shown = shown_lines(
            text.encode(errors="replace").split(b"\n"), masks, longest=_LONGEST_LINE, room=4 * MOST_BYTES_AT_ONCE
        )
        if shown == [WITHHELD]:
            self.is_cut = True
            self._pending.clear()
        return shown[1:] if opening and shown and shown[0] == MASK else shown


class SecretStarts:
    """How the known secrets that go over several lines begin."""

    def __init__(self, masks: Iterable[Masks]) -> None:
        self._secrets = [lines for each in masks for lines in each.on_several_lines()]
        self._firsts = tuple({lines[0] for lines in self._secrets})
        self._places: dict[str, list[tuple[int, int]]] = {}
        for which, lines in enumerate(self._secrets):
            for at, line in enumerate(lines[1:-1], 1):
                self._places.setdefault(line, []).append((which, at))

    def held(self, texts: Sequence[str]) -> int:
        """Return how many of the last lines may belong to a secret that goes on with the next line."""
        if not texts:
            return 0
        held = 1 if self._firsts and texts[-1].endswith(self._firsts) else 0
        for which, at in self._places.get(texts[-1], ()):
            if at < len(texts) and self._is_start(texts, self._secrets[which], at):
                held = max(held, at + 1)
        end = "\n".join(texts[-_LONGEST_NAME:])[-_LONGEST_NAME:]
        if found := _NAME_AT_END.search(end):
            held = max(held, end.count("\n", found.start()) + 1)
        return held

    @staticmethod
    def _is_start(texts: Sequence[str], lines: Sequence[str], at: int) -> bool:
        """Return whether the texts end with the secret's lines up to the one at ``at``."""
        inner = all(texts[-1 - back] == lines[at - back] for back in range(at))
        return inner and texts[-1 - at].endswith(lines[0])


def _opened(text: str) -> str:
    """Return how a secret begins of which the text lacks the end: put before the rest it is masked; else empty."""
    if binary := _BINARY_BEGIN.search(text):
        return binary[0]
    begins = list(KEY_BEGIN.finditer(text))
    return begins[-1][0] if begins and not KEY_END.search(text, begins[-1].end()) else ""
