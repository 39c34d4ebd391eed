"""Where an error in a layer of values is: found at a cost that no text can raise."""

import time

import pytest

from pilothouse.services.releases.value_layers import _find_error


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: b\nc: [", (3, 1, 0)),
        ("a: b\nc: [1, 2\nd: e", (3, 2, 2)),
        ("a: {b: c", (2, 1, 1)),
        ("a: 'b\nc: d\n", (3, 1, 1)),
        ("a: [b: c: d]", (1, 9, 0)),
        ("a: b\n\tc: d", (2, 1, 0)),
        ("# x\n- a", (2, 1, 0)),
        ("text", (1, 1, 0)),
        ("", (1, 1, 0)),
    ],
)
def test_the_first_error_is_found_and_where_what_it_is_in_was_opened(text: str, place: tuple[int, int, int]):
    assert _find_error(text) == place


@pytest.mark.parametrize("text", ["[" * 2**20, "{a: " * 2**18, "- " * 2**19], ids=["lists", "mappings", "items"])
def test_nesting_takes_no_time(text: str):
    begun = time.process_time()
    assert _find_error(text)[0] == 1
    assert time.process_time() - begun < 5
