"""What is read out of Helm's errors takes the same time for each byte, whatever a chart or a cluster writes there."""

import time
from collections.abc import Callable

import pytest

from pilothouse.engine.helm_errors import blocking_in, conflicts_in, helm_error
from pilothouse.services.releases import helm_error_hints as explanations

SMALL, LARGE = 3_000, 48_000
FACTOR = 6.0
LEAST_SECONDS = 0.001
CONFLICT = "conflict occurred while applying object a/b v1, Kind=C: Apply failed with 1 conflict: "


def seconds(work: Callable[[], object]) -> float:
    """Return the processor time of the quickest of two tries."""
    tries = []
    for _ in range(2):
        began = time.process_time()
        work()
        tries.append(time.process_time() - began)
    return min(tries)


@pytest.mark.parametrize(
    "piece",
    ["a", "a ", 'a "', 'conflict with "', 'conflict with "a"', 'conflict with "\\', CONFLICT, "resource a/b/c "],
    ids=repr,
)
@pytest.mark.parametrize(
    "read",
    [helm_error, lambda text: conflicts_in(CONFLICT + text), blocking_in, explanations._CLASH.search],
    ids=["refusal", "conflicts_in", "blocking_in", "clash"],
)
def test_the_time_of_a_byte_does_not_depend_on_the_text(read: Callable[[str], object], piece: str):
    small, large = (piece * (size // len(piece)) for size in (SMALL, LARGE))
    limit = max(LEAST_SECONDS, seconds(lambda: read(small))) * LARGE / SMALL * FACTOR
    assert seconds(lambda: read(large)) < limit
