"""What a file of tests leaves behind is an error of that file, whatever the others do: a plugin of ``conftest``.

Child processes, threads and listening sockets that outlive it, and what warns when it is collected. Session fixtures
keep what they make. It is no conftest, whose hooks do not see the session's fixtures.
"""

import gc
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

_OF_SESSION = pytest.StashKey[frozenset["Leftover"]]()
#: What ends by itself may take as long; only a file that leaves something costs this time.
_SECONDS = 5.0
_LISTEN = "0A"  # TCP_LISTEN in /proc/net/tcp
_ACCEPTS = 0x10000  # __SO_ACCEPTCON in /proc/net/unix


@dataclass(frozen=True)
class Leftover:
    """One thing that outlives the test that made it; equal when it is the same one."""

    kind: str
    number: int
    name: str = field(compare=False)

    def __str__(self) -> str:
        return f"{self.kind} {self.number} ({self.name})"


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.stash[_OF_SESSION] = held()


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, Any, Any]:
    if fixturedef.scope != "session":
        return (yield)
    before = held()
    try:
        return (yield)
    finally:
        request.config.stash[_OF_SESSION] |= held() - before


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the file that leaves a process, a thread, a listener, or something that warns when it is collected.

    The collector runs while this file can still be blamed: pytest makes an error of its last test's teardown from what
    is reported by then. It looks only at what came to be in this file, beside thousands of tests and their modules.
    """
    gc.freeze()
    of_this_file: list[object] = []
    yield
    # Not by gc.get_freeze_count, which walks through all that is frozen: a tenth of a second each time.
    if not any(one is of_this_file for one in gc.get_objects()):
        gc.unfreeze()  # an application's lifespan in this process has frozen what lives
    gc.collect()
    left = remaining(request.config.stash[_OF_SESSION], seconds=_SECONDS)
    # A leftover is told once, not of every later file too.
    request.config.stash[_OF_SESSION] |= frozenset(left)
    assert not left, f"{request.path.name} left behind: {', '.join(map(str, left))}"


def held() -> frozenset[Leftover]:
    """Return what this process holds now: child processes, non-daemon threads and listening sockets."""
    return frozenset([*_children(), *_threads(), *_listeners()])


def remaining(known: frozenset[Leftover], *, seconds: float) -> list[Leftover]:
    """Return what is held besides ``known``, once it is nothing or has not ended in time."""
    until = time.monotonic() + seconds
    while (found := held() - known) and time.monotonic() < until:
        time.sleep(0.02)
    return sorted(found, key=str)


def _children() -> list[Leftover]:
    found = []
    for listed in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):  # the thread or the child has ended
            for pid in map(int, listed.read_text().split()):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found.append(Leftover("child process", pid, words.strip() or "ended, but nobody has waited for it"))
    return found


def _threads() -> list[Leftover]:
    running = (one for one in threading.enumerate() if one is not threading.main_thread() and not one.daemon)
    return [Leftover("thread", one.ident or 0, one.name) for one in running]


def _listeners() -> list[Leftover]:
    own = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            target = str(descriptor.readlink())
            if target.startswith("socket:["):
                own.add(int(target[len("socket:[") : -1]))
    return [Leftover("listening socket", inode, name) for inode, name in _listening().items() if inode in own]


def _listening() -> dict[int, str]:
    """Return the inode and the address of each listening socket of this network namespace."""
    found = {}
    for table in ("tcp", "tcp6"):
        for line in _lines(f"/proc/net/{table}"):
            words = line.split()
            if words[3] == _LISTEN:
                found[int(words[9])] = f"port {int(words[1].rpartition(':')[2], 16)}"
    for line in _lines("/proc/net/unix"):
        words = line.split(maxsplit=7)
        if int(words[3], 16) & _ACCEPTS:
            found[int(words[6])] = words[7] if len(words) > 7 else "unnamed"
    return found


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()[1:]
    except OSError:  # this kernel has no such table
        return []
