"""Installs, changes and plans in a real browser: what is typed, what is refused, what is shown, and what is done."""

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.console.test_pages import upgrade
from tests.support.browsers import PHONE, Visit, visit
from tests.support.charts import build_chart, hook_job_template
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import RunningServer, wait_for
from tests.support.users import PASSWORD, add_person

SCHEMA = """{
  "type": "object",
  "properties": {
    "replicas": {"type": "integer", "minimum": 1},
    "web": {"type": "object", "properties": {"port": {"type": "integer"}}}
  }
}"""
MAP = """\
apiVersion: v1
kind: ConfigMap
metadata: {{name: "{{{{ .Release.Name }}}}-{name}"}}
data:
{lines}
  text: {{{{ .Values.text | quote }}}}
"""
LINES = "\n".join(f"  line-{number:02}: same" for number in range(20))


@pytest.fixture(scope="module")
def strict(server: RunningServer) -> dict[str, str]:
    """The ids of a chart with a schema in two versions, of which the second renders less, and has another default."""
    made = {}
    for version, extra in (("1.0.0", {"claim.yaml": MAP.format(name="old", lines="  a: b")}), ("2.0.0", {})):
        chart = build_chart(
            "strict", version, schema=SCHEMA,
            templates={"map.yaml": MAP.format(name="map", lines=LINES), "hook.yaml": hook_job_template("pre-upgrade"),
                       "NOTES.txt": "Say {{ .Values.text }}", **extra},
            values={"text": f"of {version}", "replicas": 1, "web": {"port": 80}},
        )  # fmt: skip
        answer = server.upload(chart, parameters='{"override": true}')
        assert answer.status_code == 201, answer.text
        made[version] = str(answer.json()["id"])
    return made


@pytest.fixture
def release(server: RunningServer, namespace: str, helm_cli: HelmCommand, strict: dict[str, str]) -> OneRelease:
    """A release of the first version, with a value of its own."""
    answer = server.create(chart_id=strict["1.0.0"], namespace=namespace, name="shop", values={"text": "mine"})
    assert answer.status_code == 201, answer.text
    assert server.wait_until_final(namespace, "shop")["status"] == "DEPLOYED"
    return OneRelease(server, namespace, "shop", helm_cli)


_NEXT_FRAME = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


def field(page: Page, name: str) -> Locator:
    """A field of the form by its name; some labels are parts of others."""
    return page.locator(f"form.card [name={name}]")


def editor(page: Page) -> Locator:
    """The editor's text, which is in the order of its lines."""
    return page.get_by_role("textbox", name=re.compile("^Values, as YAML"))


def type_values(page: Page, text: str) -> None:
    """Types over what the editor has, with the keyboard only."""
    expect(page.locator("textarea[name=values]")).to_be_hidden()  # until its editor is there, the field is the textbox
    editor(page).focus()
    page.evaluate(_NEXT_FRAME)  # the browser tells the editor late of the selection that comes with the focus
    page.keyboard.press("Control+a")
    page.evaluate(_NEXT_FRAME)
    page.keyboard.insert_text(text)
    expect(page.locator("textarea[name=values]")).to_have_value(text)


def fill_in(person: Visit, namespace: str, name: str, *, chart: str = "") -> Page:
    """Opens the form, and fills in the place."""
    page = person.page
    page.goto(f"{person.home}/install" + (f"?chart={chart}" if chart else ""))
    field(page, "cluster").select_option("test")
    field(page, "namespace").fill(namespace)
    field(page, "name").fill(name)
    return page


def test_a_chart_is_installed_by_a_plan_and_what_is_wrong_is_told_at_its_field_and_line(
    person: Visit, server: RunningServer, namespace: str, strict: dict[str, str]
):
    page = person.page
    page.goto(f"{person.home}/charts/{strict['1.0.0']}")
    page.get_by_role("link", name="Install").click()
    expect(page.locator(".beside")).to_contain_text('text: "of 1.0.0"')
    fill_in(person, namespace, "Shop_", chart=strict["1.0.0"])
    type_values(page, "# mine\ntext: hello\nreplicas: many\nweb:\n  port: none\n")
    told = page.locator(".values-field > [role=status]")
    expect(told).to_contain_text("Line 3: replicas: got string, want integer")
    expect(told).to_contain_text("Line 5: web.port: got string, want integer")
    expect(page.locator(".cm-lintRange-error")).to_have_count(2)
    page.get_by_role("button", name="Plan it").click()
    expect(page.get_by_role("alert")).to_contain_text("'Shop_' is not a release name")
    expect(field(page, "name")).to_have_attribute("aria-invalid", "true")
    field(page, "name").fill("shop")
    page.get_by_role("button", name="Plan it").click()
    expect(page.get_by_role("alert")).to_contain_text("Line 3: replicas: got string, want integer")
    expect(editor(page)).to_contain_text("# mine")
    type_values(page, "text: hello\nreplicas: 2\n")
    expect(told).to_be_empty()
    page.get_by_role("button", name="Plan it").click()
    expect(page).to_have_url(re.compile(r"/plans/[0-9a-f-]{36}$"))
    expect(page.get_by_role("heading", level=1)).to_contain_text("Install shop")
    expect(page.locator(".chips")).to_contain_text("Added2")
    assert server.show(namespace, "shop").status_code == 404, "a plan writes nothing"
    page.get_by_text("All values, and where each comes from").click()
    expect(page.locator(".leaves tr", has_text="/text")).to_contain_text("given now")
    expect(page.locator(".leaves tr", has_text="/web/port")).to_contain_text("the chart")
    page.get_by_role("link", name="Change it").click()
    expect(editor(page)).to_contain_text("text: hello")
    expect(field(page, "namespace")).to_have_value(namespace)
    page.go_back()
    page.get_by_role("button", name="Install shop").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Succeeded")
    assert server.wait_until_final(namespace, "shop")["status"] == "DEPLOYED"
    page.go_back()
    page.reload()
    expect(page.locator("main")).to_contain_text("It was applied.")
    expect(page.get_by_role("button", name="Install shop")).to_have_count(0)
    fill_in(person, namespace, "shop", chart=strict["1.0.0"])
    page.get_by_role("button", name="Plan it").click()
    expect(page.get_by_role("alert")).to_contain_text("release 'shop' exists in namespace")
    page.get_by_role("link", name="Change that release").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("shop")


def test_a_form_of_the_schema_and_the_text_show_the_same_and_comments_stay(person: Visit, strict: dict[str, str]):
    page = person.page
    page.goto(f"{person.home}/install?chart={strict['1.0.0']}")
    type_values(page, "# about all\n\n# about the text\ntext: a # said\nweb:\n  # the usual one\n  port: 80\n")
    page.get_by_role("button", name="Show as a form").click()
    port, replicas = page.get_by_label("port", exact=True), page.get_by_label("replicas", exact=True)
    expect(port).to_have_value("80")
    replicas.fill("3")
    port.fill("8080")
    text = page.locator("textarea[name=values]")
    expected = "# about all\n\n# about the text\ntext: a # said\nweb:\n  # the usual one\n  port: 8080\nreplicas: 3\n"
    assert text.input_value() == expected
    port.fill("")
    assert text.input_value() == "# about all\n\n# about the text\ntext: a # said\n# the usual one\nreplicas: 3\n"
    type_values(page, "web: [\n")
    expect(page.get_by_text("The text is no YAML now")).to_be_visible()
    expect(port).to_be_disabled()
    type_values(page, "web: {port: 1}\nreplicas: x\n")
    expect(port).to_have_value("1")
    expect(replicas).to_have_value("x")
    expect(page.locator(".values-field > [role=status]")).to_contain_text("Line 2: replicas: got string, want integer")
    field(page, "chart").select_option("")
    expect(page.locator(".schema-form")).to_contain_text("Choose a chart first.")


def test_what_is_typed_survives_a_reload_and_an_ended_session(
    person: Visit, browser: Browser, server: RunningServer, namespace: str, strict: dict[str, str]
):
    page = fill_in(person, namespace, "kept", chart=strict["1.0.0"])
    text = "text: |-\n" + "  a long line of what somebody typed\n" * 2000
    type_values(page, f"{text}# to the end\n")
    page.get_by_text("Options").click()
    field(page, "rollback_on_failure").check()
    page.reload()
    expect(page.get_by_text("What you typed here before is back.")).to_be_visible()
    expect(field(page, "name")).to_have_value("kept")
    with visit(browser, server) as elsewhere:
        elsewhere.log_in()
        elsewhere.page.goto("/console/account")
        elsewhere.page.get_by_role("button", name="Log out everywhere").click()
        expect(elsewhere.page.get_by_role("heading", name="Log in")).to_be_visible()
    page.get_by_role("button", name="Plan it").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    page.goto(f"{person.home}/install?chart={strict['1.0.0']}")
    page.get_by_label("Name", exact=True).fill("admin")
    page.get_by_label("Password").fill(server.password)
    page.get_by_role("button", name="Log in").click()
    expect(field(page, "name")).to_have_value("kept")
    expect(field(page, "rollback_on_failure")).to_be_checked()
    assert page.locator("textarea[name=values]").input_value() == f"{text}# to the end\n"
    page.get_by_role("button", name="Discard it").click()
    expect(field(page, "name")).to_have_value("")
    field(page, "name").fill("typed")
    wait_for(lambda: page.evaluate("Object.keys(sessionStorage).length") == 1)
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    assert page.evaluate("Object.keys(sessionStorage).length") == 0


def test_what_is_typed_is_not_left_to_another_person(
    person: Visit, server: RunningServer, namespace: str, strict: dict[str, str]
):
    other = add_person(server, "te_admin")

    def drafts() -> int:
        count: int = page.evaluate("Object.keys(sessionStorage).filter(key => key.includes('draft')).length")
        return count

    page = fill_in(person, namespace, "kept", chart=strict["1.0.0"])
    wait_for(lambda: drafts() == 1)
    second = page.context.new_page()
    second.goto(f"{person.home}/releases")
    second.get_by_role("button", name="Log out").click()
    expect(second.get_by_role("heading", name="Log in")).to_be_visible()
    page.goto(f"{person.home}/install")
    assert drafts() == 1, "its own person may come back"
    page.get_by_label("Name", exact=True).fill(other.name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Install")
    assert drafts() == 0
    fill_in(person, namespace, "kept", chart=strict["1.0.0"])
    wait_for(lambda: drafts() == 1)
    page.goto("/console/account")
    assert drafts() == 1
    page.locator("tr", has_text="this one").get_by_role("button").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    assert drafts() == 0, "its own session was ended"
    page.get_by_label("Name", exact=True).fill(other.name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_hidden()
    fill_in(person, namespace, "kept", chart=strict["1.0.0"])
    wait_for(lambda: drafts() == 1)
    page.goto("/console/account")
    page.get_by_text("Set another password").click()
    page.get_by_label("Current password").fill(PASSWORD)
    for name in ("new_password", "again_password"):
        page.locator(f"input[name={name}]").fill("another password")
    page.locator("#password form button").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    assert drafts() == 0


def test_a_change_is_planned_over_what_one_saw_and_shows_objects_values_and_hooks(person: Visit, release: OneRelease):
    page = person.page
    person.open_release(release.namespace, "shop", "/values?layer=computed")
    expect(page.locator(".leaves tr", has_text="/text")).to_contain_text("given")
    expect(page.locator(".leaves tr", has_text="/replicas")).to_contain_text("the chart")
    page.get_by_role("link", name="Change").last.click()
    expect(editor(page)).to_contain_text("text: mine")
    field(page, "chart").select_option(label="strict 2.0.0")
    type_values(page, "text: better\n")
    page.get_by_role("button", name="Show what I changed").click()
    expect(page.locator(".cm-deletedChunk")).to_contain_text("text: mine")
    page.get_by_role("button", name="Plan it").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Upgrade shop")
    expect(page.locator(".chips")).to_contain_text("Changed1")
    expect(page.locator(".chips")).to_contain_text("Removed1")
    object_ = page.locator("details.object", has_text="shop-map")
    expect(object_.locator("tr.changed .was")).to_contain_text("text: mine")
    expect(object_.locator("tr.changed .is")).to_contain_text("text: better")
    folded = object_.get_by_text(re.compile(r"^\d+ lines that are the same$")).first
    expect(object_.get_by_text("line-00")).to_have_count(2)
    expect(object_.get_by_text("line-00").first).to_be_hidden()
    folded.click()
    expect(object_.get_by_text("line-00").first).to_be_visible()
    expect(page.locator(".fields").first).to_contain_text("/text")
    expect(page.locator("main")).to_contain_text("pre-upgrade")
    assert release.statuses() == ["deployed"]
    page.get_by_role("button", name="Upgrade shop").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Succeeded")
    assert release.statuses() == ["superseded", "deployed"]


def test_who_changes_a_release_second_sees_what_moved(person: Visit, release: OneRelease, strict: dict[str, str]):
    page = person.page
    person.open_release(release.namespace, "shop", "/change")
    answer = release.update(chart_id=strict["1.0.0"], values={"text": "theirs", "replicas": 3})
    assert answer.status_code == 200, answer.text
    assert release.settled()["status"] == "DEPLOYED"
    type_values(page, "text: mine and new\n")
    page.get_by_role("button", name="Plan it").click()
    moved = page.get_by_role("alert")
    expect(moved).to_contain_text("You began at revision 1. Since then revision 2 was written by admin")
    expect(moved.locator(".was")).to_contain_text(["text: mine"])
    expect(moved.locator("tr", has_text="theirs").locator(".is")).to_contain_text("text: theirs")
    expect(editor(page)).to_contain_text("mine and new")
    page.get_by_role("button", name="Plan this over revision 2").click()
    expect(page.locator(".lead")).to_contain_text("over revision 2")
    expect(page.locator("main")).to_contain_text("/replicas")


def test_values_change_with_the_chart_that_the_release_stores_if_there_is_no_other(
    person: Visit, server: RunningServer, namespace: str, helm_cli: HelmCommand, tmp_path: Path
):
    chart, page = tmp_path / "chart.tgz", person.page
    chart.write_bytes(build_chart("own", "3.0.0", templates={"map.yaml": MAP.format(name="map", lines=LINES)}))
    helm_cli("install", "own", str(chart), "-n", namespace, "--set", "text=first")
    wait_for(lambda: server.show(namespace, "own").status_code == 200)
    person.open_release(namespace, "own", "/change")
    expect(page.locator("main")).not_to_contain_text("No charts yet")
    expect(field(page, "chart").locator("option:checked")).to_contain_text("own 3.0.0, as revision 1 of the release")
    type_values(page, "text: second\n")
    page.get_by_role("button", name="Plan it").click()
    expect(page.locator(".chips").first).to_contain_text("Changed1")
    page.get_by_role("link", name="Change it").click()
    expect(field(page, "chart")).to_have_value("stored")
    page.go_back()
    page.get_by_role("button", name="Upgrade own").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Succeeded")


def test_given_values_are_kept_if_one_says_so(person: Visit, release: OneRelease):
    page = person.page
    for mode, text in (("Keep what was given.", "mine"), ("The text below is all.", "of 2.0.0")):
        person.open_release(release.namespace, "shop", "/change")
        field(page, "chart").select_option(label="strict 2.0.0")
        page.get_by_role("radio", name=mode).check()
        type_values(page, "replicas: 4\n")
        page.get_by_role("button", name="Plan it").click()
        page.get_by_text("All values, and where each comes from").click()
        expect(page.locator(".leaves tr", has_text="/text")).to_contain_text(text)
        expect(page.locator(".leaves tr", has_text="/replicas")).to_contain_text("given now")


def test_a_plan_that_moved_or_was_applied_is_refused_with_the_reason(
    person: Visit, release: OneRelease, strict: dict[str, str]
):
    page = person.page
    person.open_release(release.namespace, "shop", "/change")
    type_values(page, "text: planned\n")
    page.get_by_role("button", name="Plan it").click()
    expect(page.get_by_role("button", name="Upgrade shop")).to_be_visible()
    second = page.context.new_page()
    second.goto(page.url)
    upgrade(release, {"next": strict["1.0.0"]}, "another's")
    page.get_by_role("button", name="Upgrade shop").click()
    expect(page.get_by_role("alert")).to_contain_text(
        "the release moved since the plan was made: revision 2 was written"
    )
    expect(page.get_by_role("alert")).to_contain_text("plan again")
    page.get_by_role("link", name="Change it").click()
    expect(editor(page)).to_contain_text("text: planned")
    page.get_by_role("button", name="Plan it").click()
    expect(page.locator(".lead")).to_contain_text("over revision 2")
    second.goto(page.url)
    page.get_by_role("button", name="Upgrade shop").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Succeeded")
    second.get_by_role("button", name="Upgrade shop").click()
    expect(second.get_by_role("alert")).to_contain_text("has been applied already")
    expect(second.get_by_role("link", name="See the operation")).to_be_visible()


def test_who_may_only_look_sees_a_plan_without_values_and_gets_the_line_to_pass_on(
    person: Visit, browser: Browser, server: RunningServer, release: OneRelease
):
    person.open_release(release.namespace, "shop", "/change")
    type_values(person.page, "text: a secret text\n")
    person.page.get_by_role("button", name="Plan it").click()
    expect(person.page.locator("main")).to_contain_text("a secret text")
    viewer = add_person(server, "readonly", project_id=server.project_id)
    with visit(browser, server) as looking:
        looking.log_in(name=viewer.name, password=PASSWORD)
        page = looking.page
        page.goto(person.page.url)
        expect(page.locator("main")).to_contain_text("cce:release:update")
        expect(page.locator("main")).to_contain_text("pilothouse apply ")
        assert "a secret text" not in page.content()
        assert page.get_by_role("button", name="Upgrade shop").count() == 0
        for path in ("/install", f"/releases/test/{release.namespace}/shop/change"):
            answer = page.goto(f"{looking.home}{path}")
            assert answer is not None
            assert answer.status == 403
            expect(page.get_by_role("alert")).to_contain_text("lacks the permission cce:release:")


def test_a_rollback_and_an_uninstall_can_be_planned(person: Visit, release: OneRelease, strict: dict[str, str]):
    upgrade(release, {"next": strict["2.0.0"]}, "second")
    page = person.page
    person.open_release(release.namespace, "shop", "/uninstall")
    page.get_by_role("button", name="Plan it").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Uninstall shop")
    expect(page.locator(".chips")).to_contain_text("Removed1")
    page.get_by_role("link", name="Back").click()
    expect(page.get_by_label(re.compile("to confirm"))).to_be_visible()
    person.open_release(release.namespace, "shop", "/rollback?to=1")
    page.get_by_role("button", name="Plan going back to revision 1").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Roll back shop")
    expect(page.locator(".chips")).to_contain_text("Added1")
    page.get_by_role("button", name="Roll shop back to revision 1").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Succeeded")
    assert release.statuses() == ["superseded", "superseded", "deployed"]


def test_a_change_is_planned_and_applied_without_scripts(browser: Browser, server: RunningServer, release: OneRelease):
    with visit(browser, server, scripts=False) as reader:
        reader.log_in()
        page = reader.page
        reader.open_release(release.namespace, "shop", "/change")
        field(page, "chart").select_option(label="strict 2.0.0")
        page.get_by_role("button", name="Show its defaults").click()
        expect(page.locator(".beside")).to_contain_text('text: "of 2.0.0"')
        page.get_by_label("Values, as YAML").fill("replicas: 0\n")
        page.get_by_role("button", name="Plan it").click()
        expect(page.get_by_role("alert")).to_contain_text("Line 1: replicas: minimum: got 0, want 1")
        page.get_by_label("Values, as YAML").fill("replicas: [")
        page.get_by_role("button", name="Plan it").click()
        expect(page.get_by_role("alert")).to_contain_text("Line 1:")
        page.get_by_label("Values, as YAML").fill("replicas: 2\n")
        page.get_by_role("button", name="Plan it").click()
        page.get_by_role("button", name="Upgrade shop").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("shop")
    assert release.settled()["version"] == 2


def test_hostile_values_and_names_are_texts(person: Visit, namespace: str, strict: dict[str, str]):
    text = "<script>alert(1)</script></textarea><img src=//evil.example/x onerror=alert(2)>\u202etxet"
    page = fill_in(person, namespace, text[:20], chart=strict["1.0.0"])
    type_values(page, f"text: {text!r}\n'</code><script>alert(3)</script>': 1\n")
    page.get_by_role("button", name="Plan it").click()
    expect(page.get_by_role("alert")).to_contain_text("is not a release name")
    field(page, "name").fill("hostile")
    page.get_by_role("button", name="Plan it").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Install hostile")
    page.get_by_text("All values, and where each comes from").click()
    page.locator("details.object").first.locator("summary").click()
    assert page.locator("main script, main img").count() == 0
    assert person.overflow() <= 0


def test_forms_and_plans_are_free_of_barriers_and_fit_a_phone(
    browser: Browser, server: RunningServer, release: OneRelease, strict: dict[str, str]
):
    with visit(browser, server) as person:
        person.log_in()
        page = fill_in(person, release.namespace, "Shop_", chart=strict["1.0.0"])
        person.inspect("install")
        page.get_by_text("Options").click()
        type_values(page, '# what is mine\ntext: "a"\nreplicas: many\nweb: {port: none, x: true}\n')
        expect(page.locator(".cm-lintRange-error").first).to_be_visible()
        page.get_by_role("button", name="Show as a form").click()
        expect(page.get_by_label("replicas", exact=True)).to_have_value("many")
        editor(page).focus()
        page.keyboard.press("Control+f")
        person.inspect("install-judged")
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Plan it").click()
        expect(page.get_by_role("alert")).to_be_visible()
        person.inspect("install-refused")
        field(page, "name").fill("shop2")
        page.get_by_role("button", name="Plan it").click()
        expect(page.get_by_role("alert")).to_contain_text("Line 3")
        person.inspect("install-refused-values")
        type_values(page, "text: a\n")
        page.get_by_role("button", name="Plan it").click()
        expect(page.get_by_role("button", name="Install shop2")).to_be_visible()
        person.inspect("plan-install")
        person.open_release(release.namespace, "shop", "/change")
        field(page, "chart").select_option(label="strict 2.0.0")
        type_values(page, "text: better\nreplicas: 3\n")
        page.get_by_role("button", name="Show what I changed").click()
        person.inspect("change")
        page.get_by_role("button", name="Plan it").click()
        expect(page.get_by_role("button", name="Upgrade shop")).to_be_visible()
        person.inspect("plan-upgrade")
        page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
        line = page.locator(".sides .is:visible").last.bounding_box()
        assert line is not None
        assert line["width"] > 150, "one letter below the other cannot be read"
        page.goto(f"{person.home}/releases/test/{release.namespace}/shop/values?layer=computed")
        person.inspect("values-origins")
        page.goto(f"{person.home}/releases/test/{release.namespace}/shop/uninstall")
        page.get_by_role("button", name="Plan it").click()
        expect(page.get_by_role("button", name="Uninstall shop")).to_be_visible()
        person.inspect("plan-uninstall")


def test_the_editor_weighs_little(person: Visit, strict: dict[str, str]):
    weights: list[int] = []
    page = person.page

    def weigh(answer: Any) -> None:
        weights.append(answer.request.sizes()["responseBodySize"])

    page.on("response", weigh)
    page.goto(f"{person.home}/install?chart={strict['1.0.0']}")
    expect(editor(page)).to_be_visible()
    assert 100_000 < sum(weights) < 350_000
