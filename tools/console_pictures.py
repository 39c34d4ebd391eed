"""``make pictures``: pictures of the console for its page in the documentation, of the demo with sample data.

In both colour schemes, of what a window shows; each is small, so that they can be kept in the repository.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

from playwright.sync_api import Page, sync_playwright

from pilothouse.errors import PilothouseError
from tools.browser import find_browser
from tools.console_demo import CLUSTERS, fill
from tools.demo import DEMO, DemoFailed, Server, console, start_server, stop_server
from tools.localcluster import cluster as local
from tools.localcluster.errors import LocalClusterError

FOLDER: Final = Path(__file__).parent.parent / "docs" / "pictures"
SIZE: Final = (1200, 720)
#: Of one picture.
LARGEST: Final = 160 * 1024
_SETTLED_SECONDS: Final = 90.0
Scheme = Literal["light", "dark"]


def _release(page: Page, home: str, name: str, part: str = "") -> None:
    """Go to a release where it was installed; the other registrations show it as somebody else's."""
    page.goto(f"{home}/releases?q={name}&cluster={CLUSTERS[0]}")
    address = page.locator("tbody .name").first.get_attribute("href")
    page.goto(f"{address}{part}")


def _failed(page: Page, home: str) -> None:
    page.goto(f"{home}/operations?state=failed")
    page.get_by_role("link", name="invoices", exact=True).first.click()


def _plan(page: Page, home: str) -> None:
    _release(page, home, "storefront", "/change")
    page.get_by_role("textbox", name="Values, as YAML").focus()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text("replicas: 2\ngreeting: I am storefront, by a plan\n")
    page.get_by_role("button", name="Plan it").click()
    page.get_by_role("button", name="Upgrade storefront").wait_for()


#: Each with the way to it.
PICTURES: Final[dict[str, Callable[[Page, str], Any]]] = {
    "releases": lambda page, home: page.goto(f"{home}/releases"),
    "failed": _failed,
    "resources": lambda page, home: _release(page, home, "recommendations", "/resources"),
    "plan": _plan,
}


def main() -> int:
    """Make the pictures; return 1 if one cannot be made or is too large."""
    try:
        DEMO.mkdir(mode=0o700, exist_ok=True)
        kubernetes = local.obtain()
        server = start_server()
        try:
            fill(server, kubernetes)
            sizes = {path.name: path.stat().st_size for path in take(server)}
        finally:
            stop_server()
    except (DemoFailed, LocalClusterError, PilothouseError) as error:
        console.print(f"[bold red]stopped:[/] {error}", soft_wrap=True)
        return 1
    for name, size in sizes.items():
        console.print(f"  {name}: {size // 1024} KiB")
    return int(any(size > LARGEST for size in sizes.values()))


def take(server: Server) -> Iterator[Path]:
    """Yield the file of each picture as it is made."""
    FOLDER.mkdir(exist_ok=True)
    schemes: tuple[Scheme, ...] = ("light", "dark")
    for scheme in schemes:
        with _logged_in(server, scheme) as (page, home):
            for name, lead in PICTURES.items():
                lead(page, home)
                page.wait_for_load_state("networkidle")
                path = FOLDER / f"console-{name}-{scheme}.png"
                page.screenshot(path=path)
                yield path


@contextmanager
def _logged_in(server: Server, scheme: Scheme) -> Iterator[tuple[Page, str]]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        size: Any = {"width": SIZE[0], "height": SIZE[1]}
        page = browser.new_context(base_url=server.url, color_scheme=scheme, viewport=size).new_page()
        page.set_default_timeout(_SETTLED_SECONDS * 1000)
        page.goto("/console/")
        page.get_by_label("Name", exact=True).fill(server.first["user_name"])
        page.get_by_label("Password").fill(server.first["password"])
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url("**/releases")
        yield page, page.url.removesuffix("/releases")
        browser.close()


if __name__ == "__main__":
    sys.exit(main())
