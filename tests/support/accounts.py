"""Accounts of a cluster with few rights, and the cluster registered once more to act as one of them."""

import dataclasses
import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml
from lightkube import Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.models.rbac_v1 import PolicyRule, RoleRef, Subject
from lightkube.resources.core_v1 import ServiceAccount
from lightkube.resources.rbac_authorization_v1 import Role, RoleBinding

from tests.support.servers import RunningServer

#: What is needed of the API server for a release in a namespace, whatever is in it.
RELEASE_RULES = (
    PolicyRule(apiGroups=[""], resources=["namespaces"], verbs=["get"]),
    PolicyRule(apiGroups=[""], resources=["secrets"], verbs=["get", "list", "create", "update", "delete"]),
)


@dataclasses.dataclass(frozen=True)
class LimitedAccount:
    """A service account with one role in its namespace; ``server`` acts as it."""

    server: RunningServer
    name: str
    namespace: str
    kubeconfig: Path

    def allow(self, *rules: PolicyRule) -> None:
        """From now on the account has exactly these rights, and those that every release needs."""
        api = Client(config=KubeConfig.from_file(self.kubeconfig), trust_env=False)
        metadata = ObjectMeta(name=self.name, namespace=self.namespace)
        api.replace(Role(metadata=metadata, rules=[*RELEASE_RULES, *rules]))
        api.close()


@contextmanager
def limited_account(
    server: RunningServer, kubeconfig: Path, *, namespace: str, rules: Sequence[PolicyRule] = ()
) -> Iterator[LimitedAccount]:
    """Yield a new account with these rights in the namespace, for as long as the context lasts."""
    name = f"limited-{uuid.uuid4().hex[:8]}"
    metadata = ObjectMeta(name=name, namespace=namespace)
    api = Client(config=KubeConfig.from_file(kubeconfig), trust_env=False)
    api.create(ServiceAccount(metadata=metadata))
    api.create(Role(metadata=metadata, rules=[*RELEASE_RULES, *rules]))
    subject = Subject(kind="ServiceAccount", name=name, namespace=namespace)
    role = RoleRef(apiGroup="rbac.authorization.k8s.io", kind="Role", name=name)
    api.create(RoleBinding(metadata=metadata, roleRef=role, subjects=[subject]))
    api.close()
    document = yaml.safe_load(kubeconfig.read_text())
    document["users"][0]["user"]["as"] = f"system:serviceaccount:{namespace}:{name}"
    body = {"name": name, "kubeconfig": json.dumps(document)}
    made = server.send("POST", "/api/v1/clusters", json_body=body)
    assert made.status_code == 201, made.text
    try:
        acting = dataclasses.replace(server, cluster_id=made.json()["id"])
        yield LimitedAccount(acting, name, namespace, kubeconfig)
    finally:
        server.send("DELETE", f"/api/v1/clusters/{made.json()['id']}")
