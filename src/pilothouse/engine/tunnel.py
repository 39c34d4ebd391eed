"""The one way from the Helm library to a cluster: a proxy in the child that leads to judged addresses only.

The library resolves names by itself and follows redirects, wherever they lead. So it is started with a proxy for
everything (HTTPS_PROXY, HTTP CONNECT), which knows one destination at a time: the API server of the operation under
way, at the addresses that our parent resolved and judged. TLS goes through unopened, with the server's own name in
SNI, Host header and error texts. Who else on this machine finds the port gets no further than to that API server.

It is not the kubeconfig's ``proxy-url``: with that the library shares no connections, and every object of a chart
would cost a TLS handshake. One thread does it all: each further one would reserve address space, which the child's
limit counts. It blocks for new connections only; all lead to the same server.
"""

import contextlib
import encodings.idna  # noqa: F401 (what connecting needs: later it may lie behind a closed folder)
import ipaddress
import json
import os
import selectors
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

#: Stands for a server on loopback, which the library would reach past any proxy; RFC 2606 keeps it from resolving.
THIS_MACHINE: Final = "this-machine.invalid"

_CONNECT_SECONDS: Final = 5.0
_HEAD_SECONDS: Final = 5.0
_LONGEST_HEAD: Final = 16 * 1024
_PIECE: Final = 256 * 1024
_STACK_BYTES: Final = 512 * 1024
_ELSEWHERE: Final = "the API server sends us to another address, which is not followed"


@dataclass(frozen=True)
class _Destination:
    """Where a tunnel leads now: ``target`` is what the library asks for, ``shown`` what callers know it as."""

    target: str = ""
    shown: str = ""
    port: int = 0
    addresses: tuple[str, ...] = ()


@dataclass(eq=False)
class _End:
    """One of the two sockets of a connection, and what is still to be sent to it."""

    socket: socket.socket
    target: str
    address: str
    peer: "_End" = field(init=False)
    pending: bytes = b""
    finished: bool = False

    @property
    def events(self) -> int:
        """What there is to wait for: it is read only when its peer has taken everything."""
        reading = not self.finished and not self.peer.pending
        return (selectors.EVENT_READ if reading else 0) | (selectors.EVENT_WRITE if self.pending else 0)


class Tunnel:
    """Serves a listening socket for the life of the process; leads nowhere until it is told."""

    def __init__(self, listener: socket.socket) -> None:
        """The thread starts here: before ``confine_to_port``, so that it stays free."""
        self._listener = listener
        self._destination = _Destination()
        self._piece = memoryview(bytearray(_PIECE))
        self._wake, self._woken = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        before = threading.stack_size(_STACK_BYTES)
        threading.Thread(target=self._run, daemon=True, name="tunnel").start()
        threading.stack_size(before)

    @contextmanager
    def leading(self, kubeconfig: str, addresses: Sequence[str]) -> Iterator[str]:
        """The kubeconfig for the library while the tunnel leads to its server, at ``addresses`` and no other.

        ``kubeconfig`` is JSON with one cluster, as ``cluster.kubeconfig`` rebuilds it. Connections of an earlier
        operation are used again if they lead to the same server at one of these addresses, else they end.
        """
        document: dict[str, Any] = json.loads(kubeconfig)
        cluster = document["clusters"][0]["cluster"]
        url = urlsplit(cluster["server"])
        host, port = url.hostname or "", url.port or 443
        shown = f"{_bracketed(host)}:{port}"
        target = shown
        if _is_loopback(host):
            target = f"{THIS_MACHINE}:{port}"
            cluster["server"] = url._replace(netloc=target).geturl()
            cluster.setdefault("tls-server-name", host)
        self._lead(_Destination(target, shown, port, tuple(addresses)))
        try:
            yield json.dumps(document)
        finally:
            # No new connection from here on; open ones wait for the next operation.
            self._destination = _Destination(target, shown)

    def restore(self, text: str) -> str:
        """A text of the library with the server's name as the kubeconfig has it."""
        return text.replace(self._destination.target, self._destination.shown) if self._destination.target else text

    def _lead(self, destination: _Destination) -> None:
        self._destination = destination
        self._wake.send(b"x")

    def _run(self) -> None:
        while True:
            for key, events in self._selector.select():
                if key.fileobj is self._woken:
                    self._woken.recv(64)
                    self._end_others()
                elif key.fileobj is self._listener:
                    self._take()
                else:
                    self._serve(key.data, events)

    def _end_others(self) -> None:
        to = self._destination
        for key in list(self._selector.get_map().values()):
            end = key.data
            if end is not None and (end.target != to.target or end.address not in to.addresses):
                self._unlink(end)

    def _take(self) -> None:
        """Accepts one connection, and links it to the server if it asks for that and the server can be reached."""
        inner, _ = self._listener.accept()
        to = self._destination
        outer, address = None, ""
        try:
            inner.settimeout(_HEAD_SECONDS)
            refusal = _refusal(_read_head(inner), to.target)
            if not refusal:
                try:
                    outer, address = _connect(to)
                except OSError as error:
                    # Go's client shows the reason phrase as its own error: so these are the words of its dialer.
                    refusal = f"HTTP/1.1 502 {_dialled(to, error)}\r\n\r\n".encode()
            inner.sendall(refusal or b"HTTP/1.1 200 OK\r\n\r\n")
        except OSError:
            refusal = b"gone"
        if refusal or outer is None:
            inner.close()
            if outer is not None:
                outer.close()
            return
        one, other = _End(inner, to.target, address), _End(outer, to.target, address)
        one.peer, other.peer = other, one
        for end in (one, other):
            end.socket.setblocking(False)
            end.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(end.socket, end.events, end)

    def _serve(self, end: _End, events: int) -> None:
        if end.socket.fileno() < 0:
            return  # closed with its peer, in this very round
        try:
            if events & selectors.EVENT_WRITE:
                end.pending = end.pending[end.socket.send(end.pending) :]
            if events & selectors.EVENT_READ:
                self._pass_on(end)
        except BlockingIOError:
            pass
        except OSError:
            self._unlink(end)
            return
        if end.finished and end.peer.finished and not end.pending and not end.peer.pending:
            self._unlink(end)
            return
        for one in (end, end.peer):
            self._watch(one)

    def _pass_on(self, end: _End) -> None:
        """What came is sent to the peer; what the peer does not take yet is kept, and nothing more is read."""
        size = end.socket.recv_into(self._piece)
        if size == 0:
            end.finished = True
            with contextlib.suppress(OSError):
                end.peer.socket.shutdown(socket.SHUT_WR)
            return
        try:
            sent = end.peer.socket.send(self._piece[:size])
        except BlockingIOError:
            sent = 0
        end.peer.pending = bytes(self._piece[sent:size])

    def _watch(self, end: _End) -> None:
        registered = self._selector.get_map().get(end.socket)
        if registered is None:
            if end.events:
                self._selector.register(end.socket, end.events, end)
        elif not end.events:
            self._selector.unregister(end.socket)
        elif registered.events != end.events:
            self._selector.modify(end.socket, end.events, end)

    def _unlink(self, end: _End) -> None:
        for one in (end, end.peer):
            if one.socket.fileno() >= 0 and one.socket in self._selector.get_map():
                self._selector.unregister(one.socket)
            one.socket.close()


def _connect(to: _Destination) -> tuple[socket.socket, str]:
    """A connection, and the address that it leads to: the first that takes one."""
    failure = OSError("no address")
    for address in to.addresses:
        try:
            return socket.create_connection((address, to.port), timeout=_CONNECT_SECONDS), address
        except OSError as error:
            failure = error
    raise failure


def _dialled(to: _Destination, error: OSError) -> str:
    reason = "i/o timeout" if isinstance(error, TimeoutError) else os.strerror(error.errno or 0).lower()
    return f"dial tcp {to.shown}: connect: {reason}"


def _read_head(inner: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head and len(head) < _LONGEST_HEAD:
        piece = inner.recv(_LONGEST_HEAD)
        if not piece:
            raise OSError
        head += piece
    return head


def _refusal(head: bytes, target: str) -> bytes:
    """What is answered to anything but a CONNECT to the target; empty for that."""
    method, _, rest = head.partition(b" ")
    if method != b"CONNECT":
        # A plain http:// address: the library takes this for the API server's answer, and quotes it.
        return f"HTTP/1.1 502 Elsewhere\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n{_ELSEWHERE}".encode()
    if rest.partition(b" ")[0].decode("latin-1").lower() != target.lower():
        return f"HTTP/1.1 502 {_ELSEWHERE}\r\n\r\n".encode()
    return b""


def _is_loopback(host: str) -> bool:
    """What Go's rule for proxies calls so."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
