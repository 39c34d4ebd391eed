"""What is written as YAML is what Helm's rules read."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pilothouse.chart_archive.documents import read_values
from pilothouse.chart_archive.yaml_text import dump_yaml

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
LEAVES = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXTS
TREES = st.recursive(LEAVES, lambda below: st.lists(below, max_size=3) | st.dictionaries(TEXTS, below, max_size=3))


@pytest.mark.parametrize(
    "text", ["y", "No", "1e3", "0o17", "1:30", "2024-01-01", "~", "", "null", "<<", "=", ".5", "0x1F"]
)
def test_a_text_that_looks_like_something_else_stays_text(text: str):
    dumped = dump_yaml({"value": text, text: 1})
    assert read_values(dumped.encode(), file="x", max_bytes=2**20) == {"value": text, text: 1}


@given(st.dictionaries(TEXTS, TREES, max_size=4))
@example({"a": "line\nline\n", "b": "  two\n lines", "c": "trailing \n"})
def test_values_are_read_back_as_they_were(values: dict[str, Any]):
    assert read_values(dump_yaml(values).encode(), file="x", max_bytes=2**20) == values
