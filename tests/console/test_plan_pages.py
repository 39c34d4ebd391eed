"""Pages of plans: buttons that say what they do, a name before what is not undone, and what the cluster refused."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.console.test_changes import field, fill_in
from tests.support.browsers import PHONE, Visit
from tests.support.charts import build_chart, config_map_template, hook_job_template
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import RunningServer

CRD = """\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: shares.look.example}
spec:
  group: look.example
  scope: Namespaced
  names: {plural: shares, singular: share, kind: Share}
  versions:
    - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}
"""
SERVICE = """\
apiVersion: v1
kind: Service
metadata: {name: "{{ .Release.Name }}"}
spec: {ports: [{port: 80, name: "{{ .Values.port }}"}]}
"""


def upload(server: RunningServer, chart: bytes) -> str:
    answer = server.upload(chart, parameters='{"override": true}')
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def fits(person: Visit) -> None:
    """Judges the page by axe, and its width on a phone."""
    assert person.barriers() == []
    size = person.page.viewport_size
    person.page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    assert person.overflow() <= 0
    assert size is not None
    person.page.set_viewport_size(size)


def test_an_uninstall_by_a_plan_takes_the_name_too(
    person: Visit, server: RunningServer, namespace: str, helm_cli: HelmCommand, install: Callable[[str], None]
):
    install("web")
    page = person.page
    person.open_release(namespace, "web", "/uninstall")
    page.get_by_role("button", name="Plan it").click()
    expect(page.locator("main")).to_contain_text("All its objects are deleted, and its history with them.")
    asked, button = page.get_by_label("Type web to confirm"), page.get_by_role("button", name="Uninstall web")
    button.click()
    assert asked.evaluate("one => one.validity.valueMissing"), "the browser sends no empty name"
    fits(person)
    asked.fill("wob")
    button.click()
    expect(page.get_by_role("alert")).to_contain_text("type the release's name, web, to uninstall it")
    expect(asked).to_have_value("wob")
    assert server.show(namespace, "web").json()["status"] == "DEPLOYED"
    asked.fill("web")
    button.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Succeeded")
    OneRelease(server, namespace, "web", helm_cli).gone()


def test_a_wrong_name_for_a_plan_that_was_applied_meanwhile_is_told_although_there_is_no_form(
    person: Visit, server: RunningServer, namespace: str, helm_cli: HelmCommand, install: Callable[[str], None]
):
    install("web")
    page = person.page
    person.open_release(namespace, "web", "/uninstall")
    page.get_by_role("button", name="Plan it").click()
    digest = page.locator("input[name=digest]").input_value()
    plan = page.url.rpartition("/")[2]
    answer = server.send("POST", f"/api/v1/plans/{plan}/apply", json_body={"digest": digest})
    assert answer.status_code in {200, 201, 202}, answer.text
    OneRelease(server, namespace, "web", helm_cli).gone()
    page.get_by_label("Type web to confirm").fill("wob")
    page.get_by_role("button", name="Uninstall web").click()
    expect(page.get_by_role("alert")).to_contain_text("type the release's name, web, to uninstall it")
    expect(page.get_by_role("alert")).to_have_count(1)
    expect(page.locator("main")).to_contain_text("It was applied.")
    fits(person)


def refused_plan(person: Visit, server: RunningServer, namespace: str) -> Page:
    """Plans a Service whose port has a name that the API server does not take, which only a dry run tells."""
    chart = upload(server, build_chart("refused", templates={"s.yaml": SERVICE, "c.yaml": config_map_template()},
                                       values={"port": "Not A Name", "text": "x"}))  # fmt: skip
    page = fill_in(person, namespace, "refused", chart=chart)
    page.get_by_role("button", name="Plan it").click()
    expect(page).to_have_url(re.compile("/plans/"))
    return page


def test_a_plan_that_the_cluster_refused_says_so_at_its_top_and_does_not_look_applicable(
    person: Visit, server: RunningServer, namespace: str
):
    page = refused_plan(person, server, namespace)
    expect(page.get_by_role("heading", level=1)).to_contain_text("Refused by the cluster")
    told = page.locator(".card.bad").first
    expect(told).to_contain_text("The cluster refused this")
    expect(told).to_contain_text("Service 'refused': an apply would be refused")
    expect(told).to_contain_text("Change the values or the chart")
    expect(page.locator("button.primary, button.solid")).to_have_count(0)
    expect(page.get_by_role("button", name="Install refused")).to_be_hidden()
    expect(page.get_by_text("pilothouse apply")).to_have_count(0)
    page.get_by_text("Apply it all the same").click()
    expect(page.get_by_role("button", name="Install refused")).to_be_visible()
    fits(person)
    page.get_by_role("link", name="Change it").click()
    expect(field(page, "name")).to_have_value("refused")


def test_what_was_chosen_is_a_note_and_no_warning(person: Visit, server: RunningServer, namespace: str):
    chart = upload(server, build_chart("defines", templates={"c.yaml": config_map_template()}, values={"text": "x"},
                                       files={"crds/seen.yaml": CRD}))  # fmt: skip
    page = fill_in(person, namespace, "defines", chart=chart)
    page.get_by_role("button", name="Plan it").click()
    expect(page.locator(".apply")).to_contain_text("By the options chosen")
    expect(page.locator(".apply")).to_contain_text(
        "'shares.look.example' of the chart's crds/ is created if it is missing"
    )
    expect(page.locator(".card.bad")).to_have_count(0)
    page.get_by_role("link", name="Change it").click()
    page.get_by_text("Options").click()
    field(page, "crds").select_option("replace")
    page.get_by_role("button", name="Plan it").click()
    expect(page.locator(".card.bad")).to_contain_text("'shares.look.example' of the chart's crds/ is replaced")


@pytest.mark.parametrize("by", ["the page", "a plan"])
def test_an_uninstall_says_which_hooks_it_leaves_out_and_runs_them_if_that_is_ticked(
    person: Visit, server: RunningServer, namespace: str, helm_cli: HelmCommand, by: str
):
    templates = {"c.yaml": config_map_template(), "h.yaml": hook_job_template("pre-delete")}
    chart = build_chart("hooked", templates=templates, values={"text": "x"})
    answer = server.create(chart_id=upload(server, chart), namespace=namespace, name="hooked", values={})
    assert answer.status_code == 201, answer.text
    assert server.wait_until_final(namespace, "hooked")["status"] == "DEPLOYED"
    page = person.page
    person.open_release(namespace, "hooked", "/uninstall")
    expect(page.locator("main")).to_contain_text("Hooks are off: those that the chart has for an uninstall are not run")
    fits(person)
    page.get_by_role("button", name="Plan it").click()
    expect(page.locator("main")).to_contain_text("The chart has 1 hook for an uninstall, and it is not run")
    page.get_by_role("link", name="Back").click()
    page.get_by_label("Run the chart's uninstall hooks").check()
    if by == "a plan":
        page.get_by_role("button", name="Plan it").click()
        expect(page.locator("main")).to_contain_text("Hooks, in their order")
        expect(page.locator("main")).not_to_contain_text("is not run")
        page.get_by_label("Type hooked to confirm").fill("hooked")
        page.get_by_role("button", name="Uninstall hooked").click()
    else:
        page.get_by_label("Type hooked to confirm").fill("hooked")
        page.get_by_role("button", name="Uninstall", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Succeeded", timeout=30_000)
    expect(page.locator("main")).not_to_contain_text("hooks not run")
    OneRelease(server, namespace, "hooked", helm_cli).gone()
