"""A real browser at the console, which notices what no page may do: run what its policy forbids, or call out."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, Request, expect, sync_playwright

from tests.support.servers import RunningServer
from tools.browser import find_browser

Scheme = Literal["light", "dark"]
WIDE, PHONE = (1440, 900), (360, 740)
#: Where the pictures of pages go, if anywhere.
PICTURES = os.environ.get("PILOTHOUSE_TEST_SCREENSHOTS", "")
_AXE = Path(__file__).parents[1] / "console" / "axe" / "axe-4.14.1.min.js"
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
#: Rules that other colours and a narrow window could break where a wide one in light colours does not.
_OF_COLOURS = ["color-contrast", "link-in-text-block"]
_OF_WIDTH = [*_OF_COLOURS, "target-size", "scrollable-region-focusable"]


@dataclass
class Visit:
    """One browser profile at one server; ``faults`` is what it noticed."""

    page: Page
    server: RunningServer
    name: str = ""
    faults: list[str] = field(default_factory=list)
    #: Hosts with ports that its pages lead to.
    elsewhere: frozenset[str] = frozenset()

    @property
    def home(self) -> str:
        """The path of the server's first project."""
        return "/console/p/cn-north-4"

    def log_in(self, *, name: str = "admin", password: str = "") -> None:
        """Logs in by the form; ends at the releases."""
        self.page.goto("/console/")
        self.page.get_by_label("Name", exact=True).fill(name)
        self.page.get_by_label("Password").fill(password or self.server.password)
        self.page.get_by_role("button", name="Log in").click()
        self.page.wait_for_url("**/releases")

    def open_release(self, namespace: str, name: str, part: str = "") -> None:
        """Opens the release's page, or a part of it."""
        answer = self.page.goto(f"{self.home}/releases/test/{namespace}/{name}{part}")
        assert answer is not None
        assert answer.status == 200, answer.text()

    def remove(self, what: str, name: str, *, word: str = "Delete", place: str = "delete") -> None:
        """Removes the thing whose page is shown: refused for another name, and done for its own."""
        part = self.page.locator(f"#{place}")
        part.get_by_text(f"{word} this {what}").click()
        for typed in ("another", name):
            part.get_by_label(re.compile("to confirm")).fill(typed)
            part.get_by_role("button", name=word).click()
            if typed != name:
                expect(part.get_by_role("alert")).to_contain_text(f"type the {what}'s name, {name}")

    def unfold(self) -> None:
        """Opens all that is folded."""
        self.page.evaluate("document.querySelectorAll('main details').forEach(one => { one.open = true })")

    def overflow(self) -> int:
        """How many pixels the page is wider than its window."""
        found: int = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        return found

    def picture(self, name: str, scheme: str) -> None:
        """Keeps a picture of the whole page for whoever wants to look."""
        if PICTURES:
            Path(PICTURES).mkdir(parents=True, exist_ok=True)
            size = self.page.viewport_size or {"width": 0}
            file = f"{name}-{scheme}-{size['width']}.png"
            self.page.screenshot(path=Path(PICTURES) / file, full_page=True)

    def inspect(self, name: str) -> None:
        """The page has no barriers and nothing beside its window, in both colour schemes, on a phone, and unfolded."""
        looks: tuple[tuple[Scheme, tuple[int, int], list[str]], ...] = (
            ("light", PHONE, _OF_WIDTH),
            ("dark", PHONE, _OF_COLOURS),
            ("dark", WIDE, _OF_COLOURS),
            ("light", WIDE, []),
        )
        for scheme, size, _ in looks if PICTURES else looks[:1]:
            self._look(scheme, size)
            self.picture(name, scheme)
            assert self.overflow() <= 0, (name, size)
        folded = self.page.locator("main details:not([open])").element_handles()
        self.unfold()
        for scheme, size, rules in looks:
            self._look(scheme, size)
            assert self.barriers(rules) == [], (name, scheme, size)
            assert self.overflow() <= 0, (name, size, "unfolded")
        for one in folded:
            one.evaluate("one => { one.open = false }")

    def _look(self, scheme: Scheme, size: tuple[int, int]) -> None:
        width, height = size
        self.page.emulate_media(color_scheme=scheme)
        self.page.set_viewport_size({"width": width, "height": height})

    def barriers(self, rules: Sequence[str] = ()) -> list[str]:
        """What axe finds, by all rules if none is named: rule, and the elements that break it."""
        # Not as a script of the page, whose policy forbids it: as the debugger's.
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(_AXE.read_text() + ";0")
        only = {"type": "rule", "values": list(rules)} if rules else {"type": "tag", "values": _RULES}
        found: dict[str, Any] = self.page.evaluate(
            # no rule of these looks into the style sheets, which it would load again otherwise
            "only => axe.run(document, {runOnly: only, resultTypes: ['violations'], preload: false})",
            only,
        )
        return [
            f"{one['id']} ({one['impact']}): {node['html'][:200]} {node.get('failureSummary', '')[:300]}"
            for one in found["violations"]
            for node in one["nodes"]
        ]

    def _hear(self, message: ConsoleMessage) -> None:
        # A refused form is an answer of 4xx, which the browser reports too.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.faults.append(f"console: {message.text}")

    def _see(self, request: Request) -> None:
        known = {urlsplit(self.server.url).netloc, *self.elsewhere}
        if urlsplit(request.url).netloc not in known and not request.url.startswith("data:"):
            self.faults.append(f"request to another host: {request.url}")

    def _meet(self, dialog: Dialog) -> None:
        self.faults.append(f"a script of somebody else ran: {dialog.message}")
        dialog.dismiss()

    def watch(self) -> None:
        """Notices from now on."""
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.faults.append(f"script: {error}"))
        self.page.on("request", self._see)
        self.page.on("dialog", self._meet)
        self.page.add_init_script(
            "addEventListener('securitypolicyviolation', e => console.error('policy: ' + e.violatedDirective + ' ' +"
            " e.blockedURI))"
        )


@contextmanager
def run_browser() -> Iterator[Browser]:
    """The machine's Chromium; without one the tests are skipped, but not in CI."""
    program = find_browser()
    if program is None:
        message = "there is no Chromium: python -m tools.browser installs one, or says how"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program,
            args=["--no-sandbox"] if os.geteuid() == 0 else [],  # root may not have one
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def visit(
    browser: Browser,
    server: RunningServer,
    *,
    scheme: Scheme = "light",
    size: tuple[int, int] = WIDE,
    scripts: bool = True,
    elsewhere: frozenset[str] = frozenset(),
    locale: str = "en-US",
) -> Iterator[Visit]:
    """A new profile; at the end it must have noticed nothing."""
    context = browser.new_context(
        base_url=server.url,
        color_scheme=scheme,
        viewport={"width": size[0], "height": size[1]},
        java_script_enabled=scripts,
        timezone_id="Europe/Berlin",
        locale=locale,
    )
    context.set_default_timeout(15_000)
    try:
        made = Visit(context.new_page(), server, elsewhere=elsewhere)
        made.watch()
        yield made
        assert made.faults == [], made.faults
    finally:
        context.close()
