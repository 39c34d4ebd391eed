"""Pages that say plainly what is: what kind of error it is and what to do, that nothing is locked, and empty texts."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, expect

from tests.console.test_plan_pages import fits
from tests.support.browsers import Visit, visit
from tests.support.chart_sources import Repository
from tests.support.servers import RunningServer
from tests.support.users import PASSWORD, add_person


@pytest.mark.parametrize(
    ("path", "heading", "advice"),
    [
        ("/releases/test/none/none", "There is no such thing here", "It may have been removed or renamed"),
        ("/audit?outcome=x", "This cannot be done as it was asked", "Mend in the address or the form"),
    ],
)
def test_an_error_says_its_kind_what_to_do_and_the_way_back(person: Visit, path: str, heading: str, advice: str):
    page = person.page
    page.goto(f"{person.home}/clusters")
    page.evaluate("path => { location.href = path }", f"{person.home}{path}")
    expect(page.get_by_role("heading", level=1)).to_have_text(heading)
    expect(page).to_have_title(f"{heading} · Pilothouse")
    expect(page.locator("main")).to_contain_text(advice)
    fits(person)
    page.get_by_role("link", name="Back to the page before").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Clusters")


def test_a_right_that_is_missing_is_said_with_who_can_grant_it(person: Visit, browser: Browser, server: RunningServer):
    viewer = add_person(server, "readonly", project_id=server.project_id)
    with visit(browser, server) as looking:
        looking.log_in(name=viewer.name, password=PASSWORD)
        looking.page.goto(f"{person.home}/install")
        expect(looking.page.get_by_role("heading", level=1)).to_have_text("You may not do this")
        expect(looking.page.get_by_role("alert")).to_contain_text("cce:release:create")
        expect(looking.page.locator("main")).to_contain_text(
            "An administrator of the account can grant what is missing"
        )


def test_what_is_not_locked_is_not_unlocked_and_drift_is_said_plainly(
    person: Visit, namespace: str, install: Callable[[str], None]
):
    install("free")
    page = person.page
    person.open_release(namespace, "free", "/unlock")
    expect(page.locator("main")).to_contain_text("It is not locked, so there is nothing to unlock")
    expect(page.get_by_role("button", name="Unlock")).to_have_count(0)
    page.get_by_role("link", name="Back to the release").click()
    expect(page.locator(".drift")).to_contain_text("Drift: not looked at yet.")
    fits(person)


def test_an_empty_text_is_shown_as_one(person: Visit, server: RunningServer, namespace: str, charts: dict[str, str]):
    answer = server.create(chart_id=charts["plain"], namespace=namespace, name="empty", values={"text": ""})
    assert answer.status_code == 201, answer.text
    assert server.wait_until_final(namespace, "empty")["status"] == "DEPLOYED"
    page = person.page
    person.open_release(namespace, "empty", "/values?layer=computed")
    expect(page.locator(".leaves tr", has_text="/text").locator("code").last).to_have_text('""')
    person.open_release(namespace, "empty", "/change")
    page.get_by_role("textbox", name=re.compile("^Values, as YAML")).focus()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text("text: full\n")
    page.get_by_role("button", name="Plan it").click()
    expect(page.locator("table.fields tr", has_text="/text").locator(".old").last).to_have_text('""')


def end_sessions(browser: Browser, server: RunningServer) -> None:
    """Ends all sessions of the administrator from another browser."""
    with visit(browser, server) as elsewhere:
        elsewhere.log_in()
        elsewhere.page.goto("/console/account")
        elsewhere.page.get_by_role("button", name="Log out everywhere").click()
        expect(elsewhere.page.get_by_role("heading", name="Log in")).to_be_visible()


def log_in_again(person: Visit, server: RunningServer) -> None:
    person.page.get_by_label("Name", exact=True).fill("admin")
    person.page.get_by_label("Password").fill(server.password)
    person.page.get_by_role("button", name="Log in").click()


def test_a_form_that_was_kept_is_told_in_the_words_of_its_page(
    person: Visit, browser: Browser, server: RunningServer, namespace: str, install: Callable[[str], None]
):
    install("kept")
    page = person.page
    person.open_release(namespace, "kept", "/uninstall")
    page.get_by_label(re.compile("to confirm")).fill("kept")
    end_sessions(browser, server)
    page.get_by_role("button", name="Uninstall", exact=True).click()
    log_in_again(person, server)
    facts = page.locator("main .facts")
    expect(facts).to_contain_text("Uninstall")
    expect(facts).to_contain_text(f"test / {namespace} / kept")
    expect(facts).to_contain_text("To confirm")
    expect(facts).to_contain_text(re.compile(rf"Project\s*{person.home.rpartition('/')[2]}"))
    for raw in ("seen", "/console/"):
        expect(facts).not_to_contain_text(raw)
    fits(person)


def test_a_plan_whose_apply_was_kept_is_named_and_the_way_back_leads_to_it(
    person: Visit, browser: Browser, server: RunningServer, namespace: str, install: Callable[[str], None]
):
    install("kept")
    page = person.page
    person.open_release(namespace, "kept", "/uninstall")
    page.get_by_role("button", name="Plan it").click()
    page.get_by_label("Type kept to confirm").fill("kept")
    plan = page.url
    end_sessions(browser, server)
    page.get_by_role("button", name="Uninstall kept").click()
    log_in_again(person, server)
    facts = page.locator("main .facts")
    expect(facts).to_contain_text("Apply a plan")
    expect(facts).to_contain_text(f"plan {plan.rpartition('/')[2]}")
    expect(page.get_by_role("button", name="Send it now")).to_have_class("danger solid")
    page.get_by_role("link", name="Back to the form").click()
    expect(page).to_have_url(plan)
    expect(page.get_by_label("Type kept to confirm")).to_be_visible()
    assert server.show(namespace, "kept").json()["status"] == "DEPLOYED"


def test_what_acts_at_once_is_not_told_as_a_plan_after_the_log_in(
    person: Visit, browser: Browser, server: RunningServer, source: tuple[str, Repository]
):
    page = person.page
    page.goto(f"{person.home}/sources/{source[0]}")
    page.locator("#change").get_by_text("Change this source").click()
    page.locator("#change").get_by_label("Synchronised").select_option(label="every day")
    end_sessions(browser, server)
    page.get_by_role("button", name="Change the source").click()
    log_in_again(person, server)
    facts = page.locator("main .facts")
    expect(facts).to_contain_text("Change a source")
    expect(facts).to_contain_text(source[0])
    expect(facts).not_to_contain_text("Plan a change")
    page.get_by_role("link", name="Back to the form").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(source[0])


def test_the_way_back_leads_to_the_form_as_it_was_typed(person: Visit, browser: Browser, server: RunningServer):
    page = person.page
    page.goto(f"{person.home}/clusters/new")
    page.get_by_label("Name", exact=True).fill("typed-name")
    page.get_by_label("Kubeconfig", exact=True).fill("token: typed-secret")
    end_sessions(browser, server)
    page.get_by_role("button", name="Add the cluster").click()
    log_in_again(person, server)
    expect(page.locator("main .facts")).not_to_contain_text("typed-secret")
    fits(person)
    page.get_by_role("link", name="Back to the form").click()
    expect(page.get_by_label("Name", exact=True)).to_have_value("typed-name")
    expect(page.get_by_label("Kubeconfig", exact=True)).to_have_value("token: typed-secret")
    expect(page.locator("main").get_by_role("status")).to_contain_text("It was not sent")
    fits(person)
    page.reload()
    expect(page.get_by_label("Name", exact=True)).to_have_value("")


def test_a_form_with_a_password_comes_back_but_for_that(person: Visit, browser: Browser, server: RunningServer):
    page = person.page
    page.goto(f"{person.home}/access")
    page.get_by_text("Add a user").click()
    form = page.locator("form[action$='/access/users']")
    form.get_by_label("Name", exact=True).fill("typed-user")
    form.locator("[type=password]").first.fill("typed-password")
    end_sessions(browser, server)
    form.get_by_role("button").click()
    expect(page.get_by_role("alert")).to_contain_text("its passwords are not kept")
    log_in_again(person, server)
    expect(page.get_by_role("button", name="Send it now")).to_have_count(0)
    page.get_by_role("link", name="Back to the form").click()
    expect(form.get_by_label("Name", exact=True)).to_have_value("typed-user")
    expect(form.locator("[type=password]").first).to_have_value("")
