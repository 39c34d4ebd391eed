"""Whether there is room to write: in the data folder, and where PostgreSQL has its own; both are tried."""

import asyncio
import os
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from pilothouse.metrics import DATA_FOLDER_FREE
from pilothouse.store.database import Database
from pilothouse.store.free_space import write_and_forget

#: However often it is asked, it is tried so seldom.
_KEPT_SECONDS: Final = 10.0
_BYTES: Final = 64 * 1024


class FreeSpace:
    """What keeps a process from writing; the answers are some seconds old at most."""

    def __init__(self, database: Database, folder: Path) -> None:
        self._database = database
        self._folder = folder
        self._writing: asyncio.Task[None] | None = None
        self._of_folder = _Kept(self._try_folder)
        self._of_database = _Kept(self._try_database)
        DATA_FOLDER_FREE.set_function(self._free_bytes)

    async def folder_problem(self) -> str:
        """Return why nothing can be written to the data folder; empty if it can."""
        return await self._of_folder.get()

    async def database_problem(self) -> str:
        """Return an empty text if PostgreSQL can write; raises DatabaseUnavailable if not."""
        return await self._of_database.get()

    async def _try_folder(self) -> str:
        # Once at a time, whoever gives up: a folder that hangs would take a thread for each that asks.
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(asyncio.to_thread(self._write))
            self._writing.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            await asyncio.shield(self._writing)
        except OSError as error:
            return f"nothing can be written to the data folder {self._folder}: {error.strerror}"
        return ""

    async def _try_database(self) -> str:
        async with self._database.transaction() as tx:
            await write_and_forget(tx)
        return ""

    def _write(self) -> None:
        tried = self._folder / f".room-{os.getpid()}"
        try:
            tried.write_bytes(bytes(_BYTES))
        finally:
            tried.unlink(missing_ok=True)

    def _free_bytes(self) -> float:
        try:
            return shutil.disk_usage(self._folder).free
        except OSError:
            return 0.0


class _Kept:
    """One answer, asked for again when it is old; a failure is not kept.

    It is tried once at a time, whoever gives up: a folder that hangs would take one thread for each that asks.
    """

    def __init__(self, ask: Callable[[], Awaitable[str]]) -> None:
        self._ask = ask
        self._asking: asyncio.Task[str] | None = None
        self._answer = ""
        self._until = 0.0

    async def get(self) -> str:
        if self._asking is None:
            if time.monotonic() < self._until:
                return self._answer
            self._asking = asyncio.create_task(self._renew())
            self._asking.add_done_callback(
                lambda asked: asked.cancelled() or asked.exception()
            )  # all may have given up
        return await asyncio.shield(self._asking)

    async def _renew(self) -> str:
        try:
            self._answer = await self._ask()
            self._until = time.monotonic() + _KEPT_SECONDS
            return self._answer
        finally:
            self._asking = None
