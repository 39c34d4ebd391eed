"""Forms tell all that is wrong with them in one answer, in plain words, and once."""

import re
import uuid

import pytest
from playwright.sync_api import expect

from tests.console.test_field_refusals import send
from tests.console.test_plan_pages import fits
from tests.support.browsers import Visit
from tests.support.servers import RunningServer

UNCLOSED = "text: a\nlist: [1, 2\nmore: b\n"


def test_a_place_that_cannot_be_and_values_that_are_no_yaml_are_told_together(
    person: Visit, charts: dict[str, str], namespace: str
):
    page = person.page
    page.goto(f"{person.home}/install?chart={charts['plain']}&cluster=test&namespace={namespace}")
    page.locator("[name=namespace]").fill("No Namespace")
    page.locator("[name=name]").fill("No_Name")
    page.evaluate("text => { document.querySelector('#values').value = text }", UNCLOSED)
    send(page.locator("form.card"))
    expect(page.locator("#fault-namespace")).to_contain_text("Namespace: 'No Namespace' is not a namespace name")
    expect(page.locator("#fault-name")).to_contain_text("Name of the release: 'No_Name' is not a release name")
    told = page.locator(".values-field").get_by_text("Line 3")
    expect(told).to_have_count(1)
    expect(told).to_have_text(
        "Line 3: not valid YAML: did not find expected ',' or ']'; what is opened in line 2 is not closed"
    )
    page.wait_for_timeout(2000)  # the editor has asked the server by now
    expect(page.locator(".values-field").get_by_text("Line 3")).to_have_count(1)
    expect(page.locator("main")).not_to_contain_text("unmarshal")
    fits(person)


def test_a_change_tells_values_and_options_together(person: Visit, namespace: str, install: object):
    assert callable(install)
    install("told")
    page = person.page
    page.goto(f"{person.home}/releases/test/{namespace}/told/change")
    page.get_by_text("Options").click()
    page.locator("[name=timeout_seconds]").fill("soon")
    page.evaluate("text => { document.querySelector('#values').value = text }", "- a\n")
    send(page.locator("form.card"))
    expect(page.locator("#fault-timeout_seconds")).to_contain_text("'soon' is not a number")
    expect(page.locator(".values-field").get_by_text("Line 1")).to_have_text(re.compile("^Line 1: it is a list, and"))


def test_a_cluster_is_refused_at_name_kubeconfig_and_wall_at_once(person: Visit):
    page = person.page
    page.goto(f"{person.home}/clusters/new")
    page.locator("[name=name]").fill("No Name")
    page.locator("[name=kubeconfig]").fill("kind: Secret")
    page.get_by_text("Behind a wall").click()
    page.locator("[name=namespaces]").fill("No_Namespace")
    page.get_by_role("button", name="Add the cluster").click()
    expect(page.locator("#fault-name")).to_contain_text("'No Name' is not a cluster name")
    expect(page.locator("#fault-kubeconfig")).to_contain_text("must be Config")
    expect(page.locator("#fault-namespaces")).to_contain_text("'No_Namespace' cannot be the name of a namespace")
    expect(page.locator("#fault-user")).to_contain_text("missing")
    expect(page.get_by_role("alert")).to_have_count(4)
    fits(person)


def test_a_user_is_refused_at_name_password_and_role_at_once_and_gets_its_role(person: Visit, server: RunningServer):
    page, name = person.page, f"u-{uuid.uuid4().hex[:8]}"
    page.goto(f"{person.home}/access")
    page.get_by_text("Add a user").click()
    form = page.locator("#add form")
    form.locator("[name=name]").fill("no name")
    form.locator("[name=new_password]").fill("short")
    form.get_by_label("Role").select_option("CCE ReadOnlyAccess")
    form.get_by_role("button", name="Add the user").click()
    expect(page.locator("#fault-name")).to_contain_text("'no name' is not a user name")
    expect(page.locator("#fault-new_password")).to_contain_text("at least")
    expect(page.locator("#fault-project")).to_contain_text("choose where the role counts")
    expect(form.get_by_label("Role")).to_have_value("CCE ReadOnlyAccess")
    fits(person)
    form.locator("[name=name]").fill(name)
    form.get_by_label("Where").select_option(label="in project cn-north-4")
    form.get_by_role("button", name="Add the user").click()
    expect(page.locator("#roles")).to_contain_text("CCE ReadOnlyAccess")
    expect(page.locator(".secret")).to_have_count(1)
    page.goto(f"{person.home}/access")
    row = page.locator("tbody tr", has=page.get_by_role("link", name=name, exact=True))
    expect(row).to_contain_text("CCE ReadOnlyAccess in project cn-north-4")
    expect(page.locator("tbody tr", has_text="admin").first).to_contain_text("te_admin (administrator)")
    rows = server.send("GET", "/api/v1/audit?action=iam:permissions:grantRoleToUser").json()
    assert [one["target_name"] for one in rows].count(name) == 1


@pytest.mark.parametrize(
    ("path", "button", "filled", "told"),
    [
        (
            "access/policies", "Add a policy", {"name": "no name!", "document": "{"},
            {"name": "is not 1", "document": "no JSON"},
        ),
        (
            "sources", "Add a source", {"name": "No Name", "url": "ftp://x"},
            {"name": "is not the name of a source", "url": "begins with"},
        ),
    ],
)  # fmt: skip
def test_other_forms_are_refused_at_all_fields_at_once(
    person: Visit, path: str, button: str, filled: dict[str, str], told: dict[str, str]
):
    page = person.page
    page.goto(f"{person.home}/{path}")
    page.get_by_text(button).click()
    for name, text in filled.items():
        page.locator(f"#add [name={name}]").fill(text)
    send(page.locator("#add form"))
    for name, text in told.items():
        expect(page.locator(f"#fault-{name}")).to_contain_text(text)
    expect(page.get_by_role("alert")).to_have_count(len(told))


def test_a_new_password_is_refused_at_all_its_fields_at_once(person: Visit):
    page = person.page
    page.goto("/console/account")
    page.get_by_text("Set another password").click()
    page.locator("[name=new_password]").fill("short")
    page.locator("[name=again_password]").fill("other")
    send(page.locator("form[action$='/password']"))
    expect(page.locator("#fault-current_password")).to_contain_text("missing")
    expect(page.locator("#fault-new_password")).to_contain_text("at least")
    expect(page.locator("#fault-again_password")).to_contain_text("the two are not the same")


def test_a_misspelt_value_is_named_in_the_plan(person: Visit, charts: dict[str, str], namespace: str):
    page = person.page
    page.goto(f"{person.home}/install?chart={charts['plain']}&cluster=test&namespace={namespace}")
    page.locator("[name=name]").fill("misspelt")
    page.evaluate("text => { document.querySelector('#values').value = text }", "txt: v9\n")
    page.get_by_role("button", name="Plan it").click()
    notice = page.locator(".notice.busy", has_text="defaults do not have")
    expect(notice).to_contain_text("txt (is text meant?)")
    page.get_by_role("link", name="Change it").click()
    page.evaluate("text => { document.querySelector('#values').value = text }", "text: v9\n")
    page.get_by_role("button", name="Plan it").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Plan")
    expect(page.locator("main")).not_to_contain_text("defaults do not have")


def test_who_goes_on_by_keys_begins_in_the_content(person: Visit, namespace: str, install: object):
    assert callable(install)
    install("keys")
    page = person.page
    page.goto(f"{person.home}/releases?namespace={namespace}")
    page.get_by_role("link", name="keys", exact=True).focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("keys")
    expect(page.locator("#main")).to_be_focused()
    for _ in range(4):  # three of where one is, then the first button
        page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Change", exact=True)).to_be_focused()
    page.get_by_role("link", name="History", exact=True).click()
    expect(page.get_by_role("heading", level=2)).to_contain_text("Revisions")
    assert page.evaluate("document.activeElement.tagName") == "BODY", "a mouse goes its own way"
