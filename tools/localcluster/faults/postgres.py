"""Passes connections on to a PostgreSQL, and knows which statement each message carries.

Only the frame of the protocol is read (version 3: a type, a length, a body), and of the caller's messages only those
that name a statement: Parse, Bind and Query. The line between proxy and server is not encrypted; the proxy refuses
encryption to callers. Source: PostgreSQL documentation, chapter "Frontend/Backend Protocol".
"""

import asyncio
import re
import struct
import time
from dataclasses import dataclass

from tools.localcluster.faults.flow import DelayLine, Flow, Sender, reset, sender_of
from tools.localcluster.faults.rules import ConnectionCut, Exchange, RuleBook

_HEADER = struct.Struct("!cI")
_STARTUP = struct.Struct("!II")
_CANCEL, _SSL, _GSS = 80877102, 80877103, 80877104
_LARGEST = 64 * 1024 * 1024

_CHANGES = re.compile(
    r"\b(?:(?P<insert>INSERT)\s+INTO|(?P<update>(?<!FOR\s)UPDATE(?!\s+SET\b))|(?P<delete>DELETE)\s+FROM)\s+\"?(?P<table>[a-z_]+)\"?"
    r"(?:\s+SET\s+(?P<set>.*?)(?:\s+WHERE\b|\s+FROM\b|\s+RETURNING\b|$))?",
    re.IGNORECASE | re.DOTALL,
)
_COLUMN = re.compile(r"(?:^|,)\s*\"?([a-z_]+)\"?\s*=", re.IGNORECASE)


@dataclass(frozen=True)
class Server:
    """Where the PostgreSQL listens: a host, or the folder of its socket."""

    host: str
    port: int

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return a new connection."""
        if self.host.startswith("/"):
            return await asyncio.open_unix_connection(f"{self.host}/.s.PGSQL.{self.port}")
        return await asyncio.open_connection(self.host, self.port)


class PostgresProxy:
    """One listener in front of one PostgreSQL."""

    def __init__(self, name: str, server: Server, rules: RuleBook) -> None:
        self.flow = Flow()
        self._name = name
        self._server = server
        self._rules = rules

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handle one connection to its end."""
        self.flow.add(writer)
        server_writer = None
        try:
            await self.flow.gate()
            sender = await sender_of(writer)
            server_reader, server_writer = await self._server.connect()
            session = _Session(
                self._name,
                self._rules,
                sender,
                up=DelayLine(server_writer, self.flow),
                down=DelayLine(writer, self.flow),
            )
            await session.run(reader, server_reader, writer)
        except (ConnectionCut, OSError, RuntimeError, EOFError, ExceptionGroup, asyncio.CancelledError):
            pass  # cut, by us or by them (uvloop: RuntimeError), or this process ends
        finally:
            self.flow.discard(writer)
            reset(writer)
            if server_writer is not None:
                reset(server_writer)


class _Session:
    """One connection: what its statements are, and whose answer is awaited."""

    def __init__(self, name: str, rules: RuleBook, sender: Sender, *, up: DelayLine, down: DelayLine) -> None:
        self._name = name
        self._rules = rules
        self._sender = sender
        self._up = up
        self._down = down
        self._prepared: dict[bytes, str] = {}
        self._changes: list[Exchange] = []
        self._in_transaction = False
        self._awaited: Exchange | None = None

    async def run(
        self, caller: asyncio.StreamReader, server: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Pass both directions on until one end closes; raises whatever ended it."""
        await self._greet(caller, writer)
        async with asyncio.TaskGroup() as group:
            for work in (self._upward(caller), self._downward(server), self._up.run(), self._down.run()):
                group.create_task(work)

    async def _greet(self, caller: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await caller.readexactly(_STARTUP.size)
            length, code = _STARTUP.unpack(head)
            rest = await caller.readexactly(min(length, _LARGEST) - _STARTUP.size)
            if code not in {_SSL, _GSS}:
                await self._up.put(head + rest)
                return
            writer.write(b"N")
            await writer.drain()

    async def _upward(self, caller: asyncio.StreamReader) -> None:
        while True:
            kind, frame = await _read_frame(caller)
            statement = self._statement(kind, frame[_HEADER.size :])
            exchange = self._note(statement) if statement is not None else None
            if exchange is not None:
                await self._rules.strike("request", exchange)
                self._awaited = exchange
            await self._up.put(frame)

    def _statement(self, kind: bytes, body: bytes) -> str | None:
        """Return the text of the statement that the message runs, if it runs one."""
        match kind:
            case b"P":
                name, text = body.split(b"\0", 2)[:2]
                self._prepared[name] = text.decode(errors="replace")
            case b"B":
                return self._prepared.get(body.split(b"\0", 2)[1])
            case b"Q":
                return body.rstrip(b"\0").decode(errors="replace")
        return None

    def _note(self, statement: str) -> Exchange | None:
        """Its exchange, if something is durable once it is answered, or would be but for the COMMIT to come."""
        first = statement.split(None, 1)[0].upper().rstrip(";") if statement.strip() else ""
        if first in {"BEGIN", "START"}:
            self._in_transaction, self._changes = True, []
            return None
        if first in {"COMMIT", "ROLLBACK"}:
            changes, self._changes, self._in_transaction = self._changes, [], False
            if not changes or first == "ROLLBACK":
                return None
            name = f"COMMIT {', '.join(one.resource for one in changes)}"
            return self._exchange(name, rows=sum(max(one.rows, 0) for one in changes))
        name = statement_name(statement)
        exchange = self._exchange(name) if name else None
        if exchange is not None and self._in_transaction:
            self._changes.append(exchange)
        return exchange

    def _exchange(self, name: str, *, rows: int = -1) -> Exchange:
        verb = name.partition(" ")[0]
        return self._rules.note(listener=self._name, **vars(self._sender), verb=verb, resource=name, rows=rows)

    async def _downward(self, server: asyncio.StreamReader) -> None:
        withheld: list[bytes] = []
        while True:
            kind, frame = await _read_frame(server)
            exchange = self._awaited
            if exchange is None:
                await self._down.put(frame)
                continue
            withheld.append(frame)
            if kind == b"E":
                exchange.status = 1
            elif kind == b"C" and exchange.rows < 0:
                exchange.rows = _rows(frame[_HEADER.size :])
            if kind == b"Z":
                self._awaited = None
                exchange.answered = time.time()
                await self._rules.strike("answer", exchange)
            elif self._rules.awaits_answers(self._name):
                continue
            await self._down.put(b"".join(withheld))
            withheld.clear()


def _rows(tag: bytes) -> int:
    """How many rows a command's tag tells of: ``UPDATE 1``, ``INSERT 0 1``; -1 if of none."""
    last = tag.rstrip(b"\0").rpartition(b" ")[2]
    return int(last) if last.isdigit() else -1


async def _read_frame(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readexactly(_HEADER.size)
    kind, length = _HEADER.unpack(head)
    if length > _LARGEST:
        raise ConnectionCut
    return kind, head + await reader.readexactly(length - 4)


def statement_name(statement: str) -> str:
    """Return what a statement changes, for example ``UPDATE operations(attempt,state)``; empty if it only reads.

    A table's name, and for an UPDATE the columns in alphabetic order; several changes are joined by commas.
    """
    names = []
    for found in _CHANGES.finditer(statement):
        verb = (found["insert"] or found["update"] or found["delete"]).upper()
        columns = sorted(_COLUMN.findall(_without_brackets(found["set"] or "")))
        names.append(f"{verb} {found['table'].lower()}" + (f"({','.join(columns)})" if columns else ""))
    return ", ".join(names)


def _without_brackets(text: str) -> str:
    """Only what stands outside all brackets: the commas and equal signs there belong to the SET itself."""
    kept, depth = [], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if depth == 0 and character != ")":
            kept.append(character)
    return "".join(kept)
