"""The console below a path of a host that it shares: no page, form or stream leads out of the path."""

import re
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import urlsplit

import httpx2
import pytest
from playwright.sync_api import Browser, expect

from tests.support.browsers import visit
from tests.support.reverse_proxy import proxy_below
from tests.support.servers import RunningServer, open_folder, run_server

ROOT = "/ph"


@pytest.fixture(scope="module")
def behind(kubeconfig: str) -> Iterator[RunningServer]:
    """A server that knows its path; its address is the proxy's."""
    environment = {"PILOTHOUSE_ROOT_PATH": ROOT}
    with (
        open_folder() as folder,
        run_server(folder, kubeconfig=kubeconfig, environment=environment) as running,
        proxy_below(ROOT, running.url) as url,
    ):
        yield replace(running, url=url)


def test_every_way_stays_below_the_path(browser: Browser, behind: RunningServer):
    with visit(browser, behind) as person:
        page, asked = person.page, []
        page.on("request", lambda one: asked.append(urlsplit(one.url).path))
        page.goto(f"{ROOT}/console/")
        page.get_by_label("Name", exact=True).fill("admin")
        page.get_by_label("Password").fill(behind.password)
        page.get_by_role("button", name="Log in").click()
        expect(page).to_have_url(re.compile(f"{ROOT}/console/p/cn-north-4/releases$"))
        [cookie] = page.context.cookies()
        assert (cookie["name"], cookie["path"]) == ("pilothouse-session", f"{ROOT}/")
        with page.expect_response(re.compile(r"/releases\?.*q=nothing")):
            page.get_by_role("searchbox").fill("nothing")
        expect(page.locator("main")).to_contain_text("No release matches.")
        for name in ("Operations", "Charts", "Clusters", "Audit", "Access"):
            page.get_by_role("navigation", name="Pages").get_by_role("link", name=name).click()
            expect(page.get_by_role("heading", level=1)).to_contain_text(name)
        page.goto(f"{ROOT}/console/account")
        for link in page.locator("a[href^='/'], form[action^='/'], link[href], script[src]").all():
            address = next(
                value for name in ("href", "action", "src") if (value := link.get_attribute(name)) is not None
            )
            assert address.startswith((f"{ROOT}/", "#")), address
        assert [path for path in asked if not path.startswith(f"{ROOT}/")] == []


def test_the_root_leads_below_the_path_and_the_cookie_is_for_it(behind: RunningServer):
    with httpx2.Client(base_url=behind.url, trust_env=False) as http:
        led = http.get(f"{ROOT}/", headers={"Accept": "text/html"})
        assert (led.status_code, led.headers["location"]) == (302, f"{ROOT}/console/")
        form = {"name": "admin", "account": "pilothouse", "password": behind.password, "next": "/console/projects"}
        opened = http.post(f"{ROOT}/console/login", data=form, headers={"Sec-Fetch-Site": "same-origin"})
        assert opened.headers["location"] == f"{ROOT}/console/projects"
        assert f"Path={ROOT}/;" in opened.headers["set-cookie"]
        large = httpx2.post(f"{behind.url}{ROOT}/console/p/x/charts", content=b"x" * 100_000, trust_env=False)
        assert large.headers["location"] == f"{ROOT}/console/login"
