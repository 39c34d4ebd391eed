"""How many values a JSON text holds is found out before any of them is built."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from pilothouse.errors import BodyTooLarge, InvalidRequest
from pilothouse.http.json_bodies import JsonLimits, parse_json, parse_object

LIMITS = JsonLimits(size=1000, values=10, levels=3)

trees = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(alphabet='ab",[]{}\\\n'),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(alphabet='a",[\\'), inner, max_size=4),
    max_leaves=20,
)


def count(value: object) -> int:
    """Values at any depth, the outermost included."""
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(count, below))


@given(st.dictionaries(st.text(alphabet='a",[\\'), trees, max_size=4), st.sampled_from([(",", ":"), (", ", ": ")]))
def test_what_holds_fewer_values_is_read_and_what_holds_many_more_is_not(value: dict[str, object], separators):
    text = json.dumps(value, separators=separators)
    limits = JsonLimits(size=10**6, values=2 * count(value), levels=100)

    assert parse_object(text, where="body", limits=limits) == value
    if count(value) > 10:
        with pytest.raises(InvalidRequest, match="more than 4 values"):
            parse_object(text, where="body", limits=JsonLimits(size=10**6, values=4, levels=100))


@pytest.mark.parametrize("text", [b'{"a": "' + b'\\",' * 20 + b'"}', b'{"a": ",[{,[{,[{,[{"}', b'{"[,{": "\\\\"}'])
def test_what_only_looks_like_a_value_inside_a_text_does_not_count(text: bytes):
    assert parse_object(text, where="body", limits=LIMITS) == json.loads(text)


@pytest.mark.parametrize("text", [b'{"a": "' + b"," * 50, b'{"a": "\\', b'"' * 99, b"\\" * 99, b"{", b""])
def test_what_is_no_json_is_told(text: bytes):
    with pytest.raises(InvalidRequest, match=r"not valid JSON|values"):
        parse_object(text, where="body", limits=LIMITS)


def test_a_text_over_the_size_and_one_over_the_depth_are_refused():
    with pytest.raises(BodyTooLarge, match="1000"):
        parse_object(b" " * 1001, where="body", limits=LIMITS)
    with pytest.raises(InvalidRequest, match="a: nested in more than 3 levels"):
        parse_object(b'{"a": [[[[1]]]]}', where="body", limits=LIMITS)


def test_only_the_first_error_is_told():
    class Strict(BaseModel):
        model_config = ConfigDict(extra="forbid", strict=True)

    with pytest.raises(InvalidRequest) as refused:
        parse_json(json.dumps({f"key{number}": number for number in range(9)}), Strict, where="body")

    assert str(refused.value).count("key") == 1


@pytest.mark.parametrize("number", [-(2**63) - 1, 2**64, 10**300])
def test_an_integer_that_would_be_rounded_is_refused_and_named(number: int):
    with pytest.raises(InvalidRequest, match=r"^a\[1\].b: .* does not fit in 64 bits"):
        parse_object(json.dumps({"a": [1e30, {"b": number}]}), where="body", limits=LIMITS)
