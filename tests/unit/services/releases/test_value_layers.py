"""Where an error in a layer of values is: found at a cost that no text can raise."""

import time

import pytest

from pilothouse.services.releases.value_layers import _find_error


@pytest.mark.parametrize(
    ("text", "place"),
    [("a: b\nc: [", (3, 1)), ("a: b\n\tc: d", (2, 1)), ("# x\n- a", (2, 1)), ("text", (1, 1)), ("", (1, 1))],
)
def test_the_first_error_is_found(text: str, place: tuple[int, int]):
    assert _find_error(text) == place


@pytest.mark.parametrize("text", ["[" * 2**20, "{a: " * 2**18, "- " * 2**19], ids=["lists", "mappings", "items"])
def test_nesting_takes_no_time(text: str):
    begun = time.process_time()
    assert _find_error(text)[0] == 1
    assert time.process_time() - begun < 5
