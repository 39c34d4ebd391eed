"""The frames between parent and child carry every plain value unchanged and refuse what the library would misread."""

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.engine.base import (
    InstallRequest,
    LintRequest,
    RenderNameRequest,
    decode_request,
    encode_request,
    pack_frame,
    read_frame,
    whole_seconds,
)
from pilothouse.errors import HelmRefused

_JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def _install(**changes: Any) -> InstallRequest:
    fields: dict[str, Any] = {"kubeconfig": "", "namespace": "n", "release_name": "r", "chart": b"\0\1\2", **changes}
    return InstallRequest(**fields)


def _holds_nul(value: Any) -> bool:
    if isinstance(value, dict):
        return any("\0" in key or _holds_nul(item) for key, item in value.items())
    if isinstance(value, list):
        return any(_holds_nul(item) for item in value)
    return isinstance(value, str) and "\0" in value


@given(st.dictionaries(st.text(), _JSON_VALUES, max_size=4))
def test_a_request_arrives_as_it_was_sent_unless_it_holds_nul(values: dict[str, Any]):
    request = _install(values=values)
    if _holds_nul(values):
        with pytest.raises(HelmRefused, match="NUL"):
            encode_request(request)
        return
    prefix, body = encode_request(request, progress=True)
    assert isinstance(body, bytes)
    frame = read_frame(io.BytesIO(prefix + body))
    assert frame is not None
    assert frame[0]["progress"] is True
    assert decode_request(*frame) == request


def test_an_open_file_arrives_as_its_bytes():
    file = io.BytesIO(b"the archive")
    file.seek(4)
    prefix, body = encode_request(LintRequest(chart=file))
    assert body is file
    frame = read_frame(io.BytesIO(prefix + file.getvalue()))
    assert frame is not None
    assert decode_request(*frame) == LintRequest(chart=b"the archive")


def test_integers_beyond_64_bits_keep_every_digit():
    prefix, _ = encode_request(_install(values={"big": 2**70}))
    assert str(2**70).encode() in prefix


@pytest.mark.parametrize(
    ("request_", "where"),
    [
        (_install(namespace="a\0b"), "namespace"),
        (_install(kubeconfig="a\0"), "kubeconfig"),
        (_install(values={"a": [{"b": "x\0y"}]}), r"values.a\[0\].b"),
        (_install(values={"a\0": 1}), "a key of values"),
        (_install(labels={"l": "\0"}), "labels.l"),
        (RenderNameRequest(template="\0"), "template"),
    ],
)
def test_nul_is_refused_with_the_place_where_it_is(request_: Any, where: str):
    with pytest.raises(HelmRefused, match=where) as refused:
        encode_request(request_)
    assert refused.value.kind == "HelmInvalidArgError"


def test_a_literal_backslash_u0000_is_no_nul():
    encode_request(_install(values={"pattern": "\\u0000"}))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_json_does_not_have_are_refused(number: float):
    with pytest.raises(HelmRefused, match="not plain JSON"):
        encode_request(_install(values={"x": number}))


def test_absurd_nesting_is_refused():
    values: dict[str, Any] = {}
    for _ in range(100_000):
        values = {"a": values}
    try:
        with pytest.raises(HelmRefused, match="nested too deeply"):
            encode_request(_install(values=values))
    finally:
        while values:  # freeing it in one go would need as deep a stack
            values = values.pop("a")


def test_no_value_or_credential_stands_in_the_representation():
    shown = repr(_install(kubeconfig="token: k-secret", values={"password": "v-secret"}, chart=b"c-secret"))
    assert "secret" not in shown


@pytest.mark.parametrize("cut", [0, 3, 8, 12])
def test_a_cut_frame_reads_as_the_end(cut: int):
    assert read_frame(io.BytesIO((pack_frame({"a": 1}, len(b"body")) + b"body")[:cut])) is None


def test_a_frame_whose_head_is_no_object_is_an_error():
    with pytest.raises(TypeError, match="not an object"):
        read_frame(io.BytesIO(b"\0\0\0\2\0\0\0\0[]"))


@pytest.mark.parametrize(("seconds", "whole"), [(0.0, 1), (0.2, 1), (1.0, 1), (1.01, 2), (300.0, 300)])
def test_the_library_never_gets_zero_seconds(seconds: float, whole: int):
    assert whole_seconds(seconds) == whole
