"""Passes HTTPS on to an API server, one request at a time, with the caller's own credentials.

It ends the caller's TLS with a certificate of its own and speaks HTTP/1.1 on both sides: each connection of a caller
has one to the API server. Watches stream through. What upgrades a connection (exec, port-forward) is not passed on.
"""

import asyncio
import contextlib
import ssl
import time
import uuid
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

import h11

from tools.localcluster.faults.flow import Flow, Sender, reset, sender_of
from tools.localcluster.faults.rules import ConnectionCut, RequestRefused, RuleBook

_PIECE = 256 * 1024
_HEAD_LIMIT = 128 * 1024
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass(frozen=True)
class Upstream:
    """The API server behind the proxy."""

    host: str
    port: int
    tls: ssl.SSLContext
    server_name: str


@dataclass(frozen=True)
class Target:
    """What a request is about."""

    verb: str
    resource: str
    name: str
    namespace: str


class KubernetesProxy:
    """One listener in front of one API server."""

    def __init__(self, name: str, upstream: Upstream, rules: RuleBook) -> None:
        self.flow = Flow()
        self._name = name
        self._upstream = upstream
        self._rules = rules

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handle one connection to its end."""
        caller = _Peer(reader, writer, h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_LIMIT))
        server: _Peer | None = None
        self.flow.add(writer)
        try:
            await self.flow.gate()
            sender = await sender_of(writer)
            if not sender.pid:
                return  # dead before it could be looked at: nobody could say later whose request this was
            while (request := await caller.next_event()) is not None:
                if not isinstance(request, h11.Request):
                    return
                if server is None:
                    server = await self._connect()
                if not await self._exchange(request, caller, server, sender=sender):
                    return
        except (ConnectionCut, OSError, RuntimeError, h11.ProtocolError, asyncio.CancelledError):
            pass  # cut, by us or by them (uvloop: RuntimeError), or this process ends
        finally:
            self.flow.discard(writer)
            for peer in (caller, server):
                if peer is not None:
                    reset(peer.writer)

    async def _connect(self) -> "_Peer":
        upstream = self._upstream
        reader, writer = await asyncio.open_connection(
            upstream.host, upstream.port, ssl=upstream.tls, server_hostname=upstream.server_name
        )
        return _Peer(reader, writer, h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_LIMIT))

    async def _exchange(self, request: h11.Request, caller: "_Peer", server: "_Peer", *, sender: Sender) -> bool:
        """One request and its answer; False when the connection ends with it."""
        async with contextlib.aclosing(caller.rest()) as events:
            body = [event async for event in events]
        headers = [(name, value) for name, value in request.headers if name != b"audit-id"]
        agent = next((value.decode(errors="replace") for name, value in headers if name == b"user-agent"), "")
        target = read_target(request.method.decode(), request.target.decode())
        exchange = self._rules.note(
            listener=self._name, **vars(sender), agent=agent, audit_id=str(uuid.uuid4()), **vars(target)
        )
        try:
            await self._rules.strike("request", exchange)
        except RequestRefused as refused:
            exchange.status, exchange.answered = refused.status, time.time()
            await caller.refuse(refused.status)
            return False
        await self._pause()
        headers.append((b"audit-id", exchange.audit_id.encode()))
        await server.send(
            h11.Request(method=request.method, target=request.target, headers=headers, http_version="1.1")
        )
        for event in body:
            await server.send(event)
        await server.send(h11.EndOfMessage())

        answer = await server.next_event()
        while isinstance(answer, h11.InformationalResponse):
            answer = await server.next_event()
        if not isinstance(answer, h11.Response):
            return False
        exchange.status, exchange.answered = answer.status_code, time.time()
        await self._rules.strike("answer", exchange)
        await self._pause()
        # A watch goes on for as long as the caller is there, which only its closing tells.
        passing = asyncio.create_task(self._pass_on(answer, server, caller))
        leaving = asyncio.create_task(caller.closed())
        try:
            await asyncio.wait([passing, leaving], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (passing, leaving):
                task.cancel()
            await asyncio.wait([passing, leaving])
        if passing.cancelled():
            return False
        passing.result()
        return caller.next_cycle() and server.next_cycle()

    async def _pass_on(self, answer: h11.Response, server: "_Peer", caller: "_Peer") -> None:
        await caller.send(answer)
        async with contextlib.aclosing(server.rest()) as events:
            async for event in events:
                await self.flow.gate()
                await caller.send(event)
        await caller.send(h11.EndOfMessage())

    async def _pause(self) -> None:
        if self.flow.latency:
            await asyncio.sleep(self.flow.latency)
        await self.flow.gate()


class _Peer:
    """One end of a connection that speaks HTTP."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, state: h11.Connection) -> None:
        self.writer = writer
        self._reader = reader
        self._state = state

    async def next_event(self) -> object | None:
        """Return the next event; None when the other end has closed the connection."""
        while True:
            event = self._state.next_event()
            if event is h11.NEED_DATA:
                self._state.receive_data(await self._reader.read(_PIECE))
            elif isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
                return None
            else:
                return event

    async def closed(self) -> None:
        """Return when the other end has closed the connection; what it sends before that is kept."""
        while data := await self._reader.read(_PIECE):
            self._state.receive_data(data)

    async def rest(self) -> AsyncGenerator[h11.Data, None]:
        """Yield what follows the head of a message."""
        while isinstance(event := await self.next_event(), h11.Data):
            yield event
        if not isinstance(event, h11.EndOfMessage):
            raise ConnectionCut

    async def send(self, event: h11.Event) -> None:
        """Write one event."""
        data = self._state.send(event)
        if data:
            self.writer.write(data)
            await self.writer.drain()

    async def refuse(self, status: int) -> None:
        """Answer with the error as what stands in front of an API server gives it: no Status, no time to come back."""
        text = b"refused by the fault proxy"
        headers = [("content-type", "text/plain"), ("content-length", str(len(text))), ("connection", "close")]
        await self.send(h11.Response(status_code=status, headers=headers))
        await self.send(h11.Data(data=text))
        await self.send(h11.EndOfMessage())

    def next_cycle(self) -> bool:
        """Whether the connection can carry another message."""
        with contextlib.suppress(h11.LocalProtocolError):
            self._state.start_next_cycle()
            return True
        return False


def read_target(method: str, target: str) -> Target:
    """Return what a request is about, in Kubernetes' terms; ``resource`` is the path for other URLs."""
    parts = urlsplit(target)
    words = [word for word in parts.path.split("/") if word]
    if words[:1] == ["api"]:
        words = words[2:]
    elif words[:1] == ["apis"]:
        words = words[3:]
    else:
        words = []
    namespace = ""
    if words[:1] == ["namespaces"] and len(words) > 2:  # noqa: PLR2004 - the words are namespaces, NAME, RESOURCE
        namespace, words = words[1], words[2:]
    resource, name, subresource = (*words, "", "", "")[:3]
    if not resource:
        return Target(_VERBS.get(method, "get"), parts.path, "", "")
    verb = _VERBS.get(method)
    if verb is None:
        watching = parse_qs(parts.query).get("watch", [""])[0] in {"1", "true"}
        verb = "get" if name else "watch" if watching else "list"
    elif verb == "delete" and not name:
        verb = "deletecollection"
    return Target(verb, f"{resource}/{subresource}" if subresource else resource, name, namespace)
