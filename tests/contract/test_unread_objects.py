"""Objects that an uninstall cannot read: they are the release's still, as long as nobody knows better."""

import contextlib
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from lightkube import ApiError, Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.generic_resource import create_global_resource
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.models.rbac_v1 import PolicyRule
from lightkube.resources.apiextensions_v1 import CustomResourceDefinition
from lightkube.resources.core_v1 import ConfigMap, Service

from tests.support.accounts import limited_account
from tests.support.charts import build_chart, config_map_template
from tests.support.plans import uploaded
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import RunningServer, wait_for
from tools.localcluster.cluster import RunningCluster

EVERYTHING = PolicyRule(apiGroups=[""], resources=["configmaps", "services"], verbs=["*"])
UNREAD = (
    PolicyRule(apiGroups=[""], resources=["configmaps"], verbs=["*"]),
    PolicyRule(apiGroups=[""], resources=["services"], verbs=["create", "patch", "delete"]),
)
CONFLICT = 409
SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}\n"
APIService = create_global_resource("apiregistration.k8s.io", "v1", "APIService", "apiservices")


@pytest.fixture(scope="module")
def api(kubernetes: RunningCluster) -> Iterator[Client]:
    client = Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False)
    yield client
    client.close()


def test_what_the_account_may_not_read_is_not_left_behind_without_a_word(
    *, server: RunningServer, namespace: str, kubernetes: RunningCluster, api: Client, helm_cli: HelmCommand
):
    """Helm skips it, deletes the record, and says so in a note."""
    name = f"unread-{uuid.uuid4().hex[:8]}"
    archive = build_chart(name, templates={"map.yaml": config_map_template(data='"x"'), "service.yaml": SERVICE})
    with limited_account(server, kubernetes.kubeconfig, namespace=namespace, rules=[EVERYTHING]) as account:
        release = OneRelease(account.server, namespace, "web", helm_cli)
        assert release.create(uploaded(account.server, archive, lints=False)).status_code == 201
        assert release.settled()["status"] == "DEPLOYED"
        account.allow(*UNREAD)
        assert release.delete().status_code == 200
        refused = release.settled()
        assert (
            "nothing was deleted, as some of its objects cannot be read: Service web: " in refused["status_description"]
        )
        assert api.get(Service, "web", namespace=namespace).metadata
        assert [one.metadata.name for one in api.list(ConfigMap, namespace=namespace) if one.metadata].count(
            "web-config"
        )
        assert release.statuses() == ["failed"]
        account.allow(EVERYTHING)
        assert release.delete().status_code == 200
        release.gone()
    with pytest.raises(ApiError):
        api.get(Service, "web", namespace=namespace)


@pytest.fixture
def group(api: Client) -> Iterator[str]:
    """Yield a group with the kind Thing, which some server of its own may serve in the end."""
    group = f"g{uuid.uuid4().hex[:8]}.example.com"
    crd: Any = CustomResourceDefinition.from_dict(
        {
            "metadata": {"name": f"things.{group}"},
            "spec": {
                "group": group,
                "scope": "Namespaced",
                "names": {"kind": "Thing", "plural": "things", "singular": "thing"},
                "versions": [
                    {
                        "name": "v1",
                        "served": True,
                        "storage": True,
                        "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
                    }
                ],
            },
        }
    )
    api.create(crd)
    yield group
    for kind, name in ((CustomResourceDefinition, f"things.{group}"), (APIService, f"v1.{group}")):
        with contextlib.suppress(ApiError):
            api.delete(kind, name)


def give_to_a_dead_server(api: Client, group: str) -> None:
    """Let a server that does not answer serve the group, as while an aggregated API server is rolled out."""
    api.delete(CustomResourceDefinition, f"things.{group}")
    name = f"v1.{group}"
    spec = {
        "group": group,
        "version": "v1",
        "groupPriorityMinimum": 1000,
        "versionPriority": 15,
        "insecureSkipTLSVerify": True,
        "service": {"name": "nobody", "namespace": "default", "port": 443},
    }

    def made() -> bool:
        try:
            api.create(APIService(metadata=ObjectMeta(name=name), spec=spec))
        except ApiError as error:
            if error.status.code != CONFLICT:  # that of the CRD is there still
                raise
            return False
        return True

    assert wait_for(made, seconds=30)


def test_the_objects_of_an_api_server_that_is_down_are_waited_for(
    *, server: RunningServer, namespace: str, api: Client, helm_cli: HelmCommand, group: str
):
    """The API server lists such a group without its kinds, as if it served none."""
    thing = f"apiVersion: {group}/v1\nkind: Thing\nmetadata: {{name: web}}\n"
    archive = build_chart(group, templates={"map.yaml": config_map_template(data='"x"'), "thing.yaml": thing})
    release = OneRelease(server, namespace, "web", helm_cli)
    chart_id = uploaded(server, archive, lints=False)
    wait_for(lambda: server.send("GET", f"/api/v1/clusters/{server.cluster_id}").is_success)
    assert release.create(chart_id).status_code == 201
    assert release.settled()["status"] == "DEPLOYED", release.settled()
    give_to_a_dead_server(api, group)
    deleted = release.delete()
    assert deleted.status_code == 200
    operation = f"/api/v1/operations/{deleted.headers['x-operation-id']}"
    words = f"the API server of {group}/v1 does not answer"
    assert wait_for(lambda: words in server.send("GET", operation).json()["last_error"], seconds=60)
    assert server.send("GET", operation).json()["state"] in {"queued", "running"}
    assert api.get(ConfigMap, "web-config", namespace=namespace).metadata
    api.delete(APIService, f"v1.{group}")
    release.gone(seconds=90)
    events = server.send("GET", f"{operation}/events").json()
    assert [one["text"] for one in events if one["kind"] == "object_left"][-1:] == [
        f"Thing web: the cluster serves no {group}/v1 any more"
    ]
