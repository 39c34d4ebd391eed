"""Who is wrong again and again waits ever longer, and nobody else does."""

import pytest

from pilothouse.auth.attempts import Attempts, network_of

HERE, ELSEWHERE, KEY, OTHER = "192.0.2.1", "192.0.2.2", "A" * 20, "B" * 20


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def attempts(clock: Clock) -> Attempts:
    return Attempts(free=5, longest_seconds=30, most=100, monotonic=clock)


def test_the_first_failures_are_free_and_the_wait_doubles_up_to_its_limit(attempts: Attempts):
    assert [attempts.fail(HERE, KEY) for _ in range(12)] == [0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 30, 30]


def test_after_ten_thousand_failures_the_wait_is_still_the_longest(attempts: Attempts):
    assert [attempts.fail(HERE, KEY) for _ in range(10_000)][-1] == 30


def test_the_next_try_waits_as_long_as_was_said(attempts: Attempts, clock: Clock):
    waits = [attempts.fail(HERE, KEY) for _ in range(8)]
    assert attempts.wait_seconds(HERE, KEY) == waits[-1] == 4
    clock.now += 3.5
    assert attempts.wait_seconds(HERE, KEY) == 0.5
    clock.now += 0.5
    assert attempts.wait_seconds(HERE, KEY) == 0


def test_another_address_and_another_key_of_the_same_address_do_not_wait(attempts: Attempts):
    for _ in range(50):
        attempts.fail(HERE, KEY)
    assert attempts.wait_seconds(ELSEWHERE, KEY) == 0
    assert attempts.wait_seconds(HERE, OTHER) == 0
    assert attempts.fail(HERE, OTHER) == 0


def test_who_proved_the_key_does_not_wait_for_an_hour_whoever_fails_beside_it(attempts: Attempts, clock: Clock):
    attempts.succeed(HERE, KEY)
    for _ in range(50):
        attempts.fail(HERE, KEY)
    assert attempts.wait_seconds(HERE, KEY) == 0
    clock.now += 3601
    attempts.fail(HERE, KEY)
    for _ in range(9):
        attempts.fail(HERE, KEY)
    assert attempts.wait_seconds(HERE, KEY) > 0


def test_failures_are_forgotten_after_ten_quiet_minutes(attempts: Attempts, clock: Clock):
    for _ in range(9):
        attempts.fail(HERE, KEY)
    clock.now += 601
    assert attempts.fail(HERE, KEY) == 0


def test_strangers_fill_no_memory_and_push_out_no_success(attempts: Attempts):
    attempts.succeed(HERE, KEY)
    for number in range(5000):
        attempts.fail(f"10.0.{number // 250}.{number % 250}", KEY)
    assert len(attempts._failed) == 100
    for _ in range(9):
        attempts.fail(HERE, KEY)
    assert attempts.wait_seconds(HERE, KEY) == 0


def test_it_can_be_switched_off(clock: Clock):
    lenient = Attempts(free=0, longest_seconds=30, monotonic=clock)
    assert [lenient.fail(HERE, KEY) for _ in range(50)] == [0.0] * 50
    assert lenient.wait_seconds(HERE, KEY) == 0


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("", ""),
    ],
)
def test_an_ipv6_customer_is_a_64(address: str, network: str):
    assert network_of(address) == network
