"""Pages for everybody are made once, and not by the event loop."""

import asyncio
import threading
import time

import pytest

from pilothouse.http.pages import Page


class Made:
    """Makes a page slowly, and remembers by which threads."""

    def __init__(self) -> None:
        self.threads: list[int] = []
        self.broken = False

    def __call__(self) -> bytes:
        self.threads.append(threading.get_ident())
        time.sleep(0.05)
        if self.broken:
            raise ValueError("broken")
        return b"page"


async def test_a_page_is_made_once_beside_the_loop():
    made = Made()
    page = Page(made, media_type="text/html", headers={"X-A": "b"})

    answers = await asyncio.gather(*(page.answer() for _ in range(20)))
    answers.append(await page.answer())

    assert {bytes(one.body) for one in answers} == {b"page"}
    assert answers[0].headers["x-a"] == "b"
    assert len(made.threads) == 1
    assert made.threads[0] != threading.get_ident()


async def test_a_caller_that_goes_takes_the_page_from_nobody():
    page = Page(Made())
    first = asyncio.create_task(page.answer())
    await asyncio.sleep(0.01)
    second = asyncio.create_task(page.answer())
    first.cancel()

    assert (await second).body == b"page"


async def test_what_could_not_be_made_is_tried_again():
    made = Made()
    made.broken = True
    page = Page(made)
    with pytest.raises(ValueError, match="broken"):
        await page.answer()
    made.broken = False

    assert (await page.answer()).body == b"page"
