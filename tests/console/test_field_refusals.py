"""Refusals stand beside the fields that they name, several at once each at its own, in the words of the labels."""

from playwright.sync_api import Locator, Page, expect

from tests.console.test_plan_pages import fits
from tests.support.browsers import Visit


def send(form: Locator) -> None:
    """Sends a form that the browser itself would not send."""
    form.evaluate("one => { one.noValidate = true; one.requestSubmit(one.querySelector('button.primary')) }")


def below(page: Page, name: str, control: str) -> bool:
    """Whether the refusal of a field stands right below it, and not below another one."""
    fault, field = page.locator(f"#fault-{name}").bounding_box(), page.locator(control).bounding_box()
    assert fault is not None
    assert field is not None
    return abs(fault["x"] - field["x"]) < 20 and 0 < fault["y"] - field["y"] < 120


def test_what_is_wrong_in_an_install_stands_at_each_field_at_once(person: Visit):
    page = person.page
    page.goto(f"{person.home}/install")
    page.get_by_text("Options").click()
    page.locator("[name=timeout_seconds]").fill("soon")
    page.locator("[name=namespace]").fill("somewhere")
    send(page.locator("form.card"))
    expect(page.locator("#fault-chart")).to_contain_text("Chart: missing; choose one")
    expect(page.locator("#fault-name")).to_have_text("Name of the release: missing")
    expect(page.locator("#fault-timeout_seconds")).to_contain_text("At most, in seconds: 'soon' is not a number")
    expect(page.locator("main")).to_contain_text(
        "What is wrong stands at the fields: Chart, Name of the release, At most"
    )
    expect(page.locator("main")).not_to_contain_text("timeout_seconds")
    assert below(page, "name", "[name=name]"), "not below the cluster"
    assert below(page, "timeout_seconds", "[name=timeout_seconds]")
    expect(page.locator("[name=namespace]")).to_have_value("somewhere")
    fits(person)


def test_an_access_key_that_would_have_ended_is_refused_at_its_day(person: Visit):
    page = person.page
    page.goto("/console/account")
    page.get_by_text("Make an access key").click()
    page.get_by_label("Last day").fill("2020-01-31")
    page.get_by_role("button", name="Make the key").click()
    expect(page.locator("#fault-expires")).to_contain_text("Last day: 2020-02-01")
    expect(page.locator("#fault-expires")).to_contain_text("is in the past")
    expect(page.get_by_role("alert")).to_have_count(1)
    expect(page.get_by_label("Last day")).to_have_value("2020-01-31")
    assert below(page, "expires", "[name=expires]")
    fits(person)


def test_a_role_that_was_not_chosen_and_its_place_are_told_at_both(person: Visit):
    page = person.page
    page.goto(f"{person.home}/access")
    page.locator("tbody").get_by_role("link", name="admin", exact=True).click()
    page.get_by_text("Grant a role").click()
    send(page.locator("form[action$='/roles']"))
    expect(page.locator("#fault-role")).to_have_text("Role: choose one")
    expect(page.locator("#fault-project")).to_contain_text("Project: choose where the role counts")
    expect(page.get_by_role("alert")).to_have_count(2)


def test_a_source_is_refused_at_each_field_below_the_right_one(person: Visit):
    page = person.page
    page.goto(f"{person.home}/sources")
    page.get_by_text("Add a source").click()
    page.locator("[name=name]").fill("x")
    page.locator("[name=url]").fill("https://charts.example")
    page.locator("[name=sync_seconds]").evaluate("one => { one.options[0].value = 'often'; one.selectedIndex = 0 }")
    page.locator("[name=username]").evaluate("one => { one.removeAttribute('maxlength'); one.value = 'a'.repeat(300) }")
    send(page.locator("#add form"))
    expect(page.locator("#fault-sync_seconds")).to_contain_text("Synchronised: 'often' is not a number of seconds")
    expect(page.locator("#fault-username")).to_contain_text("User name: more than 256 characters")
    assert below(page, "sync_seconds", "[name=sync_seconds]"), "not below the name"
    expect(page.locator("[name=name]")).to_have_value("x")
