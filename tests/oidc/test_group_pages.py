"""Groups of an identity provider on pages: added, given roles and policies, and deleted."""

import uuid
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.oidc.conftest import SignedOn
from tests.support.browsers import Visit, run_browser, visit


@pytest.fixture(scope="module")
def person(signed_on: SignedOn) -> Iterator[Visit]:
    with run_browser() as browser, visit(browser, signed_on.server) as made:
        made.log_in()
        yield made


def add(page: Page, home: str, name: str) -> None:
    page.goto(f"{home}/access/groups")
    page.get_by_text("Add a group").click()
    page.get_by_label("Name").fill(name)
    page.get_by_label("Identity provider").select_option("corp")
    page.get_by_role("button", name="Add the group").click()


def test_a_group_is_added_given_a_role_and_a_policy_and_deleted(person: Visit, signed_on: SignedOn):
    page, name, server = person.page, f"team <b>{uuid.uuid4().hex[:8]}</b>", signed_on.server
    add(page, person.home, name)
    expect(page.get_by_role("heading", level=1)).to_have_text(name)
    page.get_by_text("Grant a role").click()
    page.locator("#roles select[name=role]").select_option("readonly")
    page.locator("#roles select[name=project]").select_option("in project cn-north-4")
    page.get_by_role("button", name="Grant").click()
    expect(page.locator("#roles")).to_contain_text("readonly in project cn-north-4")
    body = {"name": f"of-{uuid.uuid4().hex[:8]}", "document": {"Version": "5.0", "Statement": [
        {"Effect": "Deny", "Action": ["cce:chart:delete"], "Resource": ["*"]}
    ]}}  # fmt: skip
    policy = server.send("POST", "/api/v1/policies", json_body=body).json()
    address = page.url
    page.goto(f"{person.home}/access/policies/{policy['id']}")
    page.get_by_text("Attach it").click()
    page.get_by_label("To whom").select_option(label=name)
    page.get_by_role("button", name="Attach", exact=True).click()
    expect(page.locator("#attachments")).to_contain_text(f"group {name}")
    page.locator("#attachments").get_by_role("link", name=name).click()
    expect(page.locator("#policies")).to_contain_text(policy["name"])
    person.inspect("group")
    page.goto(address)
    page.get_by_role("button", name="Withdraw readonly").click()
    expect(page.locator("#roles")).to_contain_text("None.")
    person.remove("group", name)
    expect(page.get_by_role("link", name="Groups")).to_have_attribute("aria-current", "page")
    expect(page.get_by_role("link", name=name)).to_have_count(0)
    server.send("DELETE", f"/api/v1/policies/{policy['id']}")


def test_a_group_that_is_there_already_is_refused_at_its_name(person: Visit):
    page = person.page
    add(page, person.home, "pilothouse-admins")
    expect(page.locator("#fault-name")).to_contain_text("already has the group 'pilothouse-admins'")
    expect(page.get_by_label("Name")).to_have_value("pilothouse-admins")
