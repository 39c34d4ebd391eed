"""Which connection gives way to a newcomer, and when there is none that may."""

import time

import pytest

from pilothouse.http.connections import ConnectionLimits, most_connections
from pilothouse.settings import HttpSettings


class One:
    """A connection that remembers whether it had to close."""

    def __init__(self, address: str = "192.0.2.1") -> None:
        self.address = address
        self.closed = False

    def give_way(self) -> None:
        self.closed = True


def admitted(limits: ConnectionLimits, count: int, address: str = "192.0.2.1") -> list[One]:
    made = [One(address) for _ in range(count)]
    for one in made:
        assert limits.admit(one)
    return made


def test_the_one_that_waits_the_longest_gives_way():
    limits = ConnectionLimits(most=3, most_per_address=10)
    first, second, third = admitted(limits, 3)
    limits.works(second)
    limits.waits(first)

    admitted(limits, 1)

    assert [one.closed for one in (first, second, third)] == [False, False, True]
    assert limits.open == 3


def test_strangers_give_way_before_those_who_are_known():
    limits = ConnectionLimits(most=3, most_per_address=3, most_bytes=100_000)
    first, second, third = admitted(limits, 3)
    limits.waits(first, known=True)

    admitted(limits, 1)
    assert [one.closed for one in (first, second, third)] == [False, True, False]
    for one in (first, third):
        limits.weighs(one, 60_000)
    assert [one.closed for one in (first, second, third)] == [False, True, True]
    admitted(limits, 3)
    assert not first.closed

    only_known = ConnectionLimits(most=1, most_per_address=1)
    (known,) = admitted(only_known, 1)
    only_known.waits(known, known=True)
    admitted(only_known, 1)
    assert known.closed


def test_connections_whose_peers_wait_for_us_are_kept():
    limits = ConnectionLimits(most=2, most_per_address=10)
    for one in admitted(limits, 2):
        limits.works(one)

    assert not limits.admit(One())
    assert limits.open == 2


def test_an_address_that_has_all_its_places_gives_up_one_of_its_own():
    limits = ConnectionLimits(most=10, most_per_address=2)
    (other,) = admitted(limits, 1, "198.51.100.1")
    first, second = admitted(limits, 2)
    limits.works(first)

    admitted(limits, 1)

    assert [one.closed for one in (other, first, second)] == [False, False, True]
    assert limits.open == 3


def test_an_address_whose_requests_are_all_under_way_gets_no_further_place():
    limits = ConnectionLimits(most=10, most_per_address=2)
    admitted(limits, 1, "198.51.100.1")
    for one in admitted(limits, 2):
        limits.works(one)

    assert not limits.admit(One())
    assert limits.admit(One("198.51.100.1"))


def test_what_is_released_or_was_refused_is_forgotten():
    limits = ConnectionLimits(most=1, most_per_address=1)
    (one,) = admitted(limits, 1)
    limits.works(one)
    refused = One()
    assert not limits.admit(refused)
    limits.waits(refused)
    limits.release(refused)
    limits.release(one)
    limits.release(one)

    assert limits.open == 0
    assert limits.admit(One())


def test_those_that_hold_much_and_wait_give_way_when_memory_is_short():
    limits = ConnectionLimits(most=10, most_per_address=10, most_bytes=300_000)
    light, worker, first, second = admitted(limits, 4)
    limits.weighs(light, 1000)
    for one in (worker, first, second):
        limits.weighs(one, 100_000)
    limits.works(worker)
    assert not any(one.closed for one in (light, worker, first, second))

    limits.weighs(second, 150_000)
    assert [one.closed for one in (light, worker, first, second)] == [False, False, True, False]

    limits.release(worker)
    limits.weighs(second, 300_000)
    assert not second.closed
    limits.weighs(second, 300_001)
    assert second.closed


@pytest.mark.parametrize("number", [10, 20_000])
def test_a_newcomer_costs_the_same_however_many_are_open(number: int):
    limits = ConnectionLimits(most=number, most_per_address=number)
    admitted(limits, number)

    def seconds() -> float:
        began = time.perf_counter()
        admitted(limits, 100)
        return time.perf_counter() - began

    assert min(seconds() for _ in range(5)) < 0.01  # looking at all of them takes a hundred times as long


def test_places_leave_files_for_everything_else():
    assert most_connections(HttpSettings(), open_files=1024) == 512
    assert most_connections(HttpSettings(), open_files=300) == 100
    assert most_connections(HttpSettings(), open_files=100) == 10
    assert most_connections(HttpSettings(), open_files=-1) == 4000
