"""The way out of an engine child: to one server, for one operation, whole and in order."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest

from pilothouse.engine.confinement import can_confine
from pilothouse.engine.tunnel import THIS_MACHINE, Tunnel

BULK = bytes(range(256)) * 64 * 1024  # 16 MiB: more than every buffer on the way


@pytest.fixture(scope="session")
def tunnel() -> Tunnel:
    """One for all tests: a tunnel has no end but its process's."""
    return Tunnel(socket.create_server(("127.0.0.1", 0)))


@contextmanager
def server(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that gives every connection to ``serve``; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    serve(connection)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def echo(connection: socket.socket) -> None:
    while piece := connection.recv(65536):
        connection.sendall(piece)


def kubeconfig(port: int, host: str = "api.example.test") -> str:
    return json.dumps({"clusters": [{"cluster": {"server": f"https://{host}:{port}/path"}}]})


def ask(tunnel: Tunnel, head: str) -> socket.socket:
    connection = socket.create_connection(tunnel._listener.getsockname(), timeout=20)
    connection.sendall(head.encode())
    return connection


def connect(tunnel: Tunnel, target: str) -> socket.socket:
    connection = ask(tunnel, f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n")
    expected = b"HTTP/1.1 200 OK\r\n\r\n"
    assert connection.recv(len(expected), socket.MSG_WAITALL) == expected
    return connection


def answer(tunnel: Tunnel, head: str) -> str:
    with ask(tunnel, head) as connection:
        said = b""
        while piece := connection.recv(4096):
            said += piece
    return said.decode()


def send(connection: socket.socket, data: bytes) -> threading.Thread:
    """Sends in a thread, and ends that direction; ``connection`` is the thread's own."""

    def run() -> None:
        with connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def read_all(connection: socket.socket) -> bytes:
    pieces = []
    while piece := connection.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


def test_both_directions_at_once_arrive_whole_and_end(tunnel: Tunnel):
    with (
        server(echo) as port,
        tunnel.leading(kubeconfig(port), ["127.0.0.1"]),
        connect(tunnel, f"api.example.test:{port}") as connection,
    ):
        sender = send(connection.dup(), BULK)
        assert read_all(connection) == BULK
        sender.join()


def test_a_reader_that_pauses_holds_up_nobody_else(tunnel: Tunnel):
    senders = []

    def serve(connection: socket.socket) -> None:
        senders.append(send(connection.dup(), BULK))

    with server(serve) as port, tunnel.leading(kubeconfig(port), ["127.0.0.1"]):
        target = f"api.example.test:{port}"
        with connect(tunnel, target) as slow, connect(tunnel, target) as quick:
            assert slow.recv(1) == BULK[:1]
            assert read_all(quick) == BULK
            assert read_all(slow) == BULK[1:]
    for sender in senders:
        sender.join()


@pytest.mark.parametrize(
    "head",
    [
        "CONNECT elsewhere.example.test:{port} HTTP/1.1\r\n\r\n",
        "CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n",
        "CONNECT api.example.test:1 HTTP/1.1\r\n\r\n",
        "CONNECT  HTTP/1.1\r\n\r\n",
        "GET http://169.254.169.254/ HTTP/1.1\r\n\r\n",
        "\r\n\r\n",
    ],
)
def test_everything_but_the_server_is_refused(tunnel: Tunnel, head: str):
    with server(echo) as port, tunnel.leading(kubeconfig(port), ["127.0.0.1"]):
        said = answer(tunnel, head.format(port=port))
    assert said.startswith("HTTP/1.1 502 ")
    assert "the API server sends us to another address, which is not followed" in said


def test_it_leads_nowhere_between_operations(tunnel: Tunnel):
    with server(echo) as port:
        with tunnel.leading(kubeconfig(port), ["127.0.0.1"]):
            pass
        said = answer(tunnel, f"CONNECT api.example.test:{port} HTTP/1.1\r\n\r\n")
    assert said.startswith("HTTP/1.1 502 dial tcp ")


def test_a_connection_goes_on_serving_operations_of_its_server(tunnel: Tunnel):
    with server(echo) as port:
        with tunnel.leading(kubeconfig(port), ["127.0.0.1"]):
            connection = connect(tunnel, f"api.example.test:{port}")
        with closing(connection), tunnel.leading(kubeconfig(port), ["127.0.0.1", "127.0.0.9"]):
            connection.sendall(b"still here")
            assert connection.recv(100) == b"still here"


@pytest.mark.parametrize(("host", "address"), [("other.example.test", "127.0.0.1"), ("api.example.test", "127.0.0.9")])
def test_a_connection_ends_when_the_next_operation_leads_elsewhere(tunnel: Tunnel, host: str, address: str):
    with server(echo) as port:
        with tunnel.leading(kubeconfig(port), ["127.0.0.1"]):
            connection = connect(tunnel, f"api.example.test:{port}")
        with closing(connection), tunnel.leading(kubeconfig(port, host), [address]):
            assert connection.recv(100) == b""


def test_an_address_that_refuses_is_followed_by_the_next(tunnel: Tunnel):
    with server(echo) as port, tunnel.leading(kubeconfig(port), ["127.255.255.254", "127.0.0.1"]):
        connect(tunnel, f"api.example.test:{port}").close()


def test_nobody_there_is_said_in_the_words_of_gos_dialer(tunnel: Tunnel):
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with tunnel.leading(kubeconfig(port), ["127.0.0.1"]):
        said = answer(tunnel, f"CONNECT api.example.test:{port} HTTP/1.1\r\n\r\n")
    assert said == f"HTTP/1.1 502 dial tcp api.example.test:{port}: connect: connection refused\r\n\r\n"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_a_server_on_this_machine_gets_a_name_that_proxies_are_used_for(tunnel: Tunnel, host: str):
    with tunnel.leading(kubeconfig(6443, host), ["127.0.0.1"]) as text:
        cluster = json.loads(text)["clusters"][0]["cluster"]
        assert cluster == {
            "server": f"https://{THIS_MACHINE}:6443/path",
            "tls-server-name": host.strip("[]"),
        }
        assert tunnel.restore(f'Get "{cluster["server"]}": EOF') == f'Get "https://{host}:6443/path": EOF'


def test_a_name_of_its_own_for_tls_stays(tunnel: Tunnel):
    document = json.loads(kubeconfig(6443, "localhost"))
    document["clusters"][0]["cluster"]["tls-server-name"] = "kubernetes"
    with tunnel.leading(json.dumps(document), ["127.0.0.1"]) as text:
        assert json.loads(text)["clusters"][0]["cluster"]["tls-server-name"] == "kubernetes"


CONFINED = """
import socket, threading
from pilothouse.engine.confinement import confine_to_port
allowed, other = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
free = threading.Event()
results = {}
def reach(name, port):
    try:
        socket.create_connection(("127.0.0.1", port)).close()
        results[name] = "reached"
    except OSError as error:
        results[name] = type(error).__name__
def before():
    free.wait()
    reach("older thread, other port", other.getsockname()[1])
older = threading.Thread(target=before)
older.start()
confine_to_port(allowed.getsockname()[1])
free.set()
older.join()
reach("allowed port", allowed.getsockname()[1])
reach("other port", other.getsockname()[1])
newer = threading.Thread(target=reach, args=("newer thread, other port", other.getsockname()[1]))
newer.start()
newer.join()
print(results)
"""


@pytest.mark.skipif(not can_confine(), reason="this kernel has no Landlock rules for TCP (Linux 6.7 has)")
def test_a_confined_thread_reaches_one_port(tmp_path):
    done = subprocess.run([sys.executable, "-c", CONFINED], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == str(
        {
            "older thread, other port": "reached",
            "allowed port": "reached",
            "other port": "PermissionError",
            "newer thread, other port": "PermissionError",
        }
    )
