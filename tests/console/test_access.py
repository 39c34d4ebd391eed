"""Who may do what, on pages: users, roles, keys, tokens and sessions."""

import re
import uuid
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browsers import Visit, visit
from tests.support.servers import RunningServer
from tests.support.tokens import token_of
from tests.support.users import PASSWORD, add_person


def open_user(person: Visit, name: str) -> Page:
    person.page.goto(f"{person.home}/access")
    person.page.locator("main").get_by_role("link", name=name).click()
    expect(person.page.get_by_role("heading", level=1)).to_contain_text(name)
    return person.page


def test_a_user_is_made_given_a_role_and_a_key_and_deleted(browser: Browser, person: Visit, server: RunningServer):
    page, name = person.page, f"new-{uuid.uuid4().hex[:6]}"
    page.goto(f"{person.home}/releases")
    page.get_by_role("link", name="Access").click()
    page.get_by_text("Add a user").click()
    page.get_by_label("Name").fill(name)
    page.get_by_role("button", name="Add the user").click()
    password = page.locator("code.secret").inner_text()
    page.get_by_text("Grant a role").click()
    page.locator("#roles select[name=role]").select_option("readonly")
    page.locator("#roles select[name=project]").select_option("in project cn-north-4")
    page.get_by_role("button", name="Grant").click()
    expect(page.locator("#roles")).to_contain_text("readonly in project cn-north-4")
    with visit(browser, server) as they:
        they.log_in(name=name, password=password)
        expect(they.page.get_by_role("link", name="Access")).to_have_count(0)
        answer = they.page.goto(f"{they.home}/access")
        assert answer is not None
        assert answer.status == 403
    page.get_by_text("Make an access key").click()
    page.get_by_label("What it is for").fill("a robot <b>of</b> theirs")
    page.get_by_role("button", name="Make the key").click()
    expect(page.locator("code.secret")).to_have_count(2)
    key, secret = page.locator("code.secret").all_inner_texts()
    page.reload()  # which sends the form again: another key, and the first one's secret is not told again
    expect(page.locator("main")).not_to_contain_text(secret)
    row = page.locator("#keys tr", has_text=key)
    expect(row).to_contain_text("a robot <b>of</b> theirs")
    row.get_by_text("Change", exact=True).click()
    row.get_by_role("button", name="Disable").click()
    expect(page.locator("#keys tr", has_text=key)).to_contain_text("Disabled")
    page.get_by_role("button", name="Withdraw readonly").click()
    expect(page.locator("#roles")).to_contain_text("None: this user may do nothing.")
    person.remove("user", name)
    expect(page.get_by_role("heading", level=1)).to_contain_text("Access")
    expect(page.get_by_role("link", name=name)).to_have_count(0)


def test_refusals_are_told_beside_what_was_typed(person: Visit):
    page = person.page
    page.goto(f"{person.home}/access")
    page.get_by_text("Add a user").click()
    page.get_by_label("Name").fill("admin")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Add the user").click()
    expect(page.locator("#add").get_by_role("alert")).to_contain_text("already has a user named 'admin'")
    expect(page.get_by_label("Name")).to_have_value("admin")
    expect(page.get_by_label("Password")).to_have_value("")
    open_user(person, "admin")
    expect(page.locator("#delete")).to_have_count(0)
    page.get_by_text("Make an access key").click()
    page.get_by_label("Last day").fill("2001-01-31")
    page.get_by_role("button", name="Make the key").click()
    expect(page.locator("#keys").get_by_role("alert")).to_contain_text("is in the past")
    expect(page.get_by_label("Last day")).to_have_value("2001-01-31")


def test_one_changes_ones_own_password_and_is_logged_out(browser: Browser, server: RunningServer):
    somebody = add_person(server, "readonly", project_id=server.project_id)
    with visit(browser, server) as own:
        own.log_in(name=somebody.name, password=PASSWORD)
        page = own.page
        page.goto("/console/account")
        expect(page.locator("#roles")).to_contain_text("readonly in project cn-north-4")
        for current, new, again, said in (
            ("wrong", "another one of eight", "another one of eight", "Current password"),
            (PASSWORD, "another one of eight", "another", "the two are not the same"),
            (PASSWORD, "short", "short", "password"),
        ):
            page.get_by_text("Set another password").click()
            page.get_by_label("Current password").fill(current)
            page.get_by_label("New password").fill(new)
            page.get_by_label("The same again").fill(again)
            page.get_by_role("button", name="Set it").click()
            expect(page.locator("#password").get_by_role("alert")).to_contain_text(said)
            page.goto("/console/account")
        page.get_by_text("Set another password").click()
        page.get_by_label("Current password").fill(PASSWORD)
        page.get_by_label("New password").fill("another one of eight")
        page.get_by_label("The same again").fill("another one of eight")
        page.get_by_role("button", name="Set it").click()
        expect(page.get_by_role("heading", name="Log in")).to_be_visible()
        own.log_in(name=somebody.name, password="another one of eight")


def test_an_administrator_ends_sessions_and_tokens_of_others(browser: Browser, person: Visit, server: RunningServer):
    somebody = add_person(server, "readonly", project_id=server.project_id)
    token = somebody.token()
    with visit(browser, server) as they:
        they.log_in(name=somebody.name, password=PASSWORD)
        page = open_user(person, somebody.name)
        page.locator("#sessions").get_by_role("button", name=re.compile("^End session")).click()
        expect(page.locator("#sessions")).to_contain_text("None.")
        they.page.reload()
        expect(they.page.get_by_role("heading", name="Log in")).to_be_visible()
    headers = {"X-Auth-Token": token}
    assert httpx2.get(f"{server.url}/api/v1/releases", headers=headers, trust_env=False).status_code == 200
    page.locator("#tokens").get_by_role("button", name=re.compile("^End token")).first.click()
    expect(page.locator("#tokens")).to_contain_text("None is valid now.")
    assert httpx2.get(f"{server.url}/api/v1/releases", headers=headers, trust_env=False).status_code == 401
    page.get_by_role("button", name="Disable", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Disabled")
    page.get_by_role("button", name="Enable", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Enabled")


def test_what_the_roles_do_not_allow_is_not_offered_and_refused(browser: Browser, server: RunningServer):
    looker = add_person(server, "readonly")
    with visit(browser, server) as they:
        they.log_in(name=looker.name, password=PASSWORD)
        page = open_user(they, "admin")
        for name in ("Grant", "Withdraw te_admin", "Disable", "Set it", "Make the key", "Delete"):
            expect(page.get_by_role("button", name=name, exact=True)).to_have_count(0)
        page.goto("/console/account")
        proof = page.locator("#password input[name=csrf]").first.get_attribute("value") or ""
        admin = server.send("GET", "/api/v1/users/me").json()["id"]
        writes = {
            "roles": {"role": "te_admin"}, "roles/withdraw": {"role": "te_admin"}, "state": {"do": "disable"},
            "password": {"new_password": PASSWORD, "again_password": PASSWORD}, "delete": {"confirm": "admin"},
            "keys": {"project": server.project_id}, "sessions/end-all": {}, "sessions/end": {"session": "x"},
            "tokens/end": {"token": "x"},
        }  # fmt: skip
        for write, form in writes.items():
            fields: dict[str, str | float | bool] = {"csrf": proof, **form}
            path = f"{they.home}/access/users/{admin}/{write}"
            refused = page.request.post(path, form=fields, headers={"Sec-Fetch-Site": "same-origin"})
            assert refused.status == 403, (write, refused.status)
            assert "lacks the permission iam:" in refused.text(), write


def test_the_audit_is_exported_as_json_lines(person: Visit, server: RunningServer, tmp_path: Path):
    somebody = add_person(server, "readonly")
    page = person.page
    page.goto(f"{person.home}/audit?target={somebody.id}")
    with page.expect_download() as download:
        page.get_by_role("link", name="All that match, as JSON lines").click()
    saved = tmp_path / "audit.jsonl"
    download.value.save_as(saved)
    assert download.value.suggested_filename.endswith(".jsonl")
    assert "iam:users:createUser" in saved.read_text()
    assert len(saved.read_text().splitlines()) == len(server.send("GET", f"/api/v1/audit?target={somebody.id}").json())


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without scripts"])
def test_the_account_tells_tokens_and_sessions(browser: Browser, server: RunningServer, *, scripts: bool):
    token_of(server, name="admin", password=server.password)
    with visit(browser, server, scripts=scripts) as own:
        own.log_in()
        own.page.goto("/console/account")
        expect(own.page.locator("#sessions")).to_contain_text("this one")
        expect(own.page.locator("#tokens")).to_contain_text("project cn-north-4")
        expect(own.page.locator("#keys")).to_contain_text("Enabled")
