"""A way to the API server that can break."""

import contextlib
import json
import socket
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import yaml

from tests.support.servers import free_port


def forward(kubeconfig: str) -> "tuple[Forwarder, str]":
    """Return a way to the cluster, and the kubeconfig that takes it."""
    document = yaml.safe_load(kubeconfig)
    cluster = document["clusters"][0]["cluster"]
    address = urlsplit(cluster["server"])
    forwarder = Forwarder(address.hostname or "", address.port or 443)
    cluster["tls-server-name"] = cluster.get("tls-server-name") or address.hostname
    cluster["server"] = f"https://127.0.0.1:{forwarder.port}{address.path}"
    return forwarder, json.dumps(document)


class Forwarder:
    """A way to a server that can break: connections are forwarded, swallowed or refused, or get one answer."""

    def __init__(self, host: str, port: int, *, before: Callable[[bytes], None] | None = None) -> None:
        """``before`` is called with all bytes before they go on."""
        self._before = before
        self._target = (host, port)
        self._hanging = False
        self._answer = b""
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.port = free_port()
        self.resume()

    @property
    def connections(self) -> int:
        """How many came since it was last stopped."""
        return len(self._sockets) // 2

    def resume(self, *, answer: bytes = b"") -> None:
        """``answer`` is what a proxy says by itself to every connection, instead of forwarding it."""
        self._hanging = False
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._accepting = self._start(self._accept, self._listener)

    def hang(self) -> None:
        self._hanging = True

    def stop(self) -> None:
        _shut(self._listener)
        self._accepting.join(10)  # first: a connection that it has just accepted is to be shut with the others
        for one in self._sockets:
            _shut(one)
        for thread in self._threads:
            thread.join(10)
        for one in [self._listener, *self._sockets]:
            one.close()
        self._sockets, self._threads = [], []

    def _start(self, run: Callable[..., None], *arguments: Any) -> threading.Thread:
        thread = threading.Thread(target=run, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            if self._answer:
                self._sockets.append(near)
                self._start(self._say, near)
                continue
            far = socket.create_connection(self._target)
            self._sockets += [near, far]
            self._start(self._pump, near, far)
            self._start(self._pump, far, near)

    def _say(self, near: socket.socket) -> None:
        with contextlib.suppress(OSError):
            asked = b""
            while b"\r\n\r\n" not in asked and (data := near.recv(65536)):
                asked += data
            near.sendall(self._answer)
            near.shutdown(socket.SHUT_WR)

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                if self._before is not None:
                    self._before(data)
                if not self._hanging:
                    target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            return


def _shut(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
