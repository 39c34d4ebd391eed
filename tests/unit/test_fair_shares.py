"""Turns and counts: who waits gets its turn, and nobody gets everything."""

import asyncio
from typing import Any

import pytest

from pilothouse.errors import Busy
from pilothouse.shares import Counted, FairSlots, Rate, Throughput


def make(places: int, **different: Any) -> FairSlots:
    return FairSlots(places, what="all is busy", **{"most_waiting": 100, **different})


async def enter(places: FairSlots, key: str, order: list[str]) -> None:
    await places.acquire(key, seconds=5)
    order.append(key)


async def queue_up(places: FairSlots, keys: str, order: list[str]) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(enter(places, key, order)) for key in keys]
    await asyncio.sleep(0)
    return tasks


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize(("places", "most"), [(1, 1), (2, 1), (3, 2), (4, 3)])
async def test_one_key_gets_all_but_one_place(places: int, most: int):
    order: list[str] = []
    fair = make(places)
    waiting = await queue_up(fair, "a" * 10, order)
    await settle()
    assert order == ["a"] * most
    if places > 1:
        await fair.acquire("b", seconds=0.1)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_who_waits_is_served_in_turn_and_not_in_the_order_of_coming():
    order: list[str] = []
    fair = make(1)
    await fair.acquire("x", seconds=1)
    waiting = await queue_up(fair, "aaaabbc", order)
    fair.release("x")
    for number in range(7):
        await settle()
        fair.release(order[number])
    assert "".join(order) == "abcabaa"
    await asyncio.gather(*waiting)


async def test_the_wait_ends_and_leaves_no_trace():
    fair = make(1)
    await fair.acquire("a", seconds=1)
    with pytest.raises(Busy, match="all is busy"):
        await fair.acquire("b", seconds=0.01)
    fair.release("a")
    await fair.acquire("c", seconds=0.01)


async def test_a_place_that_is_given_to_one_who_leaves_in_that_moment_goes_to_the_next():
    fair = make(1)
    await fair.acquire("a", seconds=1)
    leaving = asyncio.create_task(fair.acquire("b", seconds=5))
    staying = asyncio.create_task(fair.acquire("c", seconds=5))
    await settle()
    fair.release("a")
    leaving.cancel()
    await asyncio.wait_for(staying, 1)
    with pytest.raises(asyncio.CancelledError):
        await leaving
    fair.release("c")
    await fair.acquire("d", seconds=0.01)


async def test_no_more_of_a_key_wait_than_may():
    fair = make(1, most_waiting=2)
    await fair.acquire("a", seconds=1)
    waiting = await queue_up(fair, "aa", [])
    with pytest.raises(Busy, match="2 requests of this project are already waiting"):
        await fair.acquire("a", seconds=5)
    other = asyncio.create_task(fair.acquire("b", seconds=5))
    await settle()
    fair.release("a")
    await settle()
    fair.release("a")
    await asyncio.wait_for(other, 1)
    fair.release("b")
    await asyncio.gather(*waiting)


async def test_counts_end_at_the_keys_limit_and_at_that_of_all():
    counted = Counted(what="streams", per_key=2, whose="this user", in_all=3)
    with counted.held("a", 2), pytest.raises(Busy, match=r"this user has as many streams as it may \(2\)"):
        counted.add("a", 1)
    with counted.held("a", 2), counted.held("b"), pytest.raises(Busy, match=r"this server has .* \(3\)"):
        counted.add("b", 1)
    with counted.held("b", 2):
        pass


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def rate(clock: Clock, per_second: float = 2, *, burst: float = 4, most_keys: int = 10) -> Rate:
    return Rate(per_second, burst=burst, what="requests", whose="this key", most_keys=most_keys, monotonic=clock)


def taken(limit: Rate, key: str) -> int:
    """Take until it is refused; return how many there were."""
    for number in range(1000):
        try:
            limit.take(key)
        except Busy:
            return number
    raise AssertionError("there is no limit")


def test_a_rate_allows_a_burst_and_then_so_many_a_second():
    clock = Clock()
    limit = rate(clock)
    assert (taken(limit, "a"), taken(limit, "b")) == (4, 4)
    clock.now += 0.49
    assert taken(limit, "a") == 0
    clock.now += 1.02
    assert taken(limit, "a") == 3
    clock.now += 3600
    assert taken(limit, "a") == 4  # a rest is worth no more than the burst


def test_who_is_too_fast_is_told_for_how_long():
    clock = Clock()
    limit = rate(clock, 0.1, burst=1)
    limit.take("a")
    with pytest.raises(Busy, match=r"this key has sent more requests than it may \(0.1 a second, 1 at once\)") as busy:
        limit.take("a")
    clock.now += busy.value.retry_after_seconds
    limit.take("a")


def test_checking_uses_nothing_up_and_what_overtakes_the_check_is_owed_for_a_while():
    clock = Clock()
    limit = rate(clock)
    for _ in range(50):
        limit.check("a")
    for _ in range(50):  # checked before the first of them was counted
        limit.count("a")
    clock.now += 2.49
    with pytest.raises(Busy):
        limit.check("a")
    clock.now += 0.02  # it owes no more than another burst
    limit.check("a")


def test_a_rate_remembers_a_bounded_number_of_keys():
    limit = rate(Clock(), most_keys=10)
    for number in range(1000):
        limit.take(str(number))
    assert len(limit._full_at) == 10
    assert taken(limit, "999") == 3


def test_a_rate_of_nothing_is_no_limit():
    limit = rate(Clock(), 0)
    for _ in range(1000):
        limit.take("a")
    assert not limit._full_at


class SharedThroughput:
    """A throughput of 100 a second and 400 at once, with a clock that moves while somebody waits."""

    def __init__(self, per_second: float = 100, *, most_keys: int = 10) -> None:
        self.clock = Clock()
        self.shared = Throughput(
            per_second,
            burst=4 * per_second,
            what="bytes",
            whose="this project",
            most_keys=most_keys,
            monotonic=self.clock,
        )

    def take(self, key: str, amount: float) -> float:
        seconds = self.shared.take(key, amount)
        self.clock.now += seconds
        return seconds


def test_who_is_alone_waits_for_nothing():
    throughput = SharedThroughput()
    assert [throughput.take("a", 1000) for _ in range(10)] == [0] * 10


def test_beside_others_each_key_gets_its_share_after_a_burst():
    throughput = SharedThroughput()
    throughput.take("b", 0)
    assert throughput.take("a", 400) == 0
    assert throughput.take("a", 100) == pytest.approx(1)
    assert throughput.take("a", 300) == pytest.approx(3)
    assert throughput.take("b", 400) == 0  # a's debt is not b's


def test_small_requests_do_not_wait_behind_the_large_ones_of_the_same_key():
    throughput = SharedThroughput()
    throughput.take("b", 0)
    throughput.shared.take("a", 1000)
    assert throughput.take("a", 0) == 0


def test_others_that_have_been_silent_for_ten_seconds_do_not_count():
    throughput = SharedThroughput()
    throughput.take("b", 0)
    throughput.clock.now += 10
    assert throughput.take("a", 4000) == 0


def test_what_was_taken_while_alone_is_not_owed_later():
    throughput = SharedThroughput()
    throughput.take("a", 4000)
    throughput.take("b", 0)
    assert throughput.take("a", 400) == 0


def test_several_at_the_same_time_go_one_after_the_other():
    shared = SharedThroughput().shared
    shared.take("b", 0)
    assert [shared.take("a", 400) for _ in range(4)] == pytest.approx([0, 4, 8, 12])


def test_who_would_wait_for_too_long_is_told_for_how_long_and_owes_nothing_for_it():
    throughput = SharedThroughput()
    throughput.take("b", 0)
    for _ in range(3):
        with pytest.raises(Busy, match=r"this project has sent more bytes than its share \(100 a second\)") as busy:
            throughput.take("a", 2000)
        assert busy.value.retry_after_seconds == 16
    assert throughput.take("a", 400) == 0


def test_a_throughput_remembers_a_bounded_number_of_keys():
    throughput = SharedThroughput(most_keys=10)
    for number in range(100):
        throughput.take(str(number), 100)
    assert (len(throughput.shared._full_at), len(throughput.shared._active)) == (10, 10)


def test_a_throughput_of_nothing_is_no_limit():
    throughput = SharedThroughput(0)
    throughput.take("b", 0)
    assert throughput.take("a", 10**9) == 0
