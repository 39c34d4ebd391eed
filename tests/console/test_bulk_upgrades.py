"""Several releases at once go to the newest version that the source of their chart offers."""

import re
import uuid
from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.support.browsers import Visit
from tests.support.chart_sources import Repository
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import RunningServer


def install_of(server: RunningServer, namespace: str, source: str, name: str) -> None:
    path = f"/api/v1/clusters/{server.cluster_id}/namespaces/{namespace}/releases/{name}"
    chart = {"source": source, "name": "webapp", "version": "1.0.0"}
    body = {"chart": chart, "values": [{"object": {"text": "mine"}}]}
    answer = server.send("PUT", path, json_body=body, headers={"Prefer": "wait=60"}, timeout=90)
    assert answer.json().get("state") == "succeeded", answer.text


def choose(person: Visit, namespace: str, *names: str) -> Page:
    person.page.goto(f"{person.home}/releases?namespace={namespace}")
    for name in names:
        person.page.get_by_label(f"Choose {name}").check()
    person.page.get_by_role("button", name="Upgrade").click()
    return person.page


def test_several_go_to_the_version_that_their_source_offers_and_keep_their_values(  # noqa: PLR0917 (fixtures)
    person: Visit, server: RunningServer, namespace: str, helm_cli: HelmCommand, source: tuple[str, Repository],
    install: Callable[[str], None],
):  # fmt: skip
    part = uuid.uuid4().hex[:6]
    names, uploaded = (f"a-{part}", f"b-{part}"), f"c-{part}"
    for name in names:
        install_of(server, namespace, source[0], name)
    install(uploaded)
    page = choose(person, namespace, *names, uploaded)
    expect(page.get_by_role("heading", level=1)).to_contain_text("Upgrade 2 releases")
    expect(page.locator("tbody")).to_contain_text(f"to version 1.1.0, of source {source[0]}")
    expect(page.locator(".blocking")).to_contain_text(uploaded)
    expect(page.locator(".blocking")).to_contain_text("its chart is of no source of this project")
    page.locator("tbody tr", has_text=names[0]).get_by_role("link", name=re.compile("^plan it")).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(names[0])
    page.go_back()
    page.get_by_role("button", name="Upgrade 2").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Upgrade: 2 of 2 ordered")
    expect(page.locator("#list .state", has_text="Succeeded")).to_have_count(2, timeout=30_000)
    for name in names:
        one = OneRelease(server, namespace, name, helm_cli)
        assert one.statuses() == ["superseded", "deployed"]
        assert one.history()[-1]["chart"] == "webapp-1.1.0"
        assert "text: mine" in helm_cli("get", "values", name, "-n", namespace)
    page = choose(person, namespace, *names)
    expect(page.get_by_role("heading", level=1)).to_contain_text("Nothing to upgrade")
    expect(page.locator(".blocking")).to_contain_text(f"source {source[0]} offers no newer version of its chart")


def test_a_release_that_has_moved_since_it_was_shown_is_not_upgraded(
    person: Visit, server: RunningServer, namespace: str, helm_cli: HelmCommand, source: tuple[str, Repository]
):
    install_of(server, namespace, source[0], "moving")
    page = choose(person, namespace, "moving")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Upgrade 1 release")
    install_of(server, namespace, source[0], "moving")
    page.get_by_role("button", name="Upgrade 1").click()
    expect(page.locator("tr.bad")).to_contain_text("it is at revision 2 now")
    assert len(OneRelease(server, namespace, "moving", helm_cli).history()) == 2
    page.goto(f"{person.home}/releases/bulk?do=destroy&release=a/b/c")
    expect(page.get_by_role("alert")).to_contain_text(re.compile("upgrade, rollback, uninstall"))
