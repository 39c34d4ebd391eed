"""Helm's release Secrets: what is read from them, and what is refused."""

import asyncio
import base64
import gzip
import json
import time
import tracemalloc
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.errors import CorruptRelease
from pilothouse.kubernetes.client import ClusterClient, Secret
from pilothouse.kubernetes.helm_secrets import (
    ReleaseKey,
    decode_release,
    encode_payload,
    newest,
    release_key,
    unlock,
)
from pilothouse.kubernetes.values import merge_values

MIB = 1024 * 1024


def payload(**changes: Any) -> dict[str, Any]:
    """Return what Helm stores for revision 2 of release web, as far as it matters."""
    base: dict[str, Any] = {
        "name": "web",
        "info": {
            "first_deployed": "2026-01-02T03:04:05.123456789+08:00",
            "last_deployed": "2026-01-02T03:05:00Z",
            "deleted": "",
            "description": "Upgrade complete",
            "status": "deployed",
            "notes": "hello",
        },
        "chart": {
            "metadata": {"name": "nginx", "version": "1.2.3", "apiVersion": "v2"},
            "lock": None,
            "templates": [{"name": "templates/a.yaml", "data": "e30="}],
            "values": {"a": {"b": 1, "c": 2}, "d": None},
        },
        "config": {"a": {"b": 5, "c": None}},
        "manifest": "---\nkind: ConfigMap\n",
        "version": 2,
        "namespace": "shop",
    }
    return {key: value for key, value in (base | changes).items() if value is not ...}


@pytest.mark.parametrize(
    ("given", "deprecated"), [({}, False), ({"deprecated": True}, True), ({"deprecated": "yes"}, False)]
)
def test_a_release_tells_whether_its_chart_is_deprecated(given: dict[str, Any], deprecated: bool):  # noqa: FBT001
    chart = payload()["chart"]
    stored = secret(payload(chart={**chart, "metadata": {**chart["metadata"], **given}}))

    assert decode_release(stored).chart_deprecated is deprecated


def secret(content: Any = None, *, raw: bytes | str | None = None, **metadata: Any) -> Secret:
    """Return a Secret around the payload, whatever that is."""
    text = json.dumps(payload() if content is None else content)
    release = encode_payload(text) if raw is None else base64.b64encode(base64.b64encode(_bytes(raw))).decode()
    labels = {"owner": "helm", "name": "web", "version": "2", "status": "deployed", "team": "a"}
    own = {
        "name": "sh.helm.release.v1.web.v2",
        "namespace": "shop",
        "labels": labels,
        "uid": "u-1",
        "resourceVersion": "42",
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    return {"metadata": own | metadata, "type": "helm.sh/release.v1", "data": {"release": release}}


def _bytes(raw: bytes | str) -> bytes:
    return raw if isinstance(raw, bytes) else raw.encode()


def test_a_rollback_tells_what_it_went_back_to():
    info = payload()["info"]
    assert decode_release(secret(payload(info=info | {"rollback_revision": 1}))).rollback_revision == 1
    assert decode_release(secret()).rollback_revision == 0


def test_a_release_is_read_whole():
    release = decode_release(secret())
    assert (release.namespace, release.name, release.revision) == ("shop", "web", 2)
    assert (release.status, release.description) == ("deployed", "Upgrade complete")
    assert (release.chart_name, release.chart_version) == ("nginx", "1.2.3")
    assert release.values == {"a": {"b": 5}}
    assert release.chart_values == {"a": {"b": 1, "c": 2}, "d": None}
    assert release.config == {"a": {"b": 5, "c": None}}
    assert release.manifest == "---\nkind: ConfigMap\n"
    assert release.first_deployed == datetime(2026, 1, 2, 3, 4, 5, 123456, timezone(timedelta(hours=8)))
    assert release.last_deployed == datetime(2026, 1, 2, 3, 5, tzinfo=UTC)
    assert release.labels["team"] == "a"
    assert (release.uid, release.resource_version) == ("u-1", "42")


def test_secret_texts_do_not_show_in_the_repr():
    shown = repr(decode_release(secret(payload(config={"password": "hunter2"}, manifest="hunter2"))))
    assert "hunter2" not in shown


@pytest.mark.parametrize("empty", ["", None, "0001-01-01T00:00:00Z", "not a time"])
def test_a_time_that_helm_left_empty_is_the_secrets_own(empty: str | None):
    info = {"status": "pending-install", "first_deployed": empty}
    release = decode_release(secret(payload(info=info)))
    assert release.first_deployed == release.last_deployed == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("", None),
        (None, None),
        ("0001-01-01T00:00:00Z", None),
        ("2026-01-03T00:00:00Z", datetime(2026, 1, 3, tzinfo=UTC)),
    ],
)
def test_a_revision_tells_when_its_uninstall_began(written: str | None, read: datetime | None):
    release = decode_release(secret(payload(info={"status": "uninstalled", "deleted": written})))
    assert release.deleted_at == read


def test_what_helm_may_leave_out_may_be_missing():
    content = payload(config=None, manifest=..., namespace=..., chart={"metadata": {"name": "x", "version": "1"}})
    release = decode_release(secret(content, creationTimestamp=None))
    assert (release.values, release.config, release.manifest) == ({}, {}, "")
    assert release.namespace == "shop"


def test_a_payload_that_is_not_compressed_is_read():
    assert decode_release(secret(raw=json.dumps(payload()))).name == "web"


@pytest.mark.parametrize(
    "metadata",
    [
        {"name": "sh.helm.release.v1.web.v3"},
        {"name": "other"},
        {"labels": None},
        {"labels": {"owner": "helm"}},
        {"labels": {"name": "web", "version": "two"}},
        {"labels": {"name": "web", "version": "٢"}},
        {"labels": {"name": "web", "version": "-2"}},
        {"labels": {"name": "web", "version": "9" * 60}, "name": "sh.helm.release.v1.web.v" + "9" * 60},
    ],
)
def test_a_secret_that_is_no_release_has_no_key(metadata: dict[str, Any]):
    assert release_key(secret(**metadata)) is None
    with pytest.raises(CorruptRelease, match="is not a Helm release"):
        decode_release(secret(**metadata))


def test_the_key_comes_from_the_metadata():
    assert release_key(secret(raw="nonsense")) == ReleaseKey("shop", "web", 2)
    assert release_key({}) is None


@pytest.mark.parametrize(
    ("hostile", "said"),
    [
        (secret(payload(name="other")), "payload of another release"),
        (secret(payload(version=3)), "payload of another release"),
        (secret(payload(chart=...)), "not contain what Helm writes"),
        (secret(payload(chart=None)), "not contain what Helm writes"),
        (secret(payload(chart={"values": {}})), "not contain what Helm writes"),
        (secret(payload(info=...)), "not contain what Helm writes"),
        (secret(payload(info={"status": 5})), "not contain what Helm writes"),
        (secret(payload(version="2")), "not contain what Helm writes"),
        (secret(payload(manifest=["x"])), "not contain what Helm writes"),
        (secret(payload(config=["x"])), "values that are not a map"),
        (secret(payload(config="x")), "values that are not a map"),
        (secret(["x"]), "not contain what Helm writes"),
        (secret(raw="{"), "not contain what Helm writes"),
        (secret(raw=""), "not contain what Helm writes"),
        (secret(raw=b"\xff\xfe"), "not contain what Helm writes"),
        (
            secret(raw=json.dumps(payload(manifest="M~")).encode().replace(b"M~", b"\xff")),
            "not contain what Helm writes",
        ),
        (secret(raw=b"[" * 100_000), "not contain what Helm writes"),
        (secret(raw=gzip.compress(json.dumps(payload()).encode())[:-8]), "cut off|unpacked"),
        (secret(raw=b"\x1f\x8b\x08" + b"\xff" * 20), "cannot be unpacked"),
        ({**secret(), "data": {"release": "!"}}, "cannot be unpacked"),
        ({**secret(), "data": {"release": 5}}, "cannot be unpacked"),
        ({**secret(), "data": {}}, "cannot be unpacked"),
        ({**secret(), "data": None}, "cannot be unpacked"),
        (
            secret(raw=json.dumps(payload(config=...))[:-1] + ', "config": ' + '{"a":' * 500 + "1" + "}" * 501),
            "too deep",
        ),
        (secret(payload(config={"a": "x" * (4 * MIB)})), "values of more than"),
    ],
)
def test_what_helm_would_not_write_is_refused_and_the_secret_named(hostile: Secret, said: str):
    with pytest.raises(CorruptRelease, match=rf"^Secret shop/sh\.helm\.release\.v1\.web\.v2 .*({said})"):
        decode_release(hostile)


@pytest.mark.parametrize("filler", [b" ", b"[],", b'"a":{},'])
def test_a_payload_that_inflates_without_end_costs_little(filler: bytes):
    head = json.dumps(payload())[:-1].encode() + b', "x": ['
    bomb = secret(raw=gzip.compress(head + filler * (100 * MIB // len(filler)), 1))
    started = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(CorruptRelease, match="unpacks to more than"):
            decode_release(bomb)
        assert tracemalloc.get_traced_memory()[1] < 100 * MIB
    finally:
        tracemalloc.stop()
    assert time.process_time() - started < 1.0


def test_many_small_objects_within_the_limit_are_not_built():
    content = json.dumps(payload())[:-1] + ', "hooks": [' + "[]," * (9 * MIB) + "[]]}"
    tracemalloc.start()
    try:
        assert decode_release(secret(raw=gzip.compress(content.encode(), 1))).name == "web"
        assert tracemalloc.get_traced_memory()[1] < 100 * MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("hooks", "count"),
    [
        ([{"events": ["pre-upgrade", "post-delete"]}, {"events": ["post-upgrade"]}, {"events": ["test"]}, {}], 2),
        (None, 0),
        ([[]], 0),
        ("x", 0),
        ([{"events": ["pre-upgrade"], "manifest": "x" * (3 * MIB)}], 0),
    ],
    ids=["counted", "none", "no hooks", "no list", "beyond reason"],
)
def test_hooks_are_counted_as_far_as_they_can_be_read(hooks: Any, count: int):
    assert decode_release(secret(payload(hooks=hooks))).count_hooks("pre-upgrade", "post-upgrade") == count


def test_the_limit_can_be_chosen():
    with pytest.raises(CorruptRelease, match="more than 100 bytes"):
        decode_release(secret(), max_bytes=100)


def test_the_newest_is_the_highest_revision():
    two = decode_release(secret())
    assert newest([two]) is two
    assert newest([]) is None


@pytest.mark.parametrize(
    ("chart", "own", "merged"),
    [
        ({}, {}, {}),
        ({"a": 1}, {}, {"a": 1}),
        ({"a": 1}, {"a": 2, "b": 3}, {"a": 2, "b": 3}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 5}}, {"a": {"b": 5, "c": 2}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": {"b": 1}}, {"a": 7}, {"a": 7}),
        ({"a": 7}, {"a": {"b": 1}}, {"a": {"b": 1}}),
        ({"a": 1, "b": {"c": 1, "d": 2}}, {"a": None, "b": {"c": None}}, {"b": {"d": 2}}),
        ({"a": None, "b": {"c": None, "d": {"e": None}}}, {}, {"b": {"d": {}}}),
        ({}, {"a": None, "b": {"c": None}}, {"a": None, "b": {"c": None}}),
        ({"a": None}, {"a": None}, {}),
        ({"a": {"b": None}}, {"a": {"b": None}}, {"a": {"b": None}}),
        ({"a": {"b": 1}}, {"a": None}, {}),
        ({"a": [None]}, {"b": [None]}, {"a": [None], "b": [None]}),
    ],
)
def test_values_are_laid_over_each_other(chart: dict[str, Any], own: dict[str, Any], merged: dict[str, Any]):
    before = json.dumps([chart, own])
    assert merge_values(chart, own) == merged
    assert json.dumps([chart, own]) == before


class Writes:
    """Takes what would be written."""

    def __init__(self) -> None:
        self.written: list[Secret] = []

    async def replace_secret(self, changed: Secret) -> bool:
        self.written.append(changed)
        return True


def _unlock(locked: Secret) -> Secret | None:
    writes = Writes()
    done = asyncio.run(unlock(cast("ClusterClient", writes), locked, reason="test"))
    assert done == bool(writes.written)
    return writes.written[0] if writes.written else None


def _text(of: Secret) -> str:
    return gzip.decompress(base64.b64decode(base64.b64decode(of["data"]["release"]))).decode()


@pytest.mark.parametrize("status", ["pending-install", "pending-upgrade", "pending-rollback", "uninstalling"])
def test_unlock_changes_the_status_and_nothing_else(status: str):
    numbers = '"config":{"big":12345678901234567890,"float":1.0e+21,"tiny":0.1000,"text":"é \\u003c <"}'
    info = f'{{"status":"{status}","description":"x","notes":"ж"}}'
    text = f'{{"name":"web", "info" : {info},"chart":{{"metadata":{{}}}},{numbers},"version":2,"namespace":"shop"}}'
    locked = secret(raw=gzip.compress(text.encode()), immutable=None)
    unlocked = _unlock(locked)
    assert unlocked is not None
    assert unlocked["immutable"] is True
    assert unlocked["metadata"] == locked["metadata"] | {"labels": locked["metadata"]["labels"] | {"status": "failed"}}
    told = "The operation was interrupted; marked as failed by Pilothouse (test)"
    assert _text(unlocked) == text.replace(info, f'{{"status":"failed","description":"{told}","notes":"ж"}}')
    assert decode_release(unlocked).status == "failed"


@pytest.mark.parametrize("status", ["deployed", "failed", "superseded", "uninstalled", "unknown"])
def test_what_is_not_locked_stays(status: str):
    assert _unlock(secret(payload(info={"status": status}))) is None


def test_a_payload_with_two_statuses_is_not_written():
    text = json.dumps(payload(info={"status": "pending-install"}))[:-1] + ', "info": {"status": "pending-upgrade"}}'
    with pytest.raises(CorruptRelease, match="twice"):
        _unlock(secret(raw=gzip.compress(text.encode())))


_trees = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 10) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from([*payload(), "x"]), _trees, max_size=4))
def test_any_payload_is_read_or_refused(changes: dict[str, Any]):
    content = secret(payload(**changes))
    try:
        release = decode_release(content)
    except CorruptRelease:
        return
    assert (release.namespace, release.name, release.revision) == ("shop", "web", 2)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes):
    for raw in (data, gzip.compress(data), b"\x1f\x8b\x08" + data):
        with pytest.raises(CorruptRelease):
            decode_release(secret(raw=raw))


@given(st.data(), st.binary(min_size=1, max_size=3))
def test_any_bytes_within_what_helm_writes_are_read_or_refused(data: st.DataObject, strange: bytes):
    text = json.dumps(payload(config={"key": "value"}, hooks=[{"events": ["pre-install"], "manifest": "m"}])).encode()
    at = data.draw(st.integers(0, len(text)))
    try:
        release = decode_release(secret(raw=text[:at] + strange + text[at + len(strange) :]))
    except CorruptRelease:
        return
    release.count_hooks("pre-install")
    release.hook_manifests()


_values = st.dictionaries(st.sampled_from("abc"), _trees, max_size=3)


@given(_values, _values)
def test_merging_again_changes_nothing_where_nothing_was_removed(chart: dict[str, Any], own: dict[str, Any]):
    merged = merge_values(chart, own)
    assert merge_values(merged, {}) == merge_values(merge_values(merged, {}), {})
    assert merge_values({}, own) == own
