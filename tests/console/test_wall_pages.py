"""Walls on pages: seen by everybody, set and removed by an administrator of the account, told with a release."""

import re
import uuid
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.support.browsers import Visit, visit
from tests.support.charts import config_map_chart
from tests.support.releases import HelmCommand
from tests.support.servers import RunningServer
from tests.support.users import PASSWORD, add_person
from tests.support.walls import Tenant, WalledCluster, make_tenant, walled_cluster
from tools.localcluster.cluster import RunningCluster


@pytest.fixture(scope="module")
def tenant(kubernetes: RunningCluster, make_namespace: Callable[[], str]) -> Iterator[Tenant]:
    with make_tenant(kubernetes.kubeconfig, make_namespace(), make_namespace()) as made:
        yield made


@pytest.fixture
def walled(server: RunningServer, tenant: Tenant, helm_cli: HelmCommand) -> Iterator[WalledCluster]:
    with walled_cluster(server, tenant, helm_cli) as made:
        yield made


def name_of(walled: WalledCluster) -> str:
    return str(walled.server.send("GET", walled.path).json()["name"])


def test_a_cluster_is_added_behind_a_wall_and_refusals_stand_at_their_field(
    person: Visit, server: RunningServer, tenant: Tenant
):
    page, name = person.page, f"behind-{uuid.uuid4().hex[:8]}"
    page.goto(f"{person.home}/clusters/new")
    page.get_by_text("Behind a wall").click()
    right = {"Namespaces": ", ".join(tenant.namespaces), "User to act as": tenant.name, "Groups": tenant.group}
    for field, text, at, told in (
        ("Namespaces", f"{tenant.namespaces[0]} there-is-none-{name}", "namespaces", "may not get the namespace"),
        ("Namespaces", "Not_A_Name", "namespaces", "cannot be the name of a namespace"),
        ("User to act as", "somebody-else", "user", "may not impersonate 'somebody-else'"),
        ("User to act as", "", "user", "User to act as: missing"),
    ):
        page.get_by_label("Name", exact=True).fill(name)
        page.get_by_label("Kubeconfig").fill(tenant.kubeconfig)
        for label, value in (right | {field: text}).items():
            page.get_by_label(label).fill(value)
        page.get_by_role("button", name="Add the cluster").click()
        expect(page.locator(f"#fault-{at}")).to_contain_text(told)
        for label, value in (right | {field: text}).items():
            expect(page.get_by_label(label)).to_have_value(value)
        expect(page.get_by_label("Kubeconfig")).to_have_value(tenant.kubeconfig)
    page.get_by_label("User to act as").fill(tenant.name)
    page.get_by_role("button", name="Add the cluster").click()
    expect(page.locator("#wall")).to_contain_text(f"acts as the user {tenant.name} in the group {tenant.group}")
    made = next(one for one in server.send("GET", "/api/v1/clusters").json() if one["name"] == name)
    assert made["wall"] == tenant.wall()
    page.goto(f"{person.home}/clusters")
    expect(page.locator("tbody tr", has_text=name)).to_contain_text(f"as {tenant.name}")
    expect(page.locator("tbody tr", has=page.get_by_role("link", name="test", exact=True))).to_contain_text(
        "every namespace that its account reaches"
    )
    assert server.send("DELETE", f"/api/v1/clusters/{made['id']}").is_success


def test_a_wall_is_changed_removed_and_set_again(person: Visit, walled: WalledCluster, tenant: Tenant):
    page, name = person.page, name_of(walled)
    page.goto(f"{person.home}/clusters/{name}")
    page.get_by_text("Change the wall").first.click()
    expect(page.get_by_label("Namespaces")).to_have_value("\n".join(tenant.namespaces))
    page.get_by_label("Namespaces").fill(f"{tenant.namespaces[0]}\nnowhere-{name}")
    page.get_by_role("button", name="Change the wall").click()
    expect(page.locator("#fault-namespaces")).to_contain_text(f"nowhere-{name}")
    page.get_by_label("Namespaces").fill(tenant.namespaces[1])
    page.get_by_role("button", name="Change the wall").click()
    expect(page.locator("#wall p").first).to_contain_text(f"works only in {tenant.namespaces[1]}.")
    page.get_by_text("Remove the wall").first.click()
    page.get_by_label(re.compile("to confirm")).first.fill("another")
    page.get_by_role("button", name="Remove the wall").click()
    expect(page.locator("#wall").get_by_role("alert")).to_contain_text(f"type the cluster's name, {name}")
    page.get_by_label(re.compile("to confirm")).first.fill(name)
    page.get_by_role("button", name="Remove the wall").click()
    expect(page.locator("#wall")).to_contain_text("There is no wall.")
    assert walled.server.send("GET", walled.path).json()["wall"] is None
    page.get_by_text("Set a wall").click()
    page.get_by_label("Namespaces").fill(tenant.namespaces[0])
    page.get_by_label("User to act as").fill(tenant.name)
    page.get_by_role("button", name="Set the wall").click()
    expect(page.locator("#wall p").first).to_contain_text(f"works only in {tenant.namespaces[0]}.")


def test_a_wall_that_another_changed_meanwhile_is_neither_replaced_nor_removed(
    person: Visit, walled: WalledCluster, tenant: Tenant
):
    page, name = person.page, name_of(walled)
    for word, place in (("Change the wall", tenant.namespaces[0]), ("Remove the wall", tenant.namespaces[1])):
        page.goto(f"{person.home}/clusters/{name}")
        page.get_by_text(word).first.click()
        if word.startswith("Change"):
            page.get_by_label("Namespaces").fill("\n".join(reversed(tenant.namespaces)))
        else:
            page.get_by_label(re.compile("to confirm")).first.fill(name)
        changed = walled.set_wall(tenant.wall(namespaces=[place]))
        assert changed.is_success, changed.text
        page.get_by_role("button", name=word).click()
        expect(page.locator("#wall").get_by_role("alert")).to_contain_text("the wall was changed since it was shown")
        expect(page.locator("#wall p").filter(has_text="works only in").first).to_contain_text(f"in {place}.")
        assert walled.server.send("GET", walled.path).json()["wall"]["namespaces"] == [place]


def test_a_release_tells_as_whom_the_project_acts(
    person: Visit, walled: WalledCluster, namespace: str, install: Callable[[str], None]
):
    install("plainly")
    person.open_release(namespace, "plainly")
    expect(person.page.locator("main .facts")).to_contain_text("in every namespace that it reaches. A wall would limit")
    answer = walled.server.upload(config_map_chart(f"walled-{uuid.uuid4().hex[:6]}"))
    web = walled.release(f"web-{uuid.uuid4().hex[:6]}")
    web.deployed(str(answer.json()["id"]))
    page = person.page
    page.goto(f"{person.home}/releases/{name_of(walled)}/{web.namespace}/{web.name}")
    expect(page.locator("main .facts")).to_contain_text(f"{walled.tenant.name}, limited to some namespaces by a wall")
    page.locator("main .facts").get_by_role("link", name="wall").click()
    expect(page.locator("#wall")).to_contain_text(walled.tenant.name)


@pytest.mark.parametrize("role", ["readonly", "te_admin"])
def test_who_is_no_administrator_of_the_account_sees_the_wall_and_no_form(
    browser: Browser, server: RunningServer, walled: WalledCluster, role: str
):
    somebody = add_person(server, role, project_id=server.project_id)
    with visit(browser, server) as they:
        they.log_in(name=somebody.name, password=PASSWORD)
        page = they.page
        page.goto(f"{they.home}/clusters/{name_of(walled)}")
        expect(page.locator("#wall")).to_contain_text(walled.tenant.name)
        expect(page.locator("#wall")).to_contain_text("it takes pilothouse:wall:update")
        expect(page.locator("#wall form")).to_have_count(0)
        page.goto(f"{they.home}/clusters/test")
        expect(page.locator("#wall")).to_contain_text("There is no wall.")


def test_pages_of_walls_are_free_of_barriers_and_fit_a_phone(person: Visit, walled: WalledCluster):
    for name, path in {
        "clusters-walled": "clusters",
        "cluster-walled": f"clusters/{name_of(walled)}",
        "cluster-new-walled": "clusters/new",
    }.items():
        person.page.goto(f"{person.home}/{path}")
        person.unfold()
        person.inspect(name)
