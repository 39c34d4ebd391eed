"""The console in another language: in one that puts each text in brackets, nothing of a page is left outside them."""

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.console.test_pages import pages, source_pages, upgrade
from tests.support.browsers import Visit, visit
from tests.support.chart_sources import Repository
from tests.support.languages import PSEUDO, copy_program, outside
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import RunningServer, open_folder, run_server

#: What is data wherever it stands: names, what APIs, Helm and Kubernetes say, times, and what was typed.
_READ = """
() => {
  const data = 'bdi, code, pre, kbd, script, style, time:not([data-ago]), textarea, [dir=auto], .number, .count,'
    + ' .brand, .cm-content, .cm-gutters';
  const found = [document.title], roots = [document];
  for (const root of roots) {
    let text = '';
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT | NodeFilter.SHOW_ELEMENT);
    for (let one = walker.nextNode(); one; one = walker.nextNode()) {
      if (one.nodeType === Node.TEXT_NODE) {
        if (!one.parentElement?.closest(data)) text += one.data;
        continue;
      }
      if (one.shadowRoot) roots.push(one.shadowRoot);
      for (const name of ['aria-label', 'title', 'placeholder', 'data-label', 'label']) {
        if (one.hasAttribute(name) && !(name === 'title' && one.closest('[dir=auto], time'))) {
          found.push(one.getAttribute(name));
        }
      }
    }
    found.push(text);
  }
  return found;
}
"""
#: Names that stand outside of elements for data, those of this test's things among them.
_NAMES = re.compile(
    r"Pilothouse( [0-9.a-z+]+)?|PGP|Flux|Argo CD|README|CCE (ReadOnlyAccess|FullAccess|Administrator)|readonly|te_admin"
    r"|\b(waits-web-[a-z0-9-]+|seen(-[0-9a-f]{8})?|test|shop|waits|fails|stuck|webapp|admin|cn-north-4|main|hooks)\b"
    r"|\b(FailedScheduling|ScalingReplicaSet|SuccessfulCreate|InProgress|Pending|Available|CCE[.][0-9]+)\b"
)


@pytest.fixture(scope="module")
def server(kubeconfig: str) -> Iterator[RunningServer]:
    """A server with the pseudo-language installed."""
    with open_folder() as folder:
        place = copy_program(folder / "program")
        with run_server(folder, kubeconfig=kubeconfig, environment={"PYTHONPATH": str(place)}) as running:
            yield running


@pytest.fixture
def release(server: RunningServer, namespace: str, helm_cli: HelmCommand, install: Callable[[str], None]) -> OneRelease:
    """A release of one revision."""
    install("shop")
    return OneRelease(server, namespace, "shop", helm_cli)


def left_in(page: Page) -> list[str]:
    """Return what of a page comes from no catalogue and is no data."""
    assert page.locator("html").get_attribute("lang") == PSEUDO
    read: list[str] = page.evaluate(_READ)
    left = [line.strip() for text in read for line in _NAMES.sub("", outside(text)).splitlines()]
    return sorted({line for line in left if re.search(r"[^\W\d_]", line)})


@pytest.fixture
def foreigner(browser: Browser, server: RunningServer) -> Iterator[Visit]:
    """The administrator, with a browser in the pseudo-language."""
    with visit(browser, server, locale=PSEUDO) as person:
        page = person.page
        page.goto("/console/")
        assert left_in(page) == []
        page.locator("[name=name]").fill("admin")
        for password in ("not the password", server.password):
            page.locator("[name=password]").fill(password)
            page.locator("form button.primary").click()
        page.wait_for_url("**/releases")
        yield person


def test_no_page_has_english_left_in_another_language(  # noqa: PLR0917 (fixtures)
    foreigner: Visit, server: RunningServer, release: OneRelease, charts: dict[str, str],
    start_stuck: Callable[..., str], source: tuple[str, Repository],
):  # fmt: skip
    upgrade(release, charts, "a second text")
    running, failed = start_stuck("waits"), start_stuck("fails", seconds=4)
    page, found = foreigner.page, {}
    listed = pages(foreigner, release, charts, running, failed) | source_pages(foreigner.home, source[0])
    for name, path in listed.items():
        page.goto(path)
        foreigner.unfold()
        found[name] = left_in(page)
    assert {name: texts for name, texts in found.items() if texts} == {}
    server.send("POST", f"/api/v1/operations/{running}/cancel", json_body={})


def test_forms_plans_and_what_follows_them_have_no_english_left_in_another_language(
    foreigner: Visit, release: OneRelease, charts: dict[str, str]
):
    page = foreigner.page
    upgrade(release, charts, "a second text")
    page.goto(f"{foreigner.home}/install?chart={charts['next']}")
    for button in page.locator(".tools button").all():
        button.click()
    page.locator(".cm-content").focus()
    page.keyboard.press("Control+f")
    expect(page.locator(".cm-panel.cm-search")).to_be_visible()
    expect(page.locator(".schema-form")).to_contain_text("⟦")
    assert left_in(page) == []

    page.locator("[name=namespace]").fill(release.namespace)
    page.locator("[name=name]").fill("shop")
    page.locator("form button.primary").click()
    expect(page.get_by_role("alert").first).to_be_visible()
    assert left_in(page) == []
    foreigner.open_release(release.namespace, "shop", "/change")
    page.locator(".cm-content").click()
    page.keyboard.type("text: another")
    page.locator("form button.primary").click()
    page.wait_for_url("**/plans/*")
    foreigner.unfold()
    assert left_in(page) == []
    page.goto(f"{foreigner.home}/releases/bulk?do=rollback&release=test/{release.namespace}/shop")
    page.locator("form button.primary").click()
    page.wait_for_url("**/ordered?*")
    assert left_in(page) == []


def test_those_who_follow_an_operation_together_each_have_their_language(
    foreigner: Visit, browser: Browser, server: RunningServer, start_stuck: Callable[..., str]
):
    running = start_stuck("waits")
    with visit(browser, server) as person:
        person.log_in()
        for one in (person, foreigner):
            one.page.goto(f"{one.home}/operations/{running}")
            expect(one.page.locator(".now")).to_contain_text("0 of 3 ready")
        server.send("POST", f"/api/v1/operations/{running}/cancel", json_body={})
        expect(person.page.locator("h1")).to_contain_text("Cancelled", timeout=30_000)
        expect(foreigner.page.locator("h1")).to_contain_text("⟦Cancelled⟧", timeout=30_000)
        assert "⟦" not in person.page.locator("body").inner_text()
        assert left_in(foreigner.page) == []
