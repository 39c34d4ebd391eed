"""The frames between parent and engine carry every plain value, and both sides know the same requests and outcomes."""

import dataclasses
import io
import json
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.engine.child_options import ChildOptions
from pilothouse.engine.frames import HEADER, encode_request, parse_head
from pilothouse.engine.inspection import LintFinding, ReleasePart, RenderedObject
from pilothouse.engine.launcher import PROGRAM
from pilothouse.engine.protocol import (
    REQUESTS,
    InstallRequest,
    LintRequest,
    PlannedHook,
    PlannedRelease,
    ProgressEvent,
    RenderNameRequest,
    ValuesLayer,
)
from pilothouse.engine.signatures import CosignSignature
from pilothouse.engine.tested import PodOfTest
from pilothouse.engine.versions import read_versions
from pilothouse.errors import HelmError
from tools.engine import ENGINE
from tools.localcluster.programs import HELM_COMMAND, required_version

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
        with pytest.raises(HelmError, match="NUL"):
            encode_request(request)
        return
    prefix, body = encode_request(request, progress=True)
    assert isinstance(body, bytes)
    head_length, body_length = HEADER.unpack(prefix[: HEADER.size])
    head = parse_head(prefix[HEADER.size :])
    assert (head_length, body_length) == (len(prefix) - HEADER.size, len(body))
    assert head["progress"] is True
    assert InstallRequest(**{**head["request"], "layers": ()}, chart=body) == request


def test_an_open_file_is_sent_whole_from_its_beginning():
    file = io.BytesIO(b"the archive")
    file.seek(4)
    prefix, body = encode_request(LintRequest(chart=file))
    assert body is file
    assert HEADER.unpack(prefix[: HEADER.size])[1] == len(b"the archive")


def test_the_engine_is_built_with_the_helm_that_the_judge_is():
    required = {required_version(folder, "helm.sh/helm/v4") for folder in (ENGINE, HELM_COMMAND.folder)}
    assert required == {read_versions()["helm"]}


def _names(cls: type[Any]) -> list[str]:
    return [each.name for each in dataclasses.fields(cls)]


def test_the_go_side_knows_the_same_requests_outcomes_events_and_options():
    """Field by field, in both directions: what one side forgot, or still has, is seen here."""
    said = subprocess.run([PROGRAM, "protocol"], capture_output=True, text=True, check=True).stdout
    for described in (theirs := json.loads(said)).values():
        for fields in described.values() if isinstance(described, dict) else [described]:
            if isinstance(fields, list):
                fields.sort()
    ours: dict[str, Any] = {
        "options": sorted(_names(ChildOptions)),
        "event": sorted(_names(ProgressEvent)),
        "finding": sorted(_names(LintFinding)),
        "object": sorted(_names(RenderedObject)),
        "part": sorted(_names(ReleasePart)),
        "layer": sorted(_names(ValuesLayer)),
        "planned": sorted(_names(PlannedRelease)),
        "hook": sorted(_names(PlannedHook)),
        "tested": sorted(_names(PodOfTest)),
        "cosign": sorted(_names(CosignSignature)),
    }
    for name, request in REQUESTS.items():
        outcome: Any = {type(None): None, str: "string"}.get(request.outcome_type, ...)
        if outcome is ...:
            outcome = sorted(_names(request.outcome_type))
        ours[name] = {"request": sorted(_names(request)), "outcome": outcome}
    assert theirs == ours


@pytest.mark.parametrize(
    ("annotation", "runs"),
    [("pre-install", True), ("post-delete, post-install", True), ("test", False), ("post-upgrade", False)],
)
def test_a_hook_runs_at_the_events_of_its_annotation(annotation: str, runs: bool):  # noqa: FBT001  # a test's parameter
    one = RenderedObject(api_version="v1", kind="Pod", namespace="n", name="p", hook=annotation)
    assert one.runs_at("pre-install", "post-install") is runs


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
    with pytest.raises(HelmError, match=where) as refused:
        encode_request(request_)
    assert refused.value.kind == "HelmInvalidArgError"


def test_a_literal_backslash_u0000_is_no_nul():
    encode_request(_install(values={"pattern": "\\u0000"}))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_json_does_not_have_are_refused(number: float):
    with pytest.raises(HelmError, match="not JSON"):
        encode_request(_install(values={"x": number}))


def test_absurd_nesting_is_refused():
    values: dict[str, Any] = {}
    for _ in range(100_000):
        values = {"a": values}
    try:
        with pytest.raises(HelmError, match="nested too deeply"):
            encode_request(_install(values=values))
    finally:
        while values:  # freeing it in one go would need as deep a stack
            values = values.pop("a")


def test_no_value_or_credential_stands_in_the_representation():
    shown = repr(_install(kubeconfig="token: k-secret", values={"password": "v-secret"}, chart=b"c-secret"))
    assert "secret" not in shown


def test_a_frame_whose_head_is_no_object_is_an_error():
    with pytest.raises(TypeError, match="not an object"):
        parse_head(b"[]")
