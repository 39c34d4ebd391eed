"""An install into a namespace that does not exist yet: refused at its field, or created if that is chosen."""

import uuid
from collections.abc import Iterator

import pytest
from lightkube import Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.resources.core_v1 import Namespace
from playwright.sync_api import expect

from pilothouse.console.plan_words import OPTIONS
from tests.support.browsers import PHONE, Visit
from tests.support.servers import RunningServer
from tools.localcluster.cluster import RunningCluster

CREATE = OPTIONS["create_namespace"]


@pytest.fixture
def missing(kubernetes: RunningCluster) -> Iterator[str]:
    """The name of a namespace that does not exist."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    yield name
    with Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False) as api:
        if exists(api, name):
            api.delete(Namespace, name)


def exists(api: Client, name: str) -> bool:
    return name in {one.metadata.name for one in api.list(Namespace) if one.metadata is not None}


def test_a_namespace_that_is_missing_is_told_at_its_field_and_created_by_the_plan_that_says_so(
    person: Visit, server: RunningServer, charts: dict[str, str], missing: str, kubernetes: RunningCluster
):
    page = person.page
    page.goto(f"{person.home}/install?chart={charts['plain']}")
    page.locator("[name=cluster]").select_option("test")
    page.locator("[name=namespace]").fill(missing)
    page.locator("[name=name]").fill("first")
    page.get_by_role("button", name="Plan it").click()
    expect(page.locator("#fault-namespace")).to_contain_text(f"'{missing}' does not exist")
    expect(page.locator("#fault-namespace")).to_contain_text(f"choose the option “{CREATE}”")
    expect(page.locator("[name=namespace]")).to_have_value(missing)
    page.get_by_label(CREATE).check()
    page.get_by_role("button", name="Plan it").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Install first")
    expect(page.locator("main")).to_contain_text(f"namespace '{missing}' will be created")
    expect(page.locator(".apply")).to_contain_text(CREATE)
    assert person.barriers() == []
    page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    assert person.overflow() <= 0
    with Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False) as api:
        assert not exists(api, missing), "a plan writes nothing"
        page.get_by_role("link", name="Change it").click()
        expect(page.get_by_label(CREATE)).to_be_checked()
        page.go_back()
        page.get_by_role("button", name="Install first").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("Succeeded", timeout=30_000)
        assert exists(api, missing)
    assert server.show(missing, "first").json()["status"] == "DEPLOYED"
