"""What is read from Helm's Secrets, judged by the helm command."""

import json
import random
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pilothouse.chart_archive.documents import read_values
from pilothouse.kubernetes import helm_secrets as storage
from pilothouse.kubernetes.addresses import Addresses
from pilothouse.kubernetes.client import ClusterClient
from pilothouse.kubernetes.helm_secrets import (
    StoredRelease,
    decode_release,
    encode_payload,
    newest,
    release_key,
    unlock,
)
from pilothouse.kubernetes.kubeconfig import sanitise
from pilothouse.kubernetes.values import merge_values
from pilothouse.settings import ClusterSettings
from tests.support.charts import build_chart, config_map_template, web_chart

Helm = Callable[..., str]


@pytest.fixture
async def client(kubeconfig: str) -> AsyncIterator[ClusterClient]:
    text = sanitise(kubeconfig, addresses=Addresses(allow_loopback=True)).text
    made = ClusterClient(text, ClusterSettings(allow_loopback=True))
    yield made
    await made.close()


def chart_file(folder: Path, archive: bytes, name: str = "chart.tgz") -> str:
    file = folder / name
    file.write_bytes(archive)
    return str(file)


async def stored(client: ClusterClient, namespace: str, name: str) -> dict[int, StoredRelease]:
    secrets = [secret async for secret in client.list_release_secrets(namespace=namespace, name=name)]
    return {release.revision: release for release in map(decode_release, secrets)}


async def test_every_revision_reads_as_helm_shows_it(
    client: ClusterClient, helm_cli: Helm, namespace: str, tmp_path: Path
):
    chart = chart_file(tmp_path, web_chart(version="1.0.0+build.5"))
    before = datetime.now(UTC) - timedelta(seconds=1)
    helm_cli("install", "web", chart, "-n", namespace, "--set", "message=привіт <&>", "--labels", "team=a")
    helm_cli(
        "upgrade",
        "web",
        chart,
        "-n",
        namespace,
        "--set",
        "resources.requests=null,extra.deep=1",
        "--description",
        "второй",
    )
    helm_cli("rollback", "web", "1", "-n", namespace)
    revisions = await stored(client, namespace, "web")
    history = json.loads(helm_cli("history", "web", "-n", namespace, "-o", "json"))
    assert [row["revision"] for row in history] == sorted(revisions) == [1, 2, 3]
    for row in history:
        release = revisions[row["revision"]]
        assert row["status"] == release.status
        assert row["chart"] == f"{release.chart_name}-{release.chart_version}"
        assert row["description"] == release.description
        assert datetime.fromisoformat(row["updated"]) == release.last_deployed
        shown = ("-n", namespace, "--revision", str(release.revision))
        assert json.loads(helm_cli("get", "values", "web", "--all", "-o", "json", *shown)) == release.values
        assert (json.loads(helm_cli("get", "values", "web", "-o", "json", *shown)) or {}) == release.config
        assert helm_cli("get", "manifest", "web", *shown).rstrip() == release.manifest.rstrip()
    last = newest(list(revisions.values()))
    assert last is not None
    assert last.revision == 3
    assert before < last.first_deployed <= last.last_deployed < datetime.now(UTC) + timedelta(seconds=1)
    assert last.labels["team"] == "a"
    assert (last.namespace, last.name, last.chart_values["replicaCount"]) == (namespace, "web", 1)
    assert last.uid
    assert last.resource_version.isdigit()


async def test_failed_and_uninstalled_revisions_are_read(
    client: ClusterClient, helm_cli: Helm, namespace: str, tmp_path: Path
):
    broken = chart_file(tmp_path, build_chart(templates={"a.yaml": "apiVersion: v1\nkind: Nonsense\n"}))
    with pytest.raises(subprocess.CalledProcessError):
        helm_cli("install", "bad", broken, "-n", namespace)
    refused = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: Not_A_Name}\n"
    with pytest.raises(subprocess.CalledProcessError):
        helm_cli("install", "bad", chart_file(tmp_path, build_chart(templates={"a.yaml": refused})), "-n", namespace)
    release = (await stored(client, namespace, "bad"))[1]
    status = json.loads(helm_cli("status", "bad", "-n", namespace, "-o", "json"))
    assert (release.status, release.description) == ("failed", status["info"]["description"])
    good = chart_file(tmp_path, build_chart(templates={"a.yaml": config_map_template()}, values={"text": "x"}))
    helm_cli("install", "gone", good, "-n", namespace)
    helm_cli("uninstall", "gone", "--keep-history", "-n", namespace)
    assert (await stored(client, namespace, "gone"))[1].status == "uninstalled"


MERGES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"a": 1, "b": {"c": 1, "d": 2}}, {"a": None, "b": {"c": None}}),
    ({"a": None, "b": {"c": None, "d": {"e": None}}}, {}),
    ({}, {"a": None, "b": {"c": None}}),
    ({"a": None}, {"a": None}),
    ({"a": {"b": None}}, {"a": {"b": None}}),
    ({"a": {"b": 1}}, {"a": 7}),
    ({"a": 7}, {"a": {"b": 1}}),
    ({"a": [None, {"b": None}]}, {"c": [None]}),
    ({"a": 12345678901234567890, "b": 1e21, "c": 1e-7, "d": 0.1}, {"e": 9007199254740993}),
]


def random_values(chance: random.Random, depth: int = 3) -> Any:
    kind = chance.choice("nnsibdddl") if depth else chance.choice("nsib")
    if kind == "d":
        return {key: random_values(chance, depth - 1) for key in "abc" if chance.random() < 0.7}
    return {"n": None, "s": "text", "i": chance.randint(0, 9), "b": True, "l": [None, 1]}[kind]


async def test_values_merge_as_helm_merges_them(client: ClusterClient, helm_cli: Helm, namespace: str, tmp_path: Path):
    chance = random.Random(7)  # noqa: S311 - reproducible, no secret
    cases = [*MERGES]
    while len(cases) < 24:
        chart, own = random_values(chance), random_values(chance)
        if isinstance(chart, dict) and isinstance(own, dict):
            cases.append((chart, own))
    for number, (chart, own) in enumerate(cases):
        file = chart_file(tmp_path, build_chart(values=json.dumps(chart)))
        values = tmp_path / "values.json"
        values.write_text(json.dumps(own))
        name = f"m{number}"
        helm_cli("install", name, file, "-n", namespace, "-f", str(values))
        helm_says = json.loads(helm_cli("get", "values", name, "--all", "-o", "json", "-n", namespace)) or {}
        release = (await stored(client, namespace, name))[1]
        assert release.values == helm_says, (chart, own)
        uploaded = read_values(json.dumps(chart).encode(), file="values.yaml", max_bytes=10_000)
        asked = read_values(json.dumps(own).encode(), file="values.yaml", max_bytes=10_000)
        assert merge_values(uploaded, asked) == helm_says, (chart, own)


async def _lock(client: ClusterClient, namespace: str, name: str, revision: int, status: str) -> dict[str, Any]:
    """Make a revision look as a killed writer leaves it."""
    secret = await client.find_release_secret(namespace=namespace, name=name, revision=revision)
    assert secret is not None
    text = storage._with_info(storage.inflate_payload(secret, max_bytes=1 << 25).decode(), {"status": status})
    secret["data"]["release"] = encode_payload(text)
    secret["metadata"]["labels"]["status"] = status
    assert await client.replace_secret(secret)
    locked = await client.find_release_secret(namespace=namespace, name=name, revision=revision)
    assert locked is not None
    return locked


async def test_an_unlocked_release_can_be_used_by_helm_again(
    client: ClusterClient, helm_cli: Helm, namespace: str, tmp_path: Path
):
    chart = chart_file(tmp_path, web_chart())
    helm_cli("install", "web", chart, "-n", namespace, "--set", "message=привіт,big=12345678901234567890")
    locked = await _lock(client, namespace, "web", 1, "pending-install")
    with pytest.raises(subprocess.CalledProcessError) as refused:
        helm_cli("upgrade", "web", chart, "-n", namespace)
    assert "another operation" in refused.value.stderr
    before = decode_release(locked)
    assert await unlock(client, locked, reason="test")
    assert not await unlock(client, locked, reason="test")
    secret = await client.find_release_secret(namespace=namespace, name="web", revision=1)
    assert secret is not None
    assert secret["immutable"] is True
    after = decode_release(secret)
    assert (after.status, after.labels["status"]) == ("failed", "failed")
    assert "marked as failed by Pilothouse (test)" in after.description
    assert (after.values, after.manifest, after.uid) == (before.values, before.manifest, before.uid)
    history = json.loads(helm_cli("history", "web", "-n", namespace, "-o", "json"))
    assert [(row["status"], row["description"]) for row in history] == [("failed", after.description)]
    helm_cli("upgrade", "web", chart, "-n", namespace)
    assert (await stored(client, namespace, "web"))[2].status == "deployed"
    helm_cli("uninstall", "web", "-n", namespace)
    assert await stored(client, namespace, "web") == {}


async def test_a_late_write_to_an_unlocked_revision_is_refused(
    client: ClusterClient, helm_cli: Helm, namespace: str, tmp_path: Path
):
    helm_cli("install", "web", chart_file(tmp_path, web_chart()), "-n", namespace)
    locked = await _lock(client, namespace, "web", 1, "pending-upgrade")
    assert await unlock(client, locked, reason="test")
    late = await client.find_release_secret(namespace=namespace, name="web", revision=1)
    assert late is not None
    late["data"] = locked["data"]
    assert not await client.replace_secret({key: value for key, value in late.items() if key != "immutable"})


async def test_many_revisions_are_decoded_quickly(
    client: ClusterClient, helm_cli: Helm, namespace: str, tmp_path: Path
):
    helm_cli("install", "web", chart_file(tmp_path, web_chart()), "-n", namespace)
    secrets = [secret async for secret in client.list_release_secrets(namespace=namespace)]
    assert release_key(secrets[0]) is not None
    started = time.process_time()
    for _ in range(100):
        decode_release(secrets[0])
    assert time.process_time() - started < 0.5
