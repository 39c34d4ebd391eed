"""A source that is changed on its page, and what of it was refused."""

import hashlib
import json
import re
import uuid
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.console.test_plan_pages import fits
from tests.support.browsers import Visit
from tests.support.chart_sources import Repository, added, repository
from tests.support.charts import config_map_chart
from tests.support.servers import RunningServer
from tests.support.signing import pgp_key

OTHER_CA = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"
SIGNER = pgp_key("signer")


def test_a_source_is_changed_and_what_is_left_as_it_stands_stays(
    person: Visit, server: RunningServer, source: tuple[str, Repository]
):
    page, path = person.page, f"/api/v1/sources/{source[0]}"
    before = server.send("GET", path).json()
    page.goto(f"{person.home}/sources/{source[0]}")
    expect(page.get_by_text("beside what the system trusts, these certificates:")).to_be_visible()
    expect(page.locator(".authorities code").first).to_contain_text("CN=")
    change = page.locator("#change")
    change.get_by_text("Change this source").click()
    fits(person)
    change.get_by_role("button", name="Change the source").click()
    expect(change.get_by_role("alert")).to_contain_text("Nothing was filled in that differs")
    change.get_by_label("User name", exact=True).fill("somebody")
    change.get_by_label("Public keys").fill(SIGNER.public)
    change.get_by_role("button", name="Change the source").click()
    expect(change.locator("#fault-password")).to_contain_text("Password: missing; give it together with the user name")
    expect(change.locator("#fault-verification")).to_contain_text("choose how the charts are verified with these keys")
    expect(change.get_by_label("User name", exact=True)).to_have_value("somebody")
    change.get_by_label("User name", exact=True).fill("")
    change.get_by_label("Public keys").fill("")
    change.get_by_label("Synchronised").select_option(label="every day")
    change.get_by_role("button", name="Change the source").click()
    expect(page.locator("main .facts").last).to_contain_text("every 1 d")
    after = server.send("GET", path).json()
    assert after["sync_seconds"] == 86400
    kept = ("name", "url", "username", "verification", "trusted")
    assert [after[one] for one in kept] == [before[one] for one in kept]


@pytest.fixture
def sealed(server: RunningServer, source: tuple[str, Repository]) -> Iterator[str]:
    """A source with a user name and a password."""
    name = f"sealed-{uuid.uuid4().hex[:8]}"
    credentials = {"username": "ada", "password": "first of all"}
    body = {"name": name, "kind": "http", "url": source[1].url, "ca": source[1].ca, "credentials": credentials}
    with added(server, {**body, "sync_seconds": 0}):
        yield name


def test_what_contradicts_itself_is_refused_at_its_field_and_nothing_of_it_is_dropped(
    person: Visit, server: RunningServer, sealed: str
):
    page, path = person.page, f"/api/v1/sources/{sealed}"
    page.goto(f"{person.home}/sources/{sealed}")
    change, button = page.locator("#change"), page.get_by_role("button", name="Change the source")
    change.get_by_text("Change this source").click()
    change.get_by_label("New certificates").fill(OTHER_CA)
    expect(change).to_contain_text("A password that is stored is typed again")
    button.click()
    expect(change.locator("#fault-password")).to_contain_text("Password: missing; the one that is stored was given for")
    expect(page.locator("main")).not_to_contain_text("credentials:")
    change.get_by_label("New password or token").fill("second")
    change.get_by_label("No user name and password any more").check()
    change.get_by_label("Only what the system trusts from now on").check()
    button.click()
    for field in ("password", "ca"):
        expect(change.locator(f"#fault-{field}")).to_contain_text("given, although none is to be left")
    expect(change.get_by_label("New certificates")).to_have_value(OTHER_CA)
    fits(person)
    after = server.send("GET", path).json()
    assert (after["username"], after["has_ca"]) == ("ada", True)


def test_what_others_changed_since_it_was_shown_is_not_changed_back(person: Visit, server: RunningServer, sealed: str):
    page, path = person.page, f"/api/v1/sources/{sealed}"
    page.goto(f"{person.home}/sources/{sealed}")
    change, button = page.locator("#change"), page.get_by_role("button", name="Change the source")
    change.get_by_text("Change this source").click()
    assert server.send("PATCH", path, json_body={"sync_seconds": 86400}).status_code == 200
    change.get_by_label("New password or token").fill("second")
    button.click()
    expect(page.locator("main .facts").last).to_contain_text("every 1 d")
    assert server.send("GET", path).json()["sync_seconds"] == 86400
    change.get_by_text("Change this source").click()
    other = {"credentials": {"username": "bob", "password": "third"}, "sync_seconds": 3600}
    assert server.send("PATCH", path, json_body=other).status_code == 200
    change.get_by_label("New password or token").fill("fourth")
    change.get_by_label("Synchronised").select_option(label="every ten minutes")
    button.click()
    for field in ("username", "sync_seconds"):
        expect(change.locator(f"#fault-{field}")).to_contain_text("it was changed since it was shown")
    expect(change.get_by_label("User name", exact=True)).to_have_value("bob")
    after = server.send("GET", path).json()
    assert (after["username"], after["sync_seconds"]) == ("bob", 3600)
    button.click()
    expect(page.locator("main .facts").last).to_contain_text("every 10 min")


def test_versions_that_were_refused_are_told_with_the_reason(person: Visit, source: tuple[str, Repository]):
    page, at = person.page, f"{person.home}/sources/{source[0]}"
    page.goto(at)
    change = page.locator("#change")
    change.get_by_text("Change this source").click()
    change.get_by_label("Its charts are verified").select_option("pgp")
    change.get_by_label("Public keys").fill(SIGNER.public)
    change.get_by_role("button", name="Change the source").click()
    expect(page.locator("main .facts").last).to_contain_text("PGP: each chart must be signed by one of these keys")
    page.goto(f"{at}/charts/webapp/1.0.0")
    expect(page.get_by_role("alert")).to_be_visible()
    page.goto(f"{at}/charts/webapp")
    expect(page.locator("main .notice.bad")).to_contain_text("1 version was refused")
    row = page.locator("tbody tr", has=page.get_by_role("link", name="1.0.0", exact=True))
    expect(row).to_contain_text("refused")
    expect(row.locator(".said")).to_contain_text(re.compile("provenance|signed"))
    expect(page.locator("tbody tr").first).not_to_contain_text("refused")
    fits(person)


def offer(serving: Repository, archive: bytes) -> str:
    """Has the repository offer that archive as the only version; gives its digest."""
    digest = hashlib.sha256(archive).hexdigest()
    entry = {"apiVersion": "v2", "name": "webapp", "version": "1.0.0", "urls": ["w.tgz"], "digest": digest}
    index = json.dumps({"apiVersion": "v1", "entries": {"webapp": [entry]}}).encode()
    serving.files = {"w.tgz": archive, "index.yaml": index}
    return digest


def test_a_version_that_was_moved_and_a_synchronisation_that_failed_are_told(person: Visit, server: RunningServer):
    page, name = person.page, f"moved-{uuid.uuid4().hex[:8]}"
    first, second = (config_map_chart("webapp", "1.0.0", text=text) for text in ("first", "second"))
    with repository() as serving:
        was = offer(serving, first)
        body = {"name": name, "kind": "http", "url": serving.url, "ca": serving.ca, "sync_seconds": 0}
        with added(server, body):
            at = f"{person.home}/sources/{name}"
            page.goto(f"{at}/charts/webapp/1.0.0")
            expect(page.locator("main")).not_to_contain_text("another archive")
            now = offer(serving, second)
            page.goto(at)
            page.get_by_role("button", name="Synchronise now").click()
            expect(page.locator("#list .tag.bad")).to_have_text("moved")
            expect(page.locator("main .facts").last).not_to_contain_text("Failed last")
            page.goto(f"{at}/charts/webapp")
            expect(page.locator("tbody tr")).to_contain_text("another archive than was pulled")
            fits(person)
            page.goto(f"{at}/charts/webapp/1.0.0")
            for digest in (was, now):
                expect(page.locator("main .notice.bad")).to_contain_text(digest)
            fits(person)
            serving.files = {}
            page.goto(at)
            page.get_by_role("button", name="Synchronise now").click()
            expect(page.get_by_role("alert")).to_contain_text("Not synchronised")
            expect(page.locator("main .facts").last).to_contain_text(re.compile("Failed last.*(ago|now)"))
            page.get_by_text("Remove this source").click()
            expect(page.locator("#delete")).to_contain_text("are not offered updates any more")
            fits(person)
