"""Policies on pages: written, refused at their field, attached, counted at once, taken away and deleted."""

import json
import re
import uuid

from playwright.sync_api import Browser, expect

from tests.support.browsers import Visit, visit
from tests.support.servers import RunningServer
from tests.support.users import PASSWORD, add_person

_DENY = '{"Version": "5.0", "Statement": [{"Effect": "Deny", "Action": ["cce:chart:list"], "Resource": ["*"]}]}'


def test_a_policy_is_written_attached_counts_at_once_and_is_deleted(
    browser: Browser, person: Visit, server: RunningServer
):
    page, name = person.page, f"no-charts-{uuid.uuid4().hex[:8]}"
    somebody = add_person(server, "readonly", project_id=server.project_id)
    page.goto(f"{person.home}/access")
    page.get_by_role("link", name="Policies").click()
    page.get_by_text("Add a policy").click()
    page.get_by_label("Name").fill(name)
    for text, told in (("{", "Document: no JSON"), (_DENY.replace("Deny", "Forbid"), "Statement[0].Effect: 'Forbid'")):
        page.get_by_role("textbox", name="Document").fill(text)
        page.get_by_role("button", name="Add the policy").click()
        expect(page.locator("#fault-document")).to_contain_text(told)
        expect(page.get_by_role("textbox", name="Document")).to_have_value(text)
        expect(page.get_by_label("Name")).to_have_value(name)
    page.get_by_role("textbox", name="Document").fill(_DENY)
    page.get_by_role("button", name="Add the policy").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(name)
    with visit(browser, server) as they:
        they.log_in(name=somebody.name, password=PASSWORD)
        page.get_by_text("Attach it").click()
        page.get_by_label("To whom").select_option(label=somebody.name)
        page.get_by_role("button", name="Attach", exact=True).click()
        expect(page.locator("#attachments")).to_contain_text(f"user {somebody.name} in the whole account")
        answer = they.page.goto(f"{they.home}/charts")
        assert answer is not None
        assert answer.status == 403
        page.get_by_text("Change it").first.click()
        page.get_by_role("textbox", name="Document").fill(_DENY.replace("chart:list", "cluster:list"))
        page.get_by_role("button", name="Change it").click()
        expect(page.locator("#document pre")).to_contain_text("cce:cluster:list")
        answer = they.page.goto(f"{they.home}/charts")
        assert answer is not None
        assert answer.status == 200
    page.get_by_role("button", name=f"Take it away from {somebody.name}").click()
    expect(page.locator("#attachments")).to_contain_text("it counts for nobody")
    person.remove("policy", name)
    expect(page.get_by_role("link", name="Policies")).to_have_attribute("aria-current", "page")
    expect(page.get_by_role("link", name=name)).to_have_count(0)


def test_a_policy_that_another_changed_meanwhile_is_not_overwritten(person: Visit, server: RunningServer):
    page, theirs = person.page, json.loads(_DENY.replace("chart:list", "chart:get"))
    new = {"name": f"two-{uuid.uuid4().hex[:8]}", "document": json.loads(_DENY)}
    made = server.send("POST", "/api/v1/policies", json_body=new)
    path = f"/api/v1/policies/{made.json()['id']}"
    page.goto(f"{person.home}/access/policies/{made.json()['id']}")
    page.get_by_text("Change it").first.click()
    mine = _DENY.replace("chart:list", "cluster:list")
    page.get_by_role("textbox", name="Document").fill(mine)
    changed = server.send("PUT", path, json_body={"document": theirs})
    assert changed.is_success, changed.text
    page.get_by_role("button", name="Change it").click()
    expect(page.locator("#fault-document")).to_contain_text("it was changed since it was shown")
    expect(page.locator("#document pre")).to_contain_text("cce:chart:get")
    expect(page.get_by_role("textbox", name="Document")).to_have_value(mine)
    page.get_by_role("button", name="Change it").click()
    expect(page.locator("#document pre")).to_contain_text("cce:cluster:list")
    assert server.send("DELETE", path).is_success


def test_a_policy_that_another_changed_meanwhile_is_neither_attached_nor_deleted(person: Visit, server: RunningServer):
    page, name = person.page, f"moved-{uuid.uuid4().hex[:8]}"
    somebody = add_person(server, "readonly", project_id=server.project_id)
    body = {"name": name, "document": json.loads(_DENY)}
    path = f"/api/v1/policies/{server.send('POST', '/api/v1/policies', json_body=body).json()['id']}"
    page.goto(f"{person.home}/access/policies/{path.rpartition('/')[2]}")
    page.get_by_text("Attach it").click()
    page.get_by_label("To whom").select_option(label=somebody.name)
    other = json.loads(_DENY.replace("Deny", "Allow"))
    assert server.send("PUT", path, json_body={"document": other}).is_success
    page.get_by_role("button", name="Attach", exact=True).click()
    told = "it was changed since it was shown"
    expect(page.locator("#attachments").get_by_role("alert")).to_contain_text(told)
    expect(page.locator("#document pre")).to_contain_text("Allow")
    page.get_by_text("Delete this policy").click()
    page.get_by_label(re.compile("to confirm")).fill(name)
    assert server.send("PUT", path, json_body={"document": json.loads(_DENY)}).is_success
    page.locator("#delete").get_by_role("button", name="Delete").click()
    expect(page.locator("#delete").get_by_role("alert")).to_contain_text(told)
    assert server.send("GET", path).json()["attachments"] == []
    page.get_by_text("Attach it").click()
    page.get_by_label("To whom").select_option(label=somebody.name)
    page.get_by_role("button", name="Attach", exact=True).click()
    expect(page.locator("#attachments")).to_contain_text(f"user {somebody.name} in the whole account")
    assert server.send("DELETE", path).is_success


def test_a_policy_of_ones_own_and_no_holder_are_refused_in_their_part(person: Visit, server: RunningServer):
    page, name = person.page, f"own-{uuid.uuid4().hex[:8]}"
    body = {"name": name, "document": {"Version": "5.0", "Statement": [
        {"Effect": "Deny", "Action": ["cce:chart:delete"], "Resource": ["*"]}
    ]}}  # fmt: skip
    policy = server.send("POST", "/api/v1/policies", json_body=body).json()["id"]
    page.goto(f"{person.home}/access/policies/{policy}")
    page.get_by_text("Attach it").click()
    page.get_by_label("To whom").select_option(label="admin")
    page.get_by_role("button", name="Attach", exact=True).click()
    expect(page.locator("#attachments").get_by_role("alert")).to_contain_text("you cannot attach a policy of yourself")
    expect(page.get_by_label("To whom").locator("option:checked")).to_have_text("admin")
    server.send("DELETE", f"/api/v1/policies/{policy}")


def test_groups_without_a_provider_say_what_is_missing(person: Visit):
    person.page.goto(f"{person.home}/access/groups")
    expect(person.page.locator("main")).to_contain_text("none is set up")
    expect(person.page.get_by_text("Add a group")).to_have_count(0)


def test_who_may_only_look_is_offered_no_write_of_policies(browser: Browser, server: RunningServer):
    looker = add_person(server, "readonly")
    body = {"name": f"seen-{uuid.uuid4().hex[:8]}", "document": {"Version": "5.0", "Statement": [
        {"Effect": "Allow", "Action": ["cce:chart:get"], "Resource": ["*"]}
    ]}}  # fmt: skip
    policy = server.send("POST", "/api/v1/policies", json_body=body).json()["id"]
    with visit(browser, server) as they:
        they.log_in(name=looker.name, password=PASSWORD)
        page = they.page
        page.goto(f"{they.home}/access/policies/{policy}")
        expect(page.locator("#document pre")).to_contain_text("cce:chart:get")
        assert (page.locator("#document pre").text_content() or "").startswith('{\n  "Version": "5.0"')
        for offered in ("Change it", "Attach it", "Delete this policy"):
            expect(page.get_by_text(offered)).to_have_count(0)
    server.send("DELETE", f"/api/v1/policies/{policy}")
