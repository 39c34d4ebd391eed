"""What happens to all bytes of a listener, whatever they are: they pass, they stand still, or the line is cut."""

import asyncio
import contextlib
import itertools
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tools.localcluster.faults.rules import ConnectionCut

_TRIES = 20
_TRY_AGAIN_SECONDS = 0.05
#: Which word after both addresses is the socket's inode: proc(5), /proc/net/tcp.
_INODE = 6
#: Processes that were found before.
_senders: set[int] = set()

State = Literal["pass", "freeze", "cut"]


class Flow:
    """The state of one listener's line."""

    def __init__(self) -> None:
        self.latency = 0.0
        self._state: State = "pass"
        self._changed = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()

    def set(self, state: State, *, latency: float) -> None:
        """``freeze``: bytes wait in both directions; ``cut``: open connections are reset and new ones closed."""
        self.latency = latency
        self._state = state
        self._changed.set()
        self._changed = asyncio.Event()
        if state == "cut":
            for writer in list(self._writers):
                reset(writer)

    async def gate(self) -> None:
        """Return when bytes may pass; raise ConnectionCut when they never will."""
        while self._state == "freeze":
            await self._changed.wait()
        if self._state == "cut":
            raise ConnectionCut

    def add(self, writer: asyncio.StreamWriter) -> None:
        """Add a connection, which ends with the line."""
        self._writers.add(writer)

    def discard(self, writer: asyncio.StreamWriter) -> None:
        """Forget a connection that has ended."""
        self._writers.discard(writer)


def reset(writer: asyncio.StreamWriter) -> None:
    """Close at once; what was not sent yet is lost."""
    transport = writer.transport
    if not transport.is_closing():
        transport.abort()


class DelayLine:
    """Bytes come out in order, each piece ``latency`` seconds after it went in, as on a long wire."""

    def __init__(self, writer: asyncio.StreamWriter, flow: Flow) -> None:
        self._writer = writer
        self._flow = flow
        self._pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=256)

    async def put(self, data: bytes) -> None:
        """Send ``data``, later."""
        await self._pieces.put((time.monotonic() + self._flow.latency, data))

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            due, data = await self._pieces.get()
            wait = due - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            await self._flow.gate()
            self._writer.write(data)
            await self._writer.drain()


@dataclass(frozen=True)
class Sender:
    """A process and its parent; 0 for what cannot be told."""

    pid: int = 0
    parent: int = 0


async def sender_of(writer: asyncio.StreamWriter) -> Sender:
    """Return the process at the other end of a loopback connection."""
    peer, own = writer.get_extra_info("peername"), writer.get_extra_info("sockname")
    for _ in range(_TRIES if peer else 0):
        # The kernel's table is read in pieces while it changes, and may miss a line.
        sender = await asyncio.to_thread(_sender, peer[1], own[1])
        if sender.pid or writer.transport.is_closing():
            return sender
        await asyncio.sleep(_TRY_AGAIN_SECONDS)
    return Sender()


def _sender(port: int, to: int) -> Sender:
    link = _link(port, to)
    if not link:
        return Sender()
    # First those that have connected before, then the youngest: looking at every process is slow.
    everyone = sorted((int(one.name) for one in Path("/proc").iterdir() if one.name.isdecimal()), reverse=True)
    for pid in itertools.chain(_senders & set(everyone), everyone):
        if _holds(pid, link):
            _senders.add(pid)
            with contextlib.suppress(OSError):
                return Sender(pid, int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]))
    return Sender()


def _link(port: int, to: int) -> str:
    """How a descriptor of the socket from that port to the other reads; empty when the kernel names none.

    Both count: a port is used again, for another way, while what used it before is still listed.
    """
    here = f"{int.from_bytes(socket.inet_aton('127.0.0.1'), 'little'):08X}"
    _, found, rest = Path("/proc/net/tcp").read_text().partition(f": {here}:{port:04X} {here}:{to:04X} ")
    return f"socket:[{rest.split(None, _INODE + 1)[_INODE]}]" if found else ""


def _holds(pid: int, link: str) -> bool:
    with contextlib.suppress(OSError):  # gone, or somebody else's
        return any(_target(one) == link for one in Path(f"/proc/{pid}/fd").iterdir())
    return False


def _target(descriptor: Path) -> str:
    with contextlib.suppress(OSError):  # closed since it was listed
        return str(descriptor.readlink())
    return ""
