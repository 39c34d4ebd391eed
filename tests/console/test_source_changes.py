"""A source that is changed on its page, and what of it was refused."""

import re

from playwright.sync_api import expect

from tests.console.test_plan_pages import fits
from tests.support.browsers import Visit
from tests.support.chart_sources import Repository
from tests.support.servers import RunningServer
from tests.support.signing import pgp_key

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
