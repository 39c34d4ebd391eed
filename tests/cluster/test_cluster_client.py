"""The questions, asked of a real API server."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import yaml
from lightkube import AsyncClient
from lightkube.config.kubeconfig import KubeConfig
from lightkube.models.authentication_v1 import TokenRequestSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.models.rbac_v1 import PolicyRule, RoleRef, Subject
from lightkube.resources.core_v1 import Namespace, Secret, ServiceAccount, ServiceAccountToken
from lightkube.resources.rbac_authorization_v1 import Role, RoleBinding

from pilothouse.errors import ClusterDenied, ClusterUnavailable
from pilothouse.kubernetes import api_client
from pilothouse.kubernetes.addresses import Addresses
from pilothouse.kubernetes.client import ClusterClient
from pilothouse.kubernetes.kubeconfig import sanitise
from pilothouse.services.releases.namespaces import Namespaces
from pilothouse.settings import ClusterSettings
from tests.unit.kubernetes.test_kubeconfig import certificate

SETTINGS = ClusterSettings(allow_loopback=True)


def rebuilt(kubeconfig: str, *, cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None) -> str:
    """Return the sanitised kubeconfig with keys of its cluster replaced, or its user."""
    document = json.loads(sanitise(kubeconfig, addresses=Addresses(allow_loopback=True)).text)
    document["clusters"][0]["cluster"].update(cluster or {})
    if user is not None:
        document["users"][0]["user"] = user
    return sanitise(json.dumps(document), addresses=Addresses(allow_loopback=True)).text


@pytest.fixture
async def client(kubeconfig: str) -> AsyncIterator[ClusterClient]:
    made = ClusterClient(rebuilt(kubeconfig), SETTINGS)
    yield made
    await made.close()


@pytest.fixture
async def api(kubeconfig: str) -> AsyncIterator[AsyncClient]:
    """Full rights through another client."""
    made = AsyncClient(config=KubeConfig.from_dict(yaml.safe_load(kubeconfig)), trust_env=False)
    yield made
    await made.close()


async def put_revision(api: AsyncClient, namespace: str, name: str, revision: int, **fields: Any) -> None:
    labels = {"owner": "helm", "name": name, "version": str(revision), "status": fields.get("status", "deployed")}
    content = fields.get("content", b"x")
    await api.create(
        Secret(
            metadata=ObjectMeta(name=f"sh.helm.release.v1.{name}.v{revision}", namespace=namespace, labels=labels),
            type=fields.get("type", "helm.sh/release.v1"),
            data={"release": base64.b64encode(content).decode()},
        )
    )


async def test_probe_tells_the_version(client: ClusterClient):
    assert (await client.probe()).version.startswith("v1.")


async def test_a_question_takes_milliseconds_on_a_kept_connection(client: ClusterClient):
    await client.probe()
    taken = []
    for _ in range(20):
        started = time.monotonic()
        await client.namespace_exists("default")
        taken.append(time.monotonic() - started)
    assert sorted(taken)[10] < 0.05


async def test_a_namespace_is_there_or_not_or_going(client: ClusterClient, api: AsyncClient, namespace: str):
    assert await client.namespace_exists(namespace)
    name = f"{namespace}-made"
    assert not await client.namespace_exists(name)
    await api.create(Namespace(metadata=ObjectMeta(name=name)))
    assert await client.namespace_exists(name)
    held = Secret(metadata=ObjectMeta(name="held", namespace=name, finalizers=["example.test/hold"]))
    await api.create(held)
    await api.delete(Namespace, name)
    assert not await client.namespace_exists(name)
    await api.patch(Secret, "held", {"metadata": {"finalizers": None}}, namespace=name)


async def test_a_namespace_that_was_there_a_moment_ago_is_not_asked_for_again(
    client: ClusterClient, api: AsyncClient, namespace: str
):
    now = 100.0
    namespaces = Namespaces(monotonic=lambda: now)
    name = f"{namespace}-brief"
    assert not await namespaces.exists(client, name)
    await api.create(Namespace(metadata=ObjectMeta(name=name)))
    assert await namespaces.exists(client, name)
    await api.delete(Namespace, name)
    now += 4.0
    assert await namespaces.exists(client, name)
    now += 2.0
    assert not await namespaces.exists(client, name)


async def test_a_secret_that_was_read_lately_is_the_same(client: ClusterClient, api: AsyncClient, namespace: str):
    await put_revision(api, namespace, "web", 1)
    assert await client.find_release_secret(namespace=namespace, name="none", revision=1, allow_stale=True) is None
    for _ in range(100):  # the API server's cache hears of it a moment later
        allow_stale = await client.find_release_secret(namespace=namespace, name="web", revision=1, allow_stale=True)
        if allow_stale is not None:
            break
        await asyncio.sleep(0.05)
    assert allow_stale == await client.find_release_secret(namespace=namespace, name="web", revision=1)


async def test_the_newest_revision_is_current_though_the_cache_is_asked(
    client: ClusterClient, api: AsyncClient, namespace: str
):
    async def look() -> list[tuple[int, str]]:
        found = await client.list_release_labels(namespace=namespace, name="web", allow_stale=True)
        return sorted((one.revision, one.status) for one in found)

    assert await look() == []
    for revision in range(1, 8):  # each at once after it was made: the cache may not have it yet
        await put_revision(api, namespace, "web", revision)
        assert await look() == [(one, "deployed") for one in range(1, revision + 1)]
    patch = {"metadata": {"labels": {"status": "failed"}}}
    await api.patch(Secret, "sh.helm.release.v1.web.v7", patch, namespace=namespace)
    assert (await look())[-1] == (7, "failed")
    await api.delete(Secret, "sh.helm.release.v1.web.v7", namespace=namespace)
    assert (await look())[-1] == (6, "deployed")


async def test_a_release_is_absent_only_after_it_was_seen(client: ClusterClient, api: AsyncClient, namespace: str):
    await put_revision(api, namespace, "web", 1)
    (seen,) = await client.list_release_labels(namespace=namespace, name="web")
    for seen_at in ("", seen.resource_version):
        assert await client.find_absence(namespace=namespace, name="web", seen_at=seen_at) is None
    await api.delete(Secret, "sh.helm.release.v1.web.v1", namespace=namespace)
    for seen_at in (seen.resource_version, "", "odd"):
        absent_at = await client.find_absence(namespace=namespace, name="web", seen_at=seen_at)
        assert absent_at is not None
        assert absent_at > int(seen.resource_version)
    # a cache that has not come that far tells nothing, and is not believed
    assert await client.find_absence(namespace=namespace, name="web", seen_at=str(10**17)) is not None


async def test_labels_are_read_without_payloads(client: ClusterClient, api: AsyncClient, namespace: str):
    assert await client.list_release_labels(namespace=namespace, name="web") == []
    await put_revision(api, namespace, "web", 1, status="superseded")
    await put_revision(api, namespace, "web", 2)
    await put_revision(api, namespace, "other", 1)
    await put_revision(api, namespace, "web", 3, type="Opaque")
    found = await client.list_release_labels(namespace=namespace, name="web")
    assert sorted((one.revision, one.status) for one in found) == [(1, "superseded"), (2, "deployed")]
    assert found[0].labels["owner"] == "helm"


async def test_one_secret_is_found_or_not(client: ClusterClient, api: AsyncClient, namespace: str):
    await put_revision(api, namespace, "web", 1, content=b"payload")
    found = await client.find_release_secret(namespace=namespace, name="web", revision=1)
    assert found is not None
    assert base64.b64decode(found["data"]["release"]) == b"payload"
    assert await client.find_release_secret(namespace=namespace, name="web", revision=2) is None
    assert await client.find_release_secret(namespace=f"{namespace}-none", name="web", revision=1) is None


async def listed(client: ClusterClient, **which: Any) -> list[str]:
    return sorted([secret["metadata"]["name"] async for secret in client.list_release_secrets(**which)])


async def test_secrets_come_in_pages_and_can_be_chosen(
    client: ClusterClient, api: AsyncClient, make_namespace: Callable[[], str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(api_client, "_PAGE", 2)
    one, two = make_namespace(), make_namespace()
    for revision in range(1, 6):
        await put_revision(api, one, "a", revision, status="deployed" if revision == 5 else "superseded")
    await put_revision(api, one, "b", 1)
    await put_revision(api, two, "c", 1)
    await api.create(Secret(metadata=ObjectMeta(name="plain", namespace=one, labels={"owner": "helm"})))
    of_a = [f"sh.helm.release.v1.a.v{revision}" for revision in range(1, 6)]
    assert await listed(client, namespace=one) == [*of_a, "sh.helm.release.v1.b.v1"]
    assert await listed(client, namespace=one, name="a") == of_a
    assert await listed(client, namespace=one, superseded=False) == [of_a[4], "sh.helm.release.v1.b.v1"]
    everywhere = await listed(client)
    assert {*of_a, "sh.helm.release.v1.c.v1"} <= set(everywhere)
    assert "plain" not in everywhere


async def test_a_page_that_is_too_large_is_asked_for_in_parts(
    client: ClusterClient, api: AsyncClient, namespace: str, monkeypatch: pytest.MonkeyPatch
):
    for revision in range(1, 10):
        await put_revision(api, namespace, "big", revision, content=bytes(30_000))
    monkeypatch.setattr(api_client, "_LARGEST_ANSWER", 100_000)
    assert len(await listed(client, namespace=namespace)) == 9
    monkeypatch.setattr(api_client, "_LARGEST_ANSWER", 20_000)
    with pytest.raises(ClusterUnavailable, match="more than 20000 bytes in one answer"):
        await listed(client, namespace=namespace)


async def test_a_secret_is_written_back_only_unchanged(client: ClusterClient, api: AsyncClient, namespace: str):
    await put_revision(api, namespace, "web", 1)
    first = await client.find_release_secret(namespace=namespace, name="web", revision=1)
    assert first is not None
    first["data"]["release"] = base64.b64encode(b"new").decode()
    assert await client.replace_secret(first)
    assert not await client.replace_secret(first)
    second = await client.find_release_secret(namespace=namespace, name="web", revision=1)
    assert second is not None
    assert second["data"] == first["data"]
    second["metadata"]["name"] = "sh.helm.release.v1.web.v9"
    assert not await client.replace_secret(second)


@pytest.mark.parametrize("user", [{"token": "wrong"}, {"token": "a.b.c"}])
async def test_a_wrong_token_is_denied(kubeconfig: str, user: dict[str, str]):
    client = ClusterClient(rebuilt(kubeconfig, user=user), SETTINGS)
    started = time.monotonic()
    with pytest.raises(ClusterDenied, match=r"refuses the registered account \(401\): Unauthorized"):
        await client.probe()
    assert time.monotonic() - started < SETTINGS.answer_seconds
    await client.close()


async def test_a_client_certificate_that_the_server_does_not_know_is_denied(kubeconfig: str):
    authority, key = certificate("stranger")
    user = {"client-certificate-data": authority, "client-key-data": key}
    client = ClusterClient(rebuilt(kubeconfig, user=user), SETTINGS)
    with pytest.raises((ClusterDenied, ClusterUnavailable)):
        await client.probe()
    await client.close()


async def test_another_authority_is_not_trusted(kubeconfig: str):
    wrong = {"certificate-authority-data": certificate("wrong")[0]}
    client = ClusterClient(rebuilt(kubeconfig, cluster=wrong), SETTINGS)
    with pytest.raises(ClusterUnavailable, match="its certificate is not trusted"):
        await client.probe()
    await client.close()


async def test_an_account_without_rights_is_denied_in_kubernetes_words(
    kubeconfig: str, api: AsyncClient, namespace: str
):
    await api.create(ServiceAccount(metadata=ObjectMeta(name="weak", namespace=namespace)))
    request = ServiceAccountToken(metadata=ObjectMeta(), spec=TokenRequestSpec(audiences=[], expirationSeconds=600))
    token = (await api.create(request, "weak", namespace=namespace)).status
    assert token is not None
    client = ClusterClient(rebuilt(kubeconfig, user={"token": token.token}), SETTINGS)
    assert (await client.probe()).version
    with pytest.raises(ClusterDenied, match=rf"\(403\): secrets is forbidden: .*{namespace}:weak.* cannot list"):
        await client.list_release_labels(namespace=namespace, name="web")
    await client.close()


async def test_impersonation_decides_what_is_allowed(kubeconfig: str, api: AsyncClient, namespace: str):
    rule = PolicyRule(apiGroups=[""], resources=["secrets"], verbs=["list"])
    await api.create(Role(metadata=ObjectMeta(name="reader", namespace=namespace), rules=[rule]))
    await api.create(
        RoleBinding(
            metadata=ObjectMeta(name="reader", namespace=namespace),
            roleRef=RoleRef(apiGroup="rbac.authorization.k8s.io", kind="Role", name="reader"),
            subjects=[Subject(kind="Group", name="second,group", apiGroup="rbac.authorization.k8s.io")],
        )
    )
    admin = json.loads(rebuilt(kubeconfig))["users"][0]["user"]
    acting = {"as": "alice", "as-groups": ["first", "second,group"], "as-user-extra": {"example.test/reason": ["test"]}}
    client = ClusterClient(rebuilt(kubeconfig, user=admin | acting), SETTINGS)
    assert await client.list_release_labels(namespace=namespace, name="web") == []
    with pytest.raises(ClusterDenied, match='User "alice" cannot get'):
        await client.find_release_secret(namespace=namespace, name="web", revision=1)
    await client.close()
