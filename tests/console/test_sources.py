"""Chart sources on pages: added, searched, read, installed from, synchronised and removed."""

import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.support.browsers import Visit, visit
from tests.support.chart_sources import USER, Registry, Repository, added, registry, repository
from tests.support.charts import build_chart, config_map_chart, config_map_template
from tests.support.offered_charts import KINDS, Offered, offered
from tests.support.releases import HelmCommand
from tests.support.servers import RunningServer
from tests.support.signing import pgp_key, signed
from tests.support.users import PASSWORD, add_person
from tools.localcluster.cluster import RunningCluster

Source = tuple[str, Repository]


def test_a_source_is_added_and_removed_and_refusals_stand_at_their_field(person: Visit, source: Source):
    page, name = person.page, f"made-{uuid.uuid4().hex[:8]}"
    page.goto(f"{person.home}/charts")
    page.get_by_role("link", name="Sources", exact=True).click()
    for field, text, at, told in (
        ("Name", source[0], "name", f"already has a source named '{source[0]}'"),
        ("Name", "Not A Name", "name", "is not the name of a source"),
        ("Address", "ftp://somewhere", "url", "begins with https://"),
        ("Address", "https://localhost:1/nothing", "url", "localhost:1"),
        ("Certificates", "no certificate", "ca", "no certificate in PEM form"),
    ):
        if not page.get_by_label("Name", exact=True).is_visible():
            page.get_by_text("Add a source").click()
        given = {"Name": name, "Address": source[1].url, "Certificates": source[1].ca, field: text}
        for label, value in given.items():
            page.get_by_label(re.compile(f"^{label}")).fill(value)
        page.get_by_label("Password or token").fill("never shown")
        page.get_by_role("button", name="Add the source").click()
        expect(page.locator(f"#fault-{at}")).to_contain_text(told)
        expect(page.get_by_label(re.compile(f"^{field}"))).to_have_value(text)
        expect(page.get_by_label("Password or token")).to_have_value("")
    page.get_by_label(re.compile("^Certificates")).fill(source[1].ca)
    page.get_by_role("button", name="Add the source").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(name)
    expect(page.locator("tbody tr")).to_have_count(2)
    person.remove("source", name, word="Remove")
    expect(page.get_by_role("link", name=source[0])).to_be_visible()
    expect(page.get_by_role("link", name=name)).to_have_count(0)


def test_a_chart_is_found_read_and_installed_in_the_version_that_was_chosen(
    person: Visit, source: Source, namespace: str, server: RunningServer
):
    page = person.page
    page.goto(f"{person.home}/sources")
    page.keyboard.press("/")
    page.keyboard.type("what webapp is")
    row = page.locator("tbody tr", has_text=source[0])
    expect(row).to_contain_text("1.1.0")
    expect(page).to_have_url(re.compile(r"[?&]q=what"))
    page.keyboard.press("ArrowDown")
    row.get_by_role("link", name="webapp", exact=True).click()
    expect(page.locator("tbody .name")).to_have_text(["2.0.0-rc.1", "1.1.0", "1.0.0"])
    page.get_by_role("link", name="1.0.0", exact=True).click()
    expect(page.locator("pre.text")).to_contain_text("Read me before 1.0.0.")
    expect(page.locator("pre.code")).to_contain_text("of 1.0.0")
    page.get_by_role("link", name="Install", exact=True).click()
    expect(page.get_by_label("Chart", exact=True).locator("option:checked")).to_have_text(
        f"webapp 1.0.0 (of source {source[0]})"
    )
    page.locator("select[name=cluster]").select_option("test")
    page.get_by_role("textbox", name="Namespace").fill(namespace)
    page.get_by_role("textbox", name="Name of the release").fill("sourced")
    page.get_by_role("button", name="Plan it").click()
    page.get_by_role("button", name="Install sourced").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Succeeded", timeout=30_000)
    page.goto(f"{person.home}/sources/{source[0]}/charts/webapp/1.1.0")
    one = page.locator("#releases li", has_text=namespace)
    expect(one).to_contain_text("has 1.0.0")
    one.get_by_role("link", name=re.compile("^change to this")).click()
    expect(page.get_by_label("Chart", exact=True).locator("option:checked")).to_have_text(
        f"webapp 1.1.0 (of source {source[0]})"
    )
    person.open_release(namespace, "sourced", "/change")
    expect(page.get_by_label("Chart", exact=True).locator("option:checked")).to_have_text(
        f"webapp 1.0.0 (of source {source[0]})"
    )
    assert server.show(namespace, "sourced").json()["chart_version"] == "1.0.0"
    page.goto(f"{person.home}/sources/{source[0]}")
    page.get_by_text("Remove this source").click()
    expect(page.locator("#delete")).to_contain_text(re.compile("made from its charts: .*sourced"))


def test_a_source_that_fails_says_why_and_shows_what_it_had(person: Visit):
    page, name = person.page, f"fails-{uuid.uuid4().hex[:8]}"
    chart = build_chart("lasting", "1.0.0", templates={"c.yaml": config_map_template()}, values={"text": "x"})
    index = "apiVersion: v1\nentries: {lasting: [{apiVersion: v2, name: lasting, version: 1.0.0, urls: [l.tgz]}]}\n"
    with repository() as serving:
        serving.files |= {"index.yaml": index.encode(), "l.tgz": chart}
        body = {"name": name, "kind": "http", "url": serving.url, "ca": serving.ca, "sync_seconds": 0}
        with added(person.server, body):
            del serving.files["index.yaml"]
            page.goto(f"{person.home}/sources/{name}")
            page.get_by_role("button", name="Synchronise now").click()
            expect(page.get_by_role("alert")).to_contain_text("404")
            expect(page.get_by_role("heading", level=1)).to_contain_text("Not synchronised")
            expect(page.locator("tbody tr")).to_contain_text("lasting")
            serving.files["index.yaml"] = index.replace("1.0.0", "1.0.1").encode()
            page.get_by_role("button", name="Synchronise now").click()
            expect(page.get_by_role("heading", level=1)).to_contain_text("Synchronised")
            expect(page.locator("tbody tr")).to_contain_text("1.0.1")


@pytest.fixture(scope="module")
def real_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry("distribution", tmp_path_factory.mktemp("registry")) as running:
        yield running


def test_a_chart_of_a_registry_is_opened_by_its_name(
    person: Visit, real_registry: Registry, kubernetes: RunningCluster
):
    page, name = person.page, f"oci-{uuid.uuid4().hex[:8]}"
    chart = build_chart("pushed", "0.3.0", templates={"c.yaml": config_map_template()}, values={"text": "pushed"})
    with added(person.server, real_registry.as_source(name, folder="pages")):
        page.goto(f"{person.home}/sources/{name}")
        page.get_by_label("Name", exact=True).fill("pushed")
        page.get_by_role("button", name="Open it").click()
        expect(page.locator("#fault-name")).to_contain_text("has no chart 'pushed'")
        expect(page.get_by_label("Name", exact=True)).to_have_value("pushed")
        real_registry.push(kubernetes.helm, chart, folder="pages")
        page.get_by_label("Version or range").fill("^0.3")
        page.get_by_role("button", name="Open it").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("pushed 0.3.0")
        expect(page.locator("pre.code")).to_contain_text("pushed")


@pytest.mark.parametrize("kind", KINDS)
def test_a_release_is_installed_from_each_kind_of_source_and_updated_to_what_is_available(
    *, person: Visit, kind: str, namespace: str, server: RunningServer, helm_cli: HelmCommand,
    kubernetes: RunningCluster, tmp_path: Path,
):  # fmt: skip
    page = person.page

    def apply() -> None:
        page.get_by_role("button", name="Plan it").click()
        page.get_by_role("button", name=re.compile("^(Install|Upgrade) ")).click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("Succeeded", timeout=30_000)

    with offered(kind, tmp_path, helm=kubernetes.helm, helm_cli=helm_cli) as source:
        source.offer(config_map_chart("webapp", "1.0.0", text="first"))
        page.goto(f"{person.home}/sources")
        page.get_by_text("Add a source").click()
        given = {"Name": source.name, "Address": source.url, "Certificates": source.ca}
        for label, text in given.items():
            page.get_by_label(re.compile(f"^{label}")).fill(text)
        if source.password:
            page.get_by_label("User name").fill(USER)
            page.get_by_label("Password or token").fill(source.password)
        page.get_by_role("button", name="Add the source").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text(source.name)
        try:
            page.get_by_role("link", name="webapp", exact=True).click()
            page.get_by_role("link", name="1.0.0", exact=True).click()
            page.get_by_role("link", name="Install", exact=True).click()
            page.locator("select[name=cluster]").select_option("test")
            page.get_by_role("textbox", name="Namespace").fill(namespace)
            page.get_by_role("textbox", name="Name of the release").fill("web")
            apply()
            person.open_release(namespace, "web")
            expect(page.get_by_text("of the chart is available")).to_have_count(0)

            source.offer(config_map_chart("webapp", "1.1.0", text="second"))
            page.goto(f"{person.home}/sources/{source.name}")
            page.get_by_role("button", name="Synchronise now").click()
            expect(page.locator("tbody tr", has_text="webapp")).to_contain_text("1.1.0")
            person.open_release(namespace, "web")
            expect(page.get_by_text("Version 1.1.0 of the chart is available")).to_be_visible()
            page.get_by_role("link", name="Look at it").click()
            page.locator("#releases li", has_text=namespace).get_by_role("link", name=re.compile("^change to")).click()
            chosen = page.get_by_label("Chart", exact=True).locator("option:checked")
            expect(chosen).to_have_text(f"webapp 1.1.0 (of source {source.name})")
            person.open_release(namespace, "web")
            page.get_by_role("link", name="change the release").click()
            expect(chosen).to_have_text(f"webapp 1.1.0 (of source {source.name})")
            apply()
            assert "second" in helm_cli("get", "manifest", "web", "-n", namespace)
            person.open_release(namespace, "web")
            expect(page.get_by_text("of the chart is available")).to_have_count(0)
        finally:
            server.send("DELETE", f"/api/v1/sources/{source.name}")
        go_on_without(source, person, namespace, helm_cli)


def go_on_without(source: Offered, person: Visit, namespace: str, helm_cli: HelmCommand) -> None:
    """Go back and uninstall when the source is gone: the revisions hold what they need."""
    page = person.page
    page.reload()
    told = page.locator("dt", has_text="Source of the chart").locator("xpath=following-sibling::dd[1]")
    expect(told).to_contain_text(f"{source.name} ({source.url}), removed")
    expect(page.get_by_text(f"unknown, as its source {source.name} was removed")).to_be_visible()
    person.open_release(namespace, "web", "/rollback?to=1")
    page.get_by_role("button", name="Plan going back to revision 1").click()
    page.get_by_role("button", name="Roll web back to revision 1").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Succeeded", timeout=30_000)
    assert "first" in helm_cli("get", "manifest", "web", "-n", namespace)
    person.open_release(namespace, "web", "/uninstall")
    page.get_by_label(re.compile("to confirm")).fill("web")
    page.get_by_role("button", name="Uninstall", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Succeeded", timeout=30_000)
    assert "web" not in helm_cli("list", "-q", "-n", namespace).split()


def test_a_change_begins_with_the_archive_that_the_release_has(
    person: Visit, namespace: str, server: RunningServer, tmp_path: Path, *, helm_cli: HelmCommand,
    kubernetes: RunningCluster,
):  # fmt: skip
    """Archives of one name and version can differ: an uploaded one, and that of a source."""
    page = person.page
    with offered("http", tmp_path, helm=kubernetes.helm, helm_cli=helm_cli) as source:
        source.offer(config_map_chart("webapp", "1.0.0", text="of the source"))
        server.send("POST", "/api/v1/sources", json_body=source.body).raise_for_status()
        try:
            uploaded = server.upload(
                config_map_chart("webapp", "1.0.0", text="uploaded"), parameters='{"override": true}'
            )
            assert uploaded.status_code == 201, uploaded.text
            pulled = {"source": source.name, "name": "webapp", "version": "1.0.0"}
            for name, chart in (("of-source", pulled), ("of-upload", {"id": uploaded.json()["id"]})):
                path = f"/api/v1/clusters/{server.cluster_id}/namespaces/{namespace}/releases/{name}"
                made = server.send("PUT", path, json_body={"chart": chart}, headers={"Prefer": "wait=30"})
                assert made.status_code in {200, 201}, made.text
            for name, origin in (("of-source", f"of source {source.name}"), ("of-upload", "uploaded")):
                person.open_release(namespace, name)
                page.goto(f"{page.url}/change")
                chosen = page.get_by_label("Chart", exact=True).locator("option:checked")
                expect(chosen).to_have_text(f"webapp 1.0.0 ({origin})")
            page.goto(f"{page.url}?source={source.name}&version=9.9.9")
            expect(page.get_by_text("9.9.9").first).to_be_visible()
            expect(page.get_by_label("Chart", exact=True)).to_be_visible()
        finally:
            server.send("DELETE", f"/api/v1/sources/{source.name}")


def test_the_list_of_charts_names_who_signed_one(person: Visit, server: RunningServer, kubernetes: RunningCluster):
    page, name, key = person.page, f"signed-{uuid.uuid4().hex[:8]}", pgp_key("console")
    archive, provenance = signed(kubernetes.helm, config_map_chart(name, "1.0.0"), key)
    assert server.send("PUT", "/api/v1/verification", json_body={"keys": key.public}).status_code == 200
    try:
        assert server.upload(archive, provenance=provenance).status_code == 201
        assert server.upload(config_map_chart(f"{name}-not", "1.0.0")).status_code == 201
        page.goto(f"{person.home}/charts")
        row = page.locator("tbody tr", has=page.get_by_role("link", name=name, exact=True))
        expect(row).to_contain_text(f"signed by {key.user}")
        expect(page.locator("tbody tr", has_text=f"{name}-not")).not_to_contain_text("signed by")
    finally:
        server.send("PUT", "/api/v1/verification", json_body={"keys": ""})
    page.reload()
    expect(row).to_have_count(1)
    expect(row).not_to_contain_text("signed by")


def test_sources_can_be_read_without_scripts(browser: Browser, server: RunningServer, source: Source):
    with visit(browser, server, scripts=False) as reader:
        reader.log_in()
        page = reader.page
        page.goto(f"{reader.home}/sources")
        page.get_by_role("searchbox").fill("tools")
        page.get_by_role("button", name="Search").click()
        page.locator("tbody tr", has_text=source[0]).get_by_role("link", name="tools", exact=True).click()
        page.get_by_role("link", name="0.1.0", exact=True).click()
        expect(page.locator("pre.text")).to_contain_text("Read me before 0.1.0.")


def test_who_may_only_look_at_sources_is_offered_no_write(browser: Browser, server: RunningServer, source: Source):
    viewer = add_person(server, "readonly", project_id=server.project_id)
    with visit(browser, server) as looking:
        looking.log_in(name=viewer.name, password=PASSWORD)
        page = looking.page
        page.goto(f"{looking.home}/sources")
        expect(page.get_by_text("Add a source")).to_have_count(0)
        page.get_by_role("link", name=source[0]).click()
        for offered in ("Synchronise now", "Remove"):
            expect(page.get_by_role("button", name=offered)).to_have_count(0)
        page.get_by_role("link", name="webapp", exact=True).click()
        expect(page.get_by_role("link", name=re.compile("install", re.IGNORECASE))).to_have_count(0)


HOSTILE = "<script>alert(1)</script><img src=//evil.example/x onerror=alert(2)>\u202etxet"


def test_texts_of_a_source_are_texts(person: Visit):
    page, name = person.page, f"evil-{uuid.uuid4().hex[:8]}"
    chart = build_chart("evil", "1.0.0", values={"text": HOSTILE}, files={"README.md": HOSTILE})
    with repository() as serving:
        entry = f"apiVersion: v2, name: evil, version: 1.0.0, urls: [e.tgz], description: {HOSTILE!r}"
        serving.files |= {"index.yaml": f"apiVersion: v1\nentries: {{evil: [{{{entry}}}]}}\n".encode(), "e.tgz": chart}
        body = {"name": name, "kind": "http", "url": serving.url, "ca": serving.ca, "sync_seconds": 0}
        with added(person.server, body):
            for part in ("", "/charts/evil", "/charts/evil/1.0.0"):
                page.goto(f"{person.home}/sources/{name}{part}")
                expect(page.locator("main")).to_contain_text("<script>alert(1)</script>")
                assert page.locator("main script, main img").count() == 0
                assert person.overflow() <= 0
