"""What somebody finds who has taken over an engine child: nothing of this machine, of us, and of the other children.

Nor can it reach any address but the API server's of its call, for which it has to ask us.

The attempts are made by a program that has put itself into the very sandbox of a child, with a folder from the pool.
"""

import asyncio
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from pilothouse.engine.accounts import obstacle
from pilothouse.engine.connections import Connections
from pilothouse.engine.environment import PoolFolder, sandbox_of
from pilothouse.engine.landlock import version
from pilothouse.engine.pool import EnginePool
from pilothouse.engine.protocol import RenderNameRequest
from pilothouse.engine.sandbox import Sandbox, missing_protections
from pilothouse.settings import EngineSettings

AS_ROOT = pytest.mark.skipif(bool(obstacle()), reason=f"children keep our account: {obstacle()}")
WITH_FILES = pytest.mark.skipif(not version(), reason="this kernel has no Landlock")
WITH_ALL = pytest.mark.skipif(bool(missing_protections()), reason="; ".join(missing_protections()))

_PRISONER = """
import ctypes, json, os, shutil, signal, socket, subprocess, sys, threading
from pathlib import Path
from pilothouse.engine.sandbox import Sandbox, leave_root, restrict

sandbox, tries = Sandbox(**json.loads(sys.argv[1])), json.loads(sys.argv[2])
libc = ctypes.CDLL(None, use_errno=True)

def call(number, *arguments):
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

def connect(fd, sockaddr):
    if libc.connect(fd, sockaddr, len(sockaddr)) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

def given(fd):
    return socket.socket(fileno=os.dup(fd))

def attempt(code):
    try:
        exec(code, globals())
    except OSError as error:
        return type(error).__name__ if error.errno is None else os.strerror(error.errno)
    return "done"

restrict(sandbox)
leave_root(sandbox, parent_pid=os.getppid())
results = [attempt(code) for code in tries]
threading.Thread(target=lambda: results.extend(attempt(code) for code in tries)).start()
while len(results) < 2 * len(tries):
    pass
print(json.dumps(results))
"""

LOOPBACK = socket.inet_aton("127.0.0.1")

Prison = Callable[..., list[str]]


@pytest.fixture
def folder() -> Iterator[PoolFolder]:
    with tempfile.TemporaryDirectory(prefix="pilothouse-test-") as made:
        Path(made).chmod(0o711)
        pool = PoolFolder(Path(made) / "engine", accounts=not obstacle())
        yield pool
        pool.remove()


@pytest.fixture
def own(folder: PoolFolder) -> Path:
    """Return the folder of the prisoner."""
    return folder.make_child_folder()


@pytest.fixture
def prison(own: Path) -> Prison:
    """Run attempts in the sandbox, in the first thread and in one more; return what each ended in."""

    def run(*tries: str, sandbox: Sandbox | None = None, sockets: Sequence[socket.socket] = ()) -> list[str]:
        sandbox = sandbox or sandbox_of(own)
        done = subprocess.run(
            [sys.executable, "-c", _PRISONER, json.dumps(asdict(sandbox)), json.dumps(tries)],
            pass_fds=[one.fileno() for one in sockets],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert done.returncode == 0, done.stderr
        results: list[str] = json.loads(done.stdout)
        assert results[: len(tries)] == results[len(tries) :], "a new thread has what the first lacks"
        return results[: len(tries)]

    return run


def _free(results: list[str]) -> list[int]:
    """Which attempts were not refused."""
    refusals = {"Permission denied", "Operation not permitted", "Function not implemented"}
    return [number for number, result in enumerate(results) if result not in refusals]


@WITH_FILES
def test_files_of_others_can_be_neither_read_nor_written(prison: Prison, folder: PoolFolder, own: Path, tmp_path: Path):
    data = own.parent.parent.parent / "data"
    data.mkdir(mode=0o777)
    data.chmod(0o777)
    secrets = [data / "master.key", folder.make_child_folder() / "tmp" / "kubeconfig", tmp_path / "mine"]
    for secret in secrets:
        secret.write_text("secret")
        secret.chmod(0o666)
    reads = [
        "/etc/shadow",
        "/etc/passwd",
        "/etc/hosts",
        "/etc/resolv.conf",
        f"/proc/{os.getpid()}/environ",
        "/proc/1/cmdline",
        *map(str, secrets),
    ]
    folders = [str(Path.home()), "/tmp", "/var", "/proc", str(data), str(secrets[1].parent), str(own.parent)]
    writes = [str(data / "new"), str(secrets[0]), "/tmp/new", "/dev/shm/new", f"{sys.prefix}/new", __file__]
    tries = [f"open({path!r}).read()" for path in reads]
    tries += [f"os.listdir({path!r})" for path in folders]
    tries += [f"open({path!r}, 'ab')" for path in writes]
    tries += [
        f"os.unlink({str(secrets[0])!r})",
        f"os.mkfifo({str(own / 'fifo')!r})",
        f"os.truncate({str(secrets[2])!r}, 0)",
    ]
    assert _free(prison(*tries)) == []


def test_its_own_folder_and_its_modules_are_there(prison: Prison, own: Path):
    (own / "tmp" / "before").write_text("text")
    file = str(own / "tmp" / "file")
    usable = [
        f"Path({file!r}).write_text('text'); assert Path({file!r}).read_text() == 'text'",
        f"shutil.rmtree({file!r} + '.d', ignore_errors=True); os.mkdir({file!r} + '.d')",
        f"os.rename({file!r}, {file!r} + '.d/file'); os.unlink({file!r} + '.d/file')",
        "open('/dev/null', 'w').write('x')",
        "open('/dev/urandom', 'rb').read(1)",
        "open('/proc/self/statm').read()",
        "threading.Thread(target=print, args=('',), kwargs={'end': ''}).start()",
    ]
    assert prison(*usable) == ["done"] * len(usable)


@WITH_ALL
def test_no_socket_can_be_made(prison: Prison):
    kinds = [
        "AF_INET, socket.SOCK_STREAM",
        "AF_INET6, socket.SOCK_STREAM",
        "AF_INET, socket.SOCK_DGRAM",
        "AF_INET6, socket.SOCK_DGRAM",
        "AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK",
        "AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP",
        "AF_INET, socket.SOCK_STREAM, 132",  # SCTP
        "AF_INET, socket.SOCK_STREAM, 262",  # MPTCP
        "AF_UNIX, socket.SOCK_STREAM",
        "AF_UNIX, socket.SOCK_DGRAM",
        "AF_NETLINK, socket.SOCK_RAW",
        "AF_PACKET, socket.SOCK_RAW",
        "AF_ALG, socket.SOCK_SEQPACKET",
        "AF_VSOCK, socket.SOCK_STREAM",
    ]
    tries = [f"socket.socket(socket.{kind})" for kind in kinds]
    assert _free(prison(*tries, "socket.socketpair()")) == []


@dataclass(frozen=True)
class Sockets:
    """Sockets that a child was given, ``own``: ``connected`` leads to ``server``, and ``passed`` to ``ours``."""

    server: socket.socket
    other: socket.socket
    connected: socket.socket
    free: socket.socket
    free6: socket.socket
    packets: socket.socket
    unix: socket.socket
    passed: socket.socket
    ours: socket.socket

    @property
    def own(self) -> list[socket.socket]:
        return [self.connected, self.free, self.free6, self.packets, self.unix, self.passed]


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    server, other = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
    ours, passed = socket.socketpair()
    made = Sockets(
        server=server,
        other=other,
        connected=socket.create_connection(server.getsockname()),
        free=socket.socket(),
        free6=socket.socket(socket.AF_INET6),
        packets=socket.socket(type=socket.SOCK_DGRAM),
        unix=socket.socket(socket.AF_UNIX),
        passed=passed,
        ours=ours,
    )
    yield made
    for one in (server, other, ours, *made.own):
        one.close()


@WITH_ALL
def test_no_socket_that_it_has_can_be_led_anywhere(prison: Prison, sockets: Sockets, tmp_path: Path):
    """Even the connected one: a TCP socket can be taken off its peer and connected to another one."""
    unix_server = socket.socket(socket.AF_UNIX)
    unix_server.bind(str(tmp_path / "socket"))
    unix_server.listen()
    servers = [sockets.server.getsockname(), sockets.other.getsockname()]  # its API server, and anything else
    free, free6, connected, packets = (
        one.fileno() for one in (sockets.free, sockets.free6, sockets.connected, sockets.packets)
    )
    fast_open = int(socket.MSG_FASTOPEN)
    tries = [f"given({fd}).connect({server!r})" for fd in (free, connected, packets) for server in servers]
    tries += [f"given({free}).connect(({host!r}, 80))" for host in ("169.254.169.254", "10.0.0.1", "192.0.2.1")]
    tries += [f"given({free6}).connect(('::1', {port}))" for _, port in servers]
    tries += [f"given({free6}).connect(('::ffff:127.0.0.1', {port}))" for _, port in servers]
    tries += [f"given({fd}).sendto(b'x', {fast_open}, {server!r})" for fd in (free, connected) for server in servers]
    tries += [f"given({fd}).sendmsg([b'x'], [], {fast_open}, {servers[1]!r})" for fd in (free, connected)]
    tries += [f"given({packets}).sendto(b'x', {server!r})" for server in servers]
    tries += [f"given({packets}).sendmsg([b'x'], [], 0, {server!r})" for server in servers]
    tries += [f"given({packets}).bind(('127.0.0.1', 0))", f"given({free}).bind(('127.0.0.1', 0))"]
    tries += [f"given({free}).listen()", f"given({sockets.unix.fileno()}).connect({str(tmp_path / 'socket')!r})"]
    tries += [f"given({sockets.unix.fileno()}).connect(b'\\0abstract')"]
    tries += [f"connect({connected}, {bytes(16)!r})"]  # AF_UNSPEC: takes it off its peer
    tries += [f"socket.send_fds(given({sockets.passed.fileno()}), [b'x'], [{connected}])"]
    try:
        assert _free(prison(*tries, sockets=sockets.own)) == []
    finally:
        unix_server.close()
    # What it has still leads where it led.
    sockets.other.setblocking(False)
    with pytest.raises(BlockingIOError):
        sockets.other.accept()


@pytest.mark.skipif(version() < 4, reason="this kernel's Landlock knows no network")
def test_without_a_filter_of_system_calls_tcp_is_refused_all_the_same(sockets: Sockets):
    program = (
        "import socket; from pilothouse.engine.landlock import confine_files\n"
        "confine_files(readable=[], executable=[], writable=[])\n"
        "for use in (lambda: socket.create_connection(%r), lambda: socket.socket().bind(('127.0.0.1', 0))):\n"
        "    try: use()\n"
        "    except PermissionError: print('refused')\n"
    )
    run = [sys.executable, "-c", program % (sockets.server.getsockname(),)]
    assert subprocess.run(run, capture_output=True, text=True, check=True, timeout=30).stdout.split() == ["refused"] * 2


@WITH_ALL
async def test_it_can_use_the_connection_that_it_asked_for_and_gets_no_other(prison: Prison, sockets: Sockets):
    """With a request such as ``engine/connect.go`` sends it, and with those that somebody else would like to send."""
    server, other = (one.getsockname() for one in (sockets.server, sockets.other))
    connections = Connections(sockets.ours.dup(), qps=100, burst=100)
    connections.begin(7, [server], on_misuse=lambda: None)
    asking = sockets.passed.fileno()
    request, wanted = struct.pack("!II", 7, 1), struct.pack("=HH4s8x", socket.AF_INET, socket.htons(other[1]), LOOPBACK)
    got = f"one = given(socket.recv_fds(given({asking}), 8, 4)[1][0])"
    tries = [
        f"os.write({asking}, {sent!r}); {got}; {then}"
        for sent in (request, request + wanted)
        for then in (f"os.write(one.fileno(), b'x'); assert one.getpeername() == {server!r}", f"one.connect({other!r})")
    ]
    try:
        results = await asyncio.to_thread(prison, *tries, sockets=sockets.own)
    finally:
        connections.close()
    assert results[::2] == ["done"] * 2
    assert _free(results[1::2]) == []
    sockets.other.setblocking(False)
    with pytest.raises(BlockingIOError):
        sockets.other.accept()


@WITH_ALL
def test_it_can_do_nothing_to_other_processes(prison: Prison, own: Path):
    with subprocess.Popen(["sleep", "30"], user=sandbox_of(own).user_id) as neighbour:  # of the very same account
        try:
            others = [os.getpid(), neighbour.pid]
            tries = [f"os.kill({pid}, {number})" for pid in others for number in (signal.SIGKILL, signal.SIGSTOP, 0)]
            tries += [f"libc.ptrace.restype; call(101, 16, {pid}, 0, 0)" for pid in others]  # PTRACE_ATTACH
            tries += [f"open('/proc/{pid}/mem', 'rb')" for pid in others]
            tries += [
                "call(435, 0, 0)",
                "call(272, 0x10000000)",
                "call(425, 8, 0)",
                "call(321, 0, 0, 0)",
            ]
            assert _free(prison(*tries)) == []
            assert neighbour.poll() is None
        finally:
            neighbour.kill()


@WITH_FILES
def test_no_program_can_be_started_but_the_one_that_is_given(prison: Prison, own: Path):
    copy = own / "tmp" / "copy"
    copy.write_bytes(Path("/bin/true").read_bytes())
    copy.chmod(0o755)
    programs = ["/bin/sh", "/bin/true", sys.executable, str(copy)]
    tries = [f"subprocess.run([{program!r}], check=True)" for program in programs]
    assert _free(prison(*tries)) == []
    given = Sandbox(**{**asdict(sandbox_of(own)), "executable": (os.path.realpath("/bin/true"), *_loader())})
    assert prison(tries[1], tries[0], sandbox=given) == ["done", "Permission denied"]


def _loader() -> list[str]:
    """Return the program that loads the libraries of others: a static program needs none."""
    return [os.path.realpath(path) for path in ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1")]


@AS_ROOT
def test_root_cannot_be_had_back(prison: Prison):
    tries = ["os.setuid(0)", "os.seteuid(0)", "os.setgroups([0])", "os.chown('/dev/null', 0, 0)", "os.nice(-5)"]
    tries += ["call(126, b'\\x22\\x05\\x08\\x20\\0\\0\\0\\0', b'\\xff' * 24)", "os.chroot('/')"]  # capset
    assert _free(prison(*tries)) == []


async def test_a_child_of_the_pool_is_in_it(tmp_path: Path):
    pool = EnginePool(EngineSettings(children=2), state_dir=tmp_path / "engine")
    await pool.start()
    try:
        call = RenderNameRequest(template="a-{{ 1 }}")
        assert await asyncio.gather(*(pool.run(call, deadline_seconds=30) for _ in range(2))) == ["a-1"] * 2
        async with asyncio.timeout(30):
            while len(pool._children) < 2:  # noqa: ASYNC110 - what is waited for is a process
                await asyncio.sleep(0.01)
        found = [_status(child.pid) for child in pool._children]
    finally:
        await pool.close()
    for one in found:
        assert (one["CapEff"], one["CapPrm"], one["CapAmb"]) == ("0" * 16,) * 3
        assert (one["NoNewPrivs"], one["Seccomp"]) == ("1", "2")
    if not obstacle():
        ids = {number for one in found for number in one["Uid"].split()}
        assert len(ids) == len(found), "each child has an account of its own"
        assert all(int(number) >= 61184 for number in ids)
        assert all(one["Groups"] == "" and one["Gid"] == one["Uid"] for one in found)


def _status(pid: int) -> dict[str, Any]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
