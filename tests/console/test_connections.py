"""What pages say when the way to the server breaks, and that another process of the API answers as well."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, expect

from tests.support.browsers import Visit, visit
from tests.support.fleets import Process
from tests.support.forwarder import Forwarder
from tests.support.servers import RunningServer, free_port

#: What a browser says of a request that broke off, or that a proxy answered.
CUT = re.compile("Failed to fetch|network error|net::ERR_|SSE reconnect failed with status 503")


@contextmanager
def on_two_pages(
    browser: Browser, server: RunningServer, namespace: str, operation_id: str
) -> Iterator[tuple[Forwarder, Page, Page]]:
    """Yield a way to the server that can be cut, and over it the pages of the operation and of the namespace's list."""
    address = urlsplit(server.url)
    way = Forwarder(address.hostname or "", address.port or 0)
    try:
        with visit(browser, replace(server, url=f"http://127.0.0.1:{way.port}")) as person:
            person.log_in()
            operation, listed = person.page, person.page.context.new_page()
            operation.goto(f"{person.home}/operations/{operation_id}")
            listed.goto(f"{person.home}/releases?namespace={namespace}")
            yield way, operation, listed
            person.faults[:] = [one for one in person.faults if not CUT.search(one)]
    finally:
        way.stop()


def test_a_cut_connection_is_told_and_nothing_is_missed_when_it_is_back(
    browser: Browser, server: RunningServer, namespace: str, start_stuck: Callable[..., str]
):
    operation_id = start_stuck("waits")
    with on_two_pages(browser, server, namespace, operation_id) as (way, operation, listed):
        for page in (operation, listed):
            page.evaluate("window.same = true")
        expect(operation.locator(".now")).to_contain_text("0 of 3 ready")
        expect(listed.locator("tbody tr")).to_contain_text("Installing")
        way.stop()
        for page in (operation, listed):
            expect(page.locator("#lost")).to_contain_text("what you see may be old")
            expect(page.locator("#lost [data-since]")).to_contain_text(":")
        answer = server.send("POST", f"/api/v1/operations/{operation_id}/cancel", json_body={"keep": True})
        assert answer.is_success, answer.text
        assert server.wait_until_final(namespace, "waits")["status"] == "FAILED"
        expect(operation.get_by_role("heading", level=1)).to_contain_text("Running")
        way.resume()
        expect(operation.get_by_role("heading", level=1)).to_contain_text("Cancelled", timeout=40_000)
        expect(operation.locator(".timeline")).to_contain_text("cancel")
        expect(listed.locator("tbody tr")).to_contain_text("Failed", timeout=40_000)
        for page in (operation, listed):
            expect(page.locator("#lost")).to_be_hidden()
            assert page.evaluate("window.same"), "it was not loaded again"


#: Of a proxy whose server is away.
UNAVAILABLE = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/html\r\nContent-Length: 29\r\nConnection: close\r\n\r\n"
    b"<header>of the proxy</header>"
)


def test_an_answer_that_is_an_error_is_told_as_one_and_takes_nothing_from_the_page(
    browser: Browser, server: RunningServer, namespace: str, start_stuck: Callable[..., str]
):
    operation_id = start_stuck("waits")
    with on_two_pages(browser, server, namespace, operation_id) as (way, operation, listed):
        expect(operation.locator(".now")).to_contain_text("0 of 3 ready")
        expect(listed.locator("tbody tr")).to_contain_text("Installing")
        way.stop()
        way.resume(answer=UNAVAILABLE)
        for page in (operation, listed):
            expect(page.locator("#lost")).to_contain_text(
                "The server answers with an error (HTTP 503); what you see may be old.", timeout=40_000
            )
            expect(page.locator("#lost [data-since]")).to_contain_text(":")
            expect(page.locator("header")).to_have_count(1)
        expect(listed.locator("tbody tr")).to_contain_text("Installing")
        way.stop()
        for page in (operation, listed):
            expect(page.locator("#lost")).to_contain_text("The server cannot be reached", timeout=40_000)
        way.resume()
        for page in (operation, listed):
            expect(page.locator("#lost")).to_be_hidden(timeout=60_000)
        answer = server.send("POST", f"/api/v1/operations/{operation_id}/cancel", json_body={"keep": True})
        assert answer.is_success, answer.text
        expect(operation.get_by_role("heading", level=1)).to_contain_text("Cancelled", timeout=40_000)
        expect(listed.locator("tbody tr")).to_contain_text("Failed", timeout=40_000)


def test_a_stream_that_begins_with_an_error_is_asked_for_again(person: Visit, start_stuck: Callable[..., str]):
    operation_id = start_stuck("waits")
    page = person.page
    page.route("**/live", lambda route: route.fulfill(status=503, body="away"))
    page.goto(f"{person.home}/operations/{operation_id}")
    expect(page.locator("#lost")).to_contain_text("The server answers with an error (HTTP 503)")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Running")
    page.unroute("**/live")
    expect(page.locator("#lost")).to_be_hidden(timeout=20_000)
    answer = person.server.send("POST", f"/api/v1/operations/{operation_id}/cancel", json_body={"keep": True})
    assert answer.is_success, answer.text
    expect(page.get_by_role("heading", level=1)).to_contain_text("Cancelled", timeout=40_000)


@contextmanager
def second_api(server: RunningServer, folder: Path) -> Iterator[str]:
    """Yields the address of another process of the API over the server's database."""
    variables = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PILOTHOUSE_")},
        "PILOTHOUSE_DATA_DIR": str(server.data_dir),
        "PILOTHOUSE_DATABASE_URL": server.database_url,
        "PILOTHOUSE_TLS__PORT": "0",
        "PILOTHOUSE_CLUSTER__ALLOW_LOOPBACK": "true",
        "PILOTHOUSE_IDENTITY__LOGINS_PER_SECOND": "0",
    }
    process = Process("another", "api", variables, folder / "another.log", port=free_port())
    process.start()
    try:
        process.wait_until_ready()
        yield f"http://127.0.0.1:{process.port}"
    finally:
        process.stop()


def test_a_session_is_known_to_every_process_of_the_api_and_its_end_too(
    browser: Browser, server: RunningServer, tmp_path: Path
):
    with (
        second_api(server, tmp_path) as url,
        visit(browser, server, elsewhere=frozenset({urlsplit(url).netloc})) as one,
    ):
        one.log_in()
        page = one.page
        page.goto(f"{url}{one.home}/clusters")
        expect(page.get_by_role("heading", level=1)).to_contain_text("Clusters")
        expect(page.get_by_role("link", name="test", exact=True)).to_be_visible()
        page.goto(f"{one.home}/operations")
        expect(page.get_by_role("heading", level=1)).to_contain_text("Operations")
        page.goto(f"{url}{one.home}/operations")
        page.get_by_role("button", name="Log out").click()
        page.goto(f"{server.url}{one.home}/operations")
        expect(page.get_by_role("button", name="Log in")).to_be_visible()
