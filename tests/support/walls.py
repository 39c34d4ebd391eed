"""A cluster registered behind a wall, by an account that may do nothing but impersonate the wall's user."""

import dataclasses
import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import yaml
from lightkube import Client, codecs
from lightkube.config.kubeconfig import KubeConfig
from lightkube.models.authentication_v1 import TokenRequestSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.models.rbac_v1 import PolicyRule, RoleRef, Subject
from lightkube.resources.core_v1 import ServiceAccountToken
from lightkube.resources.rbac_authorization_v1 import ClusterRole, ClusterRoleBinding, Role, RoleBinding

from tests.support.own_releases import OwnRelease
from tests.support.releases import HelmCommand
from tests.support.servers import RunningServer

_PAGE = Path(__file__).parents[2] / "docs/how-to/namespace-walls.md"
RBAC = "rbac.authorization.k8s.io"


@dataclasses.dataclass(frozen=True)
class Tenant:
    """The user of a wall, who has rights in these namespaces; ``kubeconfig`` is the account's that may impersonate."""

    name: str
    group: str
    namespaces: Sequence[str]
    kubeconfig: str = dataclasses.field(repr=False)

    def wall(self, **changed: Any) -> dict[str, Any]:
        """Return the wall as the API takes it."""
        return {"namespaces": list(self.namespaces), "user": self.name, "groups": [self.group], **changed}


@dataclasses.dataclass(frozen=True)
class WalledCluster:
    """A registered cluster with a wall; ``server`` acts there."""

    server: RunningServer
    tenant: Tenant
    helm: HelmCommand

    @property
    def path(self) -> str:
        return f"/api/v1/clusters/{self.server.cluster_id}"

    def release(self, name: str, namespace: str = "") -> OwnRelease:
        """Return a release of that name, by default in the first namespace of the wall."""
        return OwnRelease(self.server, namespace or self.tenant.namespaces[0], name, self.helm)

    def set_wall(self, wall: dict[str, Any] | None, server: RunningServer | None = None) -> httpx2.Response:
        """Set or (None) remove the wall."""
        return (server or self.server).send("PUT" if wall else "DELETE", f"{self.path}/wall", json_body=wall)


@contextmanager
def make_tenant(kubeconfig: Path, *namespaces: str) -> Iterator[Tenant]:
    """Yield a user with rights in the namespaces, which has no account, and the account that may impersonate it."""
    name, own = f"tenant-{uuid.uuid4().hex[:8]}", namespaces[0]
    group = f"{name}s"
    with Client(config=KubeConfig.from_file(kubeconfig), trust_env=False) as api:
        for made in _objects_of_page(name, own):
            api.create(made)
        for namespace in namespaces[1:]:
            bind(api, name, RoleRef(apiGroup=RBAC, kind="ClusterRole", name="edit"), namespace)
        asked = ServiceAccountToken(metadata=ObjectMeta(), spec=TokenRequestSpec(audiences=[]))
        given = api.create(asked, "pilothouse", namespace=own).status
        assert given is not None
        try:
            yield Tenant(name, group, namespaces, _as_account(kubeconfig, str(given.token)))
        finally:
            api.delete(ClusterRoleBinding, name)
            api.delete(ClusterRole, name)


def _objects_of_page(user: str, namespace: str) -> list[Any]:
    """Return the objects that the page on walls shows, with these names in place of its own."""
    manifest = _PAGE.read_text().split("```yaml\n")[1].split("```")[0]
    for theirs, ours in (
        ("shop-deployer", user),
        ("pilothouse-shop", user),
        ("namespace: shop", f"namespace: {namespace}"),
        ("namespace: pilothouse", f"namespace: {namespace}"),
    ):
        assert theirs in manifest
        manifest = manifest.replace(theirs, ours)
    return list(codecs.load_all_yaml(manifest))


def bind(api: Client, user: str, role: RoleRef, namespace: str) -> None:
    """Give the user that role in the namespace."""
    subject = Subject(apiGroup=RBAC, kind="User", name=user)
    api.create(RoleBinding(metadata=ObjectMeta(name=user, namespace=namespace), roleRef=role, subjects=[subject]))


def allow(api: Client, user: str, namespace: str, rules: Sequence[PolicyRule]) -> None:
    """Give the user these rights in the namespace."""
    api.create(Role(metadata=ObjectMeta(name=user, namespace=namespace), rules=list(rules)))
    bind(api, user, RoleRef(apiGroup=RBAC, kind="Role", name=user), namespace)


def _as_account(kubeconfig: Path, token: str) -> str:
    document = yaml.safe_load(kubeconfig.read_text())
    document["users"][0]["user"] = {"token": token}
    return json.dumps(document)


@contextmanager
def walled_cluster(server: RunningServer, tenant: Tenant, helm: HelmCommand) -> Iterator[WalledCluster]:
    """Yield the cluster registered with the tenant's wall, in one request."""
    name = f"walled-{uuid.uuid4().hex[:8]}"
    body = {"name": name, "kubeconfig": tenant.kubeconfig, "wall": tenant.wall()}
    made = server.send("POST", "/api/v1/clusters", json_body=body)
    assert made.status_code == 201, made.text
    acting = dataclasses.replace(server, cluster_id=made.json()["id"])
    try:
        yield WalledCluster(acting, tenant, helm)
    finally:
        server.send("DELETE", f"/api/v1/clusters/{acting.cluster_id}")
