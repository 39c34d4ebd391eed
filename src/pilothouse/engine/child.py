"""The child: loads the Helm library, takes one request after the other, and dies rather than outlive its parent.

Started by ``process`` as ``python -m pilothouse.engine.child OPTIONS SANDBOX``. Requests and answers go over one
socket; file descriptors 1 and 2 are a file, because the library and the Go runtime write there when they like, and a
pipe whose reader has gone would kill the process. Limits are set before the library is loaded: it reserves address
space then.
"""

import ctypes
import json
import os
import resource
import signal
import socket
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilothouse.engine.base import HEAD_LIMIT, ChildOptions, decode_request, pack_frame, read_frame
from pilothouse.engine.confinement import can_confine, confine_to_port
from pilothouse.engine.deadline import SharedDeadline, Watchdog
from pilothouse.engine.sandbox import Sandbox, leave_root, restrict
from pilothouse.engine.tunnel import Tunnel
from pilothouse.errors import HelmRefused

if TYPE_CHECKING:
    from pilothouse.engine.helm import Engine

_PR_SET_PDEATHSIG = 1


class Channel:
    """Our end of the socket; frames of several threads never mix."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._stream = self._socket.makefile("rb")
        self._lock = threading.Lock()

    def receive(self) -> tuple[dict[str, Any], bytes] | None:
        """The next request; None when the parent has closed its end."""
        return read_frame(self._stream)

    def send(self, head: dict[str, Any]) -> None:
        """Write one frame whole."""
        frame = pack_frame(head)
        with self._lock:
            self._socket.sendall(frame)


def main() -> None:
    """Serve until the parent closes the channel."""
    options, sandbox = ChildOptions(**json.loads(sys.argv[1])), Sandbox(**json.loads(sys.argv[2]))
    arm(options)
    channel = Channel(options.channel_fd)
    watchdog = Watchdog(SharedDeadline(options.deadline_fd))
    try:
        # Before the first thread: the watchdog's, the tunnel's and the library's have it from their beginning.
        restrict(sandbox)
        watchdog.start()
        tunnel = dig(options)
        # not at the top: the limits have to be in force when the library is loaded
        from pilothouse.engine import helm  # noqa: PLC0415  # loads the library: under limits only

        leave_root(sandbox, parent_pid=options.parent_pid)
        versions = helm.probe()
        engine = helm.Engine(options, tunnel)
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent has to hear of it
        channel.send({"type": "unfit", "message": f"{type(error).__name__}: {error}"})
        sys.exit(1)
    channel.send({"type": "ready", "versions": versions, **spent()})
    while (frame := channel.receive()) is not None:
        with watchdog:
            allow_cpu(frame[0]["cpu_limit_seconds"])
            answer = serve(engine, channel, *frame)
            channel.send({**answer, **spent()})


def arm(options: ChildOptions) -> None:
    """Bind this process to its parent's life and to its limits; exits when the parent is already gone."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != options.parent_pid:
        sys.exit(1)
    limit(resource.RLIMIT_AS, options.memory_bytes)
    limit(resource.RLIMIT_FSIZE, options.file_bytes)
    limit(resource.RLIMIT_CORE, 0)
    Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def dig(options: ChildOptions) -> Tunnel | None:
    """The tunnel, if there is to be one, as the only way out for the threads that are started from here on."""
    if options.tunnel_fd is None:
        return None
    listener = socket.socket(fileno=options.tunnel_fd)
    tunnel = Tunnel(listener)
    if can_confine():
        confine_to_port(listener.getsockname()[1])
    return tunnel


def limit(which: int, wanted: int) -> None:
    """Set a limit for good, or leave a stricter one that is already there."""
    hard = resource.getrlimit(which)[1]
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(which, (allowed, allowed))


def allow_cpu(seconds: int) -> None:
    """Let this process use that much CPU time in its whole life, unless its hard limit is lower."""
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (seconds if hard == resource.RLIM_INFINITY else min(seconds, hard), hard))


def serve(engine: "Engine", channel: Channel, head: dict[str, Any], body: bytes) -> dict[str, Any]:
    """The answer to one request. ``fatal`` means that this process is no longer to be trusted."""

    def send_progress(event: dict[str, Any]) -> None:
        channel.send({"type": "progress", "event": event})

    try:
        request = decode_request(head, body)
        outcome = engine.run(request, send_progress if head["progress"] else None, addresses=head["addresses"])
        answer = {"type": "outcome", "outcome": outcome}
        if len(pack_frame(answer)) > HEAD_LIMIT // 2:
            answer = {"type": "fatal", "message": "an answer too large to be read"}
    except HelmRefused as refused:
        return {"type": "refused", "kind": refused.kind, "message": str(refused)}
    except Exception as error:  # noqa: BLE001 - the parent decides what it means
        # the frames of the traceback, not the message: that may quote values
        traceback.print_tb(error.__traceback__)
        return {"type": "fatal", "message": f"{type(error).__name__} in the engine"}
    return answer


def spent() -> dict[str, Any]:
    """What this process has used up in its whole life: CPU seconds and address space in bytes."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return {"cpu_seconds": time.process_time(), "address_bytes": pages * resource.getpagesize()}


if __name__ == "__main__":
    main()
