"""Connections to PostgreSQL, for queries and for notifications.

Every session has statement, lock and idle-in-transaction timeouts and ``tcp_user_timeout``: a connection whose peer
vanished must cost seconds, not a worker.
"""

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final, ParamSpec, TypeVar

import psycopg
import structlog
from psycopg.pq import PipelineStatus
from sqlalchemy import event, text
from sqlalchemy.engine import URL, AdaptedConnection, ExceptionContext, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionFree
from sqlalchemy.ext.asyncio.engine import AsyncConnection, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from pilothouse.errors import DatabaseUnavailable, NotFound, TransactionConflict

log = structlog.get_logger(__name__)

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

#: The connection type that every query module takes; only this module opens or commits one.
Transaction = AsyncConnection

#: Set by a statement: PgBouncer refuses them as options of the connection, or, told to, drops them without a word.
_SESSION: Final = {
    "statement_timeout": "30s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "30s",
    "default_transaction_isolation": "read committed",
}

#: To plan a statement of the queue takes longer than to carry it out. PostgreSQL compares only what it estimates of the
#: plans with and without values, and after an ANALYZE may plan it anew each time.
_GENERIC_PLANS: Final = {"plan_cache_mode": "force_generic_plan"}
#: Executions on a connection after which a statement is prepared: what is not repeated saves the round trip.
_PREPARE_AFTER = 1

#: Connections that nobody needed for so long are closed: each is a process of PostgreSQL's, with 4 MB of its own.
_IDLE_SECONDS = 30.0

#: What TLS has read already makes a connection not readable; as often as this it is looked at anyway.
_LOOK_SECONDS: Final = 5.0

#: No fault of the statement: a standby that a fail-over has not promoted yet, and a process that was stopped meanwhile.
_CONFLICTS = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)
_TRIES: Final = 3
_PASSES = (psycopg.errors.ReadOnlySqlTransaction, psycopg.errors.IdleInTransactionSessionTimeout)


def _driver_url(url: str) -> URL:
    parsed = make_url(url)
    if parsed.get_backend_name() not in {"postgresql", "postgres"}:
        raise DatabaseUnavailable(
            f"PILOTHOUSE_DATABASE_URL must start with postgresql:// and starts with {parsed.drivername}://"
        )
    return parsed.set(drivername="postgresql+psycopg")


class Database:
    """Open transactions; one object per process."""

    def __init__(self, url: str, *, pool_size: int = 8, generic_plans: bool = False) -> None:
        """``generic_plans``: plan each statement once for a connection, for a process that repeats the same few."""
        self.url = _driver_url(url)
        self._engine = create_async_engine(
            self.url,
            pool_size=pool_size,
            max_overflow=8,
            pool_timeout=10,
            pool_pre_ping=False,
            isolation_level="AUTOCOMMIT",  # for what most are taken; switching costs a fifth of a statement
            hide_parameters=True,  # an error that is logged must not show what a statement was to write
            pool_recycle=900,
            pool_use_lifo=True,  # the connection used last has the statements prepared, and its backend's caches warm
            connect_args={
                "prepare_threshold": _PREPARE_AFTER,
                "tcp_user_timeout": 10_000,
                "connect_timeout": 5,
                "application_name": "pilothouse",
            },
        )
        self._session = _set_session(_SESSION | (_GENERIC_PLANS if generic_plans else {}))
        event.listen(self._engine.sync_engine, "connect", self._begin_session)
        event.listen(self._engine.sync_engine, "handle_error", _notice_standby)
        event.listen(self._engine.sync_engine, "checkin", self._close_unusable)
        self._in_use = self._most_in_use = 0
        self._counted_until = time.monotonic() + _IDLE_SECONDS
        self._closed = False

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Open a transaction: committed when the block ends, rolled back if it raises.

        Raises DatabaseUnavailable if no connection is available or it broke; then it is unknown whether it was
        committed.
        """
        async with self._translated(), self._engine.connect() as connection:
            # not as an option of the engine: cancelled while it sets that, SQLAlchemy loses the connection
            await connection.execution_options(isolation_level="READ COMMITTED")
            async with connection.begin():
                yield connection

    @asynccontextmanager
    async def autocommit(self) -> AsyncIterator[Transaction]:
        """Open a connection on which each statement is its own transaction: a third of the round trips.

        For reads, which under READ COMMITTED have no consistent snapshot in a transaction either, and for writes of one
        statement. Raises DatabaseUnavailable like ``transaction``.
        """
        async with self._translated(), self._engine.connect() as connection:
            yield connection

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        self._in_use += 1
        self._most_in_use = max(self._most_in_use, self._in_use)
        try:
            yield
        except NoConnectionFree as error:
            raise DatabaseUnavailable("every connection to PostgreSQL is in use") from error
        except DBAPIError as error:
            if isinstance(error.orig, _CONFLICTS):
                raise TransactionConflict(
                    "the same was changed by another request at the same moment; nothing was written, send it again"
                ) from error
            if isinstance(error.orig, psycopg.errors.ForeignKeyViolation) and "is not present in" in str(error.orig):
                raise NotFound(
                    "something that this refers to was deleted at the same moment; nothing was written: "
                    f"{error.orig.diag.message_detail or _cause(error)}"
                ) from error
            if isinstance(error.orig, psycopg.errors.DiskFull):
                raise DatabaseUnavailable(f"PostgreSQL has no room to write: {_cause(error)}") from error
            broken = error.connection_invalidated or isinstance(error, InterfaceError | OperationalError)
            if not (broken or isinstance(error.orig, _PASSES)):
                raise
            raise DatabaseUnavailable(f"PostgreSQL does not answer: {_cause(error)}") from error
        except AssertionError as error:  # psycopg's, if a cancel comes while a pipeline is entered
            if isinstance(error.__context__, asyncio.CancelledError):
                raise error.__context__ from error
            raise
        finally:
            self._in_use -= 1
        await self._close_idle()

    async def _close_idle(self) -> None:
        """Begin with a new pool if the last one has more connections than were in use at a time."""
        now, pool = time.monotonic(), self._engine.pool
        if now < self._counted_until or not isinstance(pool, QueuePool) or pool.checkedout():
            return  # a pool that is replaced forgets what is taken from it
        most, self._most_in_use, self._counted_until = self._most_in_use, 0, now + _IDLE_SECONDS
        if pool.checkedin() > most:
            await self._engine.dispose()

    async def ping(self) -> None:
        """Return if the database answers, else raise DatabaseUnavailable."""
        async with self.autocommit() as connection:
            await connection.execute(text("SELECT 1"))

    async def now(self) -> datetime:
        """Return the time of the database's clock."""
        async with self.autocommit() as connection:
            found: datetime = (await connection.execute(text("SELECT clock_timestamp()"))).scalar_one()
        return found

    async def server_version(self) -> int:
        """Return the major version of the server."""
        async with self.autocommit() as connection:
            return int((await connection.execute(text("SHOW server_version_num"))).scalar_one()) // 10_000

    def dsn(self) -> str:
        """Return the database's address as a plain libpq URL, for connections outside the pool."""
        return self.url.set(drivername="postgresql").render_as_string(hide_password=False)

    async def notifications(self, channel: str) -> AsyncIterator[str]:
        """Yield payloads of NOTIFY on the channel, on a separate direct connection, until it breaks.

        Then raises DatabaseUnavailable; notifications sent meanwhile are lost, so poll as well.
        """
        try:
            async with await psycopg.AsyncConnection.connect(
                self.dsn(), autocommit=True, connect_timeout=5, tcp_user_timeout=10_000
            ) as connection:
                await connection.execute(psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(channel)))
                while True:
                    async for note in connection.notifies(timeout=0):
                        yield note.payload
                    await _wait_until_readable(connection.fileno())
        except psycopg.Error as error:
            raise DatabaseUnavailable(f"lost the notifications of {channel}: {_cause(error)}") from error

    async def close(self) -> None:
        """Close every connection of the pool; one that is in use is closed when it is returned."""
        self._closed = True
        await self._engine.dispose()

    def _begin_session(self, connection: AdaptedConnection, _: ConnectionPoolEntry) -> None:
        async def begin(driver: psycopg.AsyncConnection[object]) -> None:
            autocommit = driver.autocommit
            await driver.set_autocommit(True)  # else it is three round trips
            await driver.execute(self._session, prepare=False)
            await driver.set_autocommit(autocommit)

        connection.run_async(begin)

    def _close_unusable(self, _: object, entry: ConnectionPoolEntry) -> None:
        """Close what is returned too late, or in a pipeline that nobody left: there no statement returns its rows."""
        driver: psycopg.AsyncConnection[object] | None = entry.driver_connection
        if self._closed or (driver is not None and driver.pgconn.pipeline_status != PipelineStatus.OFF):
            entry.close()


def retry_conflicts(write: Callable[Arguments, Awaitable[Result]]) -> Callable[Arguments, Awaitable[Result]]:
    """Repeat a function whose writes are one transaction if PostgreSQL undid that for another one, twice at most."""

    @functools.wraps(write)
    async def repeated(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        for _ in range(_TRIES - 1):
            try:
                return await write(*args, **kwargs)
            except TransactionConflict:
                log.info("transaction_repeated", of=write.__qualname__)
        return await write(*args, **kwargs)

    return repeated


async def _wait_until_readable(file_number: int) -> None:
    """Return when something has come, or some seconds later: psycopg itself looks ten times a second."""
    loop = asyncio.get_running_loop()
    came = asyncio.Event()
    loop.add_reader(file_number, came.set)
    late = loop.call_later(_LOOK_SECONDS, came.set)
    try:
        await came.wait()
    finally:
        late.cancel()
        loop.remove_reader(file_number)


def _set_session(settings: Mapping[str, str]) -> bytes:
    pairs = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in settings.items())
    return f"SELECT {pairs}".encode()


def _notice_standby(context: ExceptionContext) -> None:
    """Replace the pool's connections as after a broken one, each when it is next needed."""
    if isinstance(context.original_exception, _PASSES):
        context.is_disconnect = True


def _cause(error: Exception) -> str:
    original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return str(original).strip().splitlines()[0] if str(original).strip() else type(original).__name__
