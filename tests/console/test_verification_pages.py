"""Whose signatures count, on pages: keys of a source and of the project, and to take verified charts only."""

import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.console.test_plan_pages import fits
from tests.support.browsers import Visit, visit
from tests.support.chart_sources import Repository, added
from tests.support.charts import config_map_chart
from tests.support.servers import RunningServer
from tests.support.signing import pgp_key, signed
from tests.support.users import PASSWORD, add_person
from tools.localcluster.cluster import RunningCluster

SIGNER, OTHER = pgp_key("signer"), pgp_key("other")
ALL = {"verified_only": False, "keys": ""}


@pytest.fixture(autouse=True)
def _all_charts(server: RunningServer) -> Iterator[None]:
    """Leave the project as it was: all charts, no keys."""
    yield
    assert server.send("PUT", "/api/v1/verification", json_body=ALL).is_success


def trust(server: RunningServer) -> tuple[bool, list[str]]:
    found = server.send("GET", "/api/v1/verification").json()
    return found["verified_only"], found["trusted"]


def test_a_source_gets_its_keys_when_it_is_added_and_shows_their_fingerprints(
    person: Visit, source: tuple[str, Repository]
):
    page, name = person.page, f"signed-{uuid.uuid4().hex[:8]}"
    page.goto(f"{person.home}/sources")
    page.get_by_text("Add a source").click()
    given = {"Name": name, "Address": source[1].url, "Certificates that": source[1].ca}
    for kind, keys, at, told in (
        ("pgp", "no key at all", "keys", "they cannot be read as public keys for pgp"),
        ("none", SIGNER.public, "verification", "keys are for the kinds pgp and cosign"),
        ("pgp", "", "keys", "missing; pgp takes the public keys"),
    ):
        for label, value in given.items():
            page.get_by_label(label).first.fill(value)
        page.get_by_label("Its charts are verified").select_option(kind)
        page.get_by_label("Public keys").fill(keys)
        page.get_by_role("button", name="Add the source").click()
        expect(page.locator(f"#fault-{at}")).to_contain_text(told)
        expect(page.get_by_label("Its charts are verified")).to_have_value(kind)
        expect(page.get_by_label("Public keys")).to_have_value(keys)
        for label, value in given.items():
            expect(page.get_by_label(label).first).to_have_value(value)
    page.get_by_label("Its charts are verified").select_option("pgp")
    page.get_by_label("Public keys").fill(SIGNER.public)
    page.get_by_role("button", name="Add the source").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(name)
    expect(page.locator("main .facts")).to_contain_text("PGP: each chart must be signed by one of these keys")
    expect(page.locator("main .facts .prints")).to_have_text(SIGNER.fingerprint)
    page.get_by_role("link", name="webapp", exact=True).click()
    page.get_by_role("link", name="1.0.0", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("has no provenance file (.prov) of it")
    page.goto(f"{person.home}/verification")
    expect(page.locator("#sources")).to_contain_text(SIGNER.fingerprint)
    assert person.server.send("DELETE", f"/api/v1/sources/{name}").is_success


def test_verified_charts_only_is_set_kept_by_an_upload_and_lifted(
    person: Visit, server: RunningServer, kubernetes: RunningCluster, tmp_path: Path
):
    page, name = person.page, f"signed-{uuid.uuid4().hex[:8]}"
    archive, provenance = signed(kubernetes.helm, config_map_chart(name, "1.0.0"), SIGNER)
    (tmp_path / "chart.tgz").write_bytes(archive)
    (tmp_path / "chart.tgz.prov").write_text(provenance)
    page.goto(f"{person.home}/charts")
    page.get_by_role("link", name="Verification").click()
    page.get_by_text("Set the keys").first.click()
    page.get_by_label("Public keys").fill("no key at all")
    page.get_by_role("button", name="Set the keys").click()
    expect(page.locator("#fault-keys")).to_contain_text("they cannot be read as public keys for pgp")
    expect(page.get_by_label("Public keys")).to_have_value("no key at all")
    page.get_by_label("Public keys").fill(SIGNER.public)
    page.get_by_role("button", name="Set the keys").click()
    expect(page.locator("#keys .prints")).to_have_text(SIGNER.fingerprint)
    page.get_by_text("Take verified charts only").click()
    expect(page.locator("#policy")).to_contain_text("is then neither stored by an upload nor installed")
    page.get_by_role("button", name="Yes, take only verified ones").click()
    expect(page.locator("#policy")).to_contain_text("takes only verified charts.")
    assert trust(server) == (True, [SIGNER.fingerprint])
    for files, told in (((), "it came without a provenance file (.prov)"), (("prov",), "")):
        page.goto(f"{person.home}/charts")
        page.get_by_label("Upload a chart").set_input_files(tmp_path / "chart.tgz")
        if files:
            page.get_by_label("Its provenance").set_input_files(tmp_path / "chart.tgz.prov")
        page.get_by_role("button", name="Upload", exact=True).click()
        if told:
            expect(page.get_by_role("alert")).to_contain_text(told)
    expect(page.get_by_role("heading", level=1)).to_contain_text(f"{name} 1.0.0")
    expect(page.locator("main .facts")).to_contain_text(re.compile("Signed by\\s*signer"))
    chart = page.url
    page.goto(f"{person.home}/verification")
    page.get_by_text("Take all charts again").click()
    expect(page.locator("#policy")).to_contain_text("can then use any chart, whoever made it")
    page.get_by_role("button", name="Yes, take all charts").click()
    expect(page.locator("#policy")).to_contain_text("takes all charts,")
    assert trust(server) == (False, [SIGNER.fingerprint])
    assert server.send("PUT", "/api/v1/verification", json_body=ALL).is_success
    page.goto(chart)
    expect(page.locator("main .facts")).to_contain_text("none by a key that the project trusts")
    fits(person)


def test_what_another_changed_meanwhile_is_not_overwritten(person: Visit, server: RunningServer):
    page = person.page
    page.goto(f"{person.home}/verification")
    page.get_by_text("Set the keys").first.click()
    page.get_by_label("Public keys").fill(SIGNER.public)
    body = {"verified_only": False, "keys": OTHER.public}
    assert server.send("PUT", "/api/v1/verification", json_body=body).is_success
    page.get_by_role("button", name="Set the keys").click()
    expect(page.locator("#keys").get_by_role("alert")).to_contain_text("it was changed since it was shown")
    expect(page.locator("#keys .prints")).to_have_text(OTHER.fingerprint)
    expect(page.get_by_label("Public keys")).to_have_value(SIGNER.public)
    assert server.send("PUT", "/api/v1/verification", json_body={"keys": ""}).is_success
    page.get_by_text("Take verified charts only").click()
    page.get_by_role("button", name="Yes, take only verified ones").click()
    expect(page.locator("#policy").get_by_role("alert")).to_contain_text("it was changed since it was shown")
    assert trust(server) == (False, [])


def test_who_may_only_look_is_offered_no_change_of_what_is_trusted(browser: Browser, server: RunningServer):
    looker = add_person(server, "readonly", project_id=server.project_id)
    with visit(browser, server) as they:
        they.log_in(name=looker.name, password=PASSWORD)
        page = they.page
        page.goto(f"{they.home}/verification")
        expect(page.locator("#policy")).to_contain_text("it takes cce:verification:update")
        for offered in ("Yes, take only verified ones", "Set the keys"):
            expect(page.get_by_role("button", name=offered)).to_have_count(0)


def test_pages_with_keys_are_free_of_barriers_and_fit_a_phone(
    person: Visit, server: RunningServer, source: tuple[str, Repository]
):
    keys = SIGNER.public + pgp_key("late", expired=True).public
    body = {"verified_only": True, "keys": keys}
    assert server.send("PUT", "/api/v1/verification", json_body=body).is_success
    signed_source = {
        "name": f"signed-{uuid.uuid4().hex[:8]}", "kind": "http", "url": source[1].url, "ca": source[1].ca,
        "sync_seconds": 0, "verification": {"kind": "pgp", "keys": keys},
    }  # fmt: skip
    with added(server, signed_source):
        for name, path in {
            "verification-keys": "verification",
            "source-keys": f"sources/{signed_source['name']}",
            "source-add": "sources",
        }.items():
            person.page.goto(f"{person.home}/{path}")
            person.unfold()
            person.inspect(name)
