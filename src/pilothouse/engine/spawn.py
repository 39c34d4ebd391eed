"""Start of a child, which is spawned, never forked: a forked copy of a process with threads hangs."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

from pilothouse.engine.child_options import ChildOptions
from pilothouse.engine.connections import Connections
from pilothouse.engine.deadline import SharedDeadline
from pilothouse.engine.environment import child_environment, command_line, sandbox_of
from pilothouse.engine.launcher import PROGRAM
from pilothouse.engine.process import ChildLimits, ChildProcess
from pilothouse.errors import EngineUnavailable


async def spawn_child(folder: Path, limits: ChildLimits) -> ChildProcess:
    """Start a child, which owns ``folder``, and wait until it can be called.

    Raises EngineUnavailable if it cannot start.

    Call it from a thread that lives as long as this process: the child dies with the thread that started it.
    """
    if not PROGRAM.is_file():
        raise EngineUnavailable(
            f"the engine's program {PROGRAM} is missing; build it with 'make setup', or install Pilothouse from a wheel"
        )
    ours, theirs = socket.socketpair()
    asked, asking = socket.socketpair()
    deadline_fd = SharedDeadline.create_fd()
    try:
        options = _options(limits, channel_fd=theirs.fileno(), deadline_fd=deadline_fd, connections_fd=asking.fileno())
        environment = child_environment(folder, memory_bytes=limits.memory_bytes)
        process, output = _start(options, folder, environment)
        child = ChildProcess(
            process,
            output=output,
            folder=folder,
            limits=limits,
            deadline_fd=deadline_fd,
            connections=Connections(asked, qps=limits.qps, burst=limits.burst),
        )
    except BaseException:
        ours.close()
        asked.close()
        raise
    finally:
        theirs.close()
        asking.close()
        os.close(deadline_fd)
    try:
        await child.connect(ours)
    except BaseException:
        await child.end()
        raise
    return child


def _options(limits: ChildLimits, *, channel_fd: int, deadline_fd: int, connections_fd: int) -> ChildOptions:
    return ChildOptions(
        channel_fd=channel_fd,
        deadline_fd=deadline_fd,
        connections_fd=connections_fd,
        parent_pid=os.getpid(),
        memory_bytes=limits.memory_bytes,
        file_bytes=limits.file_bytes,
        chart_unpacked_bytes=limits.charts.unpacked_bytes,
        chart_file_bytes=limits.charts.file_bytes,
        chart_files=limits.charts.files,
        chart_depth=limits.charts.depth,
        qps=limits.qps,
        burst=limits.burst,
        parallel_objects=limits.parallel_objects,
    )


def _start(
    options: ChildOptions, folder: Path, environment: dict[str, str]
) -> "tuple[subprocess.Popen[bytes], BinaryIO]":
    output = (folder / "output.log").open("a+b", buffering=0)
    try:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter, our own module
            command_line(options, sandbox_of(folder)),
            executable=sys.executable,
            env=environment,
            cwd=folder / "home",
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[options.channel_fd, options.deadline_fd, options.connections_fd],
            start_new_session=True,
        )
    except BaseException:
        output.close()
        raise
    return process, output
