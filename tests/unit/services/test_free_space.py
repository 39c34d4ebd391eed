"""What is found out about the room to write, also if a folder does not answer."""

import asyncio
import os
import threading
from pathlib import Path

import pytest

from pilothouse.services.free_space import FreeSpace
from pilothouse.store.database import Database


async def test_a_folder_that_hangs_takes_one_thread_however_often_it_is_asked_for(tmp_path: Path):
    hanging = tmp_path / f".room-{os.getpid()}"
    os.mkfifo(hanging)  # whoever writes waits for a reader
    database = Database("postgresql://nobody@localhost:1/none")
    space, before = FreeSpace(database, tmp_path), threading.active_count()
    try:
        for _ in range(5):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(space.folder_problem(), 0.05)
        assert threading.active_count() <= before + 1
    finally:
        reader = os.open(hanging, os.O_RDONLY | os.O_NONBLOCK)
    try:
        async with asyncio.timeout(10):
            assert "nothing can be written" not in await space.folder_problem()
    finally:
        os.close(reader)
        await database.close()
