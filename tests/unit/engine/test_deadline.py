"""The shared word and the fence: extended while the caller may act, and past for good once passed."""

import mmap
import os
import sys

import pytest

from pilothouse.engine.deadline import Fence, SharedDeadline, boottime
from pilothouse.errors import EngineTimeout


def test_the_child_sees_what_the_parent_sets_in_nanoseconds_since_boot():
    fd = SharedDeadline.create_fd()
    parent, child = SharedDeadline(fd), mmap.mmap(fd, mmap.PAGESIZE)
    os.close(fd)
    assert child[:8] == bytes(8)
    parent.set(1.5)
    assert int.from_bytes(child[:8], sys.byteorder) == 1_500_000_000
    parent.set(0)
    assert child[:8] == bytes(8)
    parent.close()
    child.close()


def test_a_fence_passes_on_every_extension_while_attached():
    applied: list[float] = []
    fence = Fence(first := boottime() + 60)
    fence.extend(before := first + 1)
    fence.attach(applied.append, lambda: None)
    fence.extend(during := first + 2)
    fence.detach()
    fence.extend(first + 3)
    assert applied == [before, during]


def test_a_fence_that_has_passed_cannot_be_extended_nor_attached():
    applied: list[float] = []
    fence = Fence(boottime() - 1)
    fence.extend(boottime() + 60)
    assert fence.passed
    with pytest.raises(EngineTimeout, match="nothing was done"):
        fence.attach(applied.append, lambda: None)
    assert applied == []


def test_killing_a_fence_kills_the_call_and_bars_the_next():
    kills: list[int] = []
    fence = Fence(boottime() + 60)
    fence.attach(lambda _: None, lambda: kills.append(1))
    fence.kill()
    fence.detach()
    fence.kill()
    assert kills == [1]
    with pytest.raises(EngineTimeout):
        fence.attach(lambda _: None, lambda: None)
