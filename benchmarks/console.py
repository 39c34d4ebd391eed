"""The console in a real browser: first rows, search, weight and stillness of the list, and what followers cost.

The list is of 10,000 releases over 50 clusters that nobody watches (``releases.fill``). Followers are event streams of
one operation, which something happens to each second, by users of their own.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import httpx2
import psycopg
from playwright.sync_api import Page, sync_playwright

from benchmarks.figures import Figure, percentile
from benchmarks.place import Place, child_of, cpu_seconds, rss
from benchmarks.releases import MANY, fill
from tests.support.charts import build_chart
from tests.support.servers import RunningServer
from tests.support.tenants import add_tenant
from tests.support.users import PASSWORD, add_person
from tests.support.workloads import deployment_template
from tools.browser import find_browser

ROUNDS = 15
ASKED = 60
FOLLOWERS, EACH, SECONDS = 100, 20, 20
SAME_SITE = {"Sec-Fetch-Site": "same-origin"}
#: Everything that moves after the first paint without somebody's doing, and every task that holds the browser.
_WATCH = """
window.seen = {shift: 0, longest: 0};
new PerformanceObserver(list => list.getEntries().forEach(one => {
  if (!one.hadRecentInput) window.seen.shift += one.value;
})).observe({type: 'layout-shift', buffered: true});
new PerformanceObserver(list => list.getEntries().forEach(one => {
  window.seen.longest = Math.max(window.seen.longest, one.duration);
})).observe({type: 'longtask', buffered: true});
"""
_WEIGHT = """
[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]
  .reduce((sum, one) => sum + one.transferSize, 0)
"""
_PAINTED = """
() => new Promise(resolve => new PerformanceObserver(list => {
  const found = list.getEntriesByName('first-contentful-paint');
  if (found.length) resolve(found[0].startTime);
}).observe({type: 'paint', buffered: true}))
"""
#: From the key to the rows that it leads to.
_TYPE = """
text => new Promise(resolve => {
  const field = document.querySelector('[data-search]'), began = performance.now();
  new MutationObserver((_, observer) => {
    if (!document.querySelector('tbody')?.textContent.includes(text)) return;
    observer.disconnect();
    resolve(performance.now() - began);
  }).observe(document.getElementById('list'), {childList: true, subtree: true});
  field.value = text;
  field.dispatchEvent(new Event('input', {bubbles: true}));
})
"""


async def console(place: Place) -> list[Figure]:
    tenant = await asyncio.to_thread(add_tenant, place.server)
    fill(tenant, MANY)
    return [*await asyncio.to_thread(_list, tenant), *await _followers(place)]


def _list(server: RunningServer) -> list[Figure]:
    home = f"/console/p/{_project(server)}/releases"
    with _session(server) as http:
        seconds = [_asked(http, home) for _ in range(ASKED)]
    with _page(server) as page:
        page.goto(f"{home.removesuffix('/releases')}/install")
        heavy = float(page.evaluate(_WEIGHT))
    with _page(server) as page:  # with nothing in its cache
        page.add_init_script(_WATCH)
        page.goto(home)
        weight = float(page.evaluate(_WEIGHT))
        painted, typed, shifts, longest = [], [], [], []
        for number in range(ROUNDS):
            page.goto(home)
            painted.append(float(page.evaluate(_PAINTED)) / 1000)
            page.wait_for_timeout(300)
            shifts.append(float(page.evaluate("window.seen.shift")))  # a search moves what it finds
            typed.append(float(page.evaluate(_TYPE, f"rel-{990 + number}")) / 1000)
            page.wait_for_timeout(300)
            longest.append(float(page.evaluate("window.seen.longest")))
    return [
        Figure(f"{MANY} releases: the page over HTTP, p50", (percentile(seconds, 0.5),), target=150),
        Figure(f"{MANY} releases: first paint of rows, p50", (percentile(painted, 0.5),), target=150),
        Figure(f"{MANY} releases: from the key to the found rows, p50", (percentile(typed, 0.5),), target=150),
        Figure("first visit, compressed", (weight / 1024,), unit="KiB", target=120),
        Figure("first visit at the editor, compressed", (heavy / 1024,), unit="KiB", target=350),
        Figure("layout shift after the first paint", (max(shifts),), unit="", target=0),
        Figure("longest task in the browser, median", (median(longest),), target=50),
    ]


def _asked(http: httpx2.Client, path: str) -> float:
    began = time.perf_counter()
    answer = http.get(path)
    assert answer.text.count("<tr ") == 50, answer.status_code
    return time.perf_counter() - began


def _project(server: RunningServer) -> str:
    found = server.send("GET", "/api/v1/projects").json()
    return str(next(one["name"] for one in found if one["id"] == server.project_id))


@contextmanager
def _session(server: RunningServer) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, trust_env=False, timeout=30) as http:
        _log_in(http, _name(server), server.password, _account(server))
        yield http


def _name(server: RunningServer) -> str:
    return str(server.send("GET", "/api/v1/users/me").json()["name"])


def _account(server: RunningServer) -> str:
    with psycopg.connect(server.database_url) as database:
        row = database.execute(
            "SELECT d.name FROM domains d JOIN projects p ON p.domain_id = d.id WHERE p.id = %s", [server.project_id]
        ).fetchone()
    assert row is not None
    return str(row[0])


def _log_in(http: httpx2.Client, name: str, password: str, account: str) -> None:
    form = {"name": name, "password": password, "account": account}
    answer = http.post("/console/login", data=form, headers=SAME_SITE)
    assert answer.status_code == 303, answer.text


@contextmanager
def _page(server: RunningServer) -> Iterator[Page]:
    with sync_playwright() as playwright, _session(server) as http:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        context = browser.new_context(base_url=server.url, viewport={"width": 1440, "height": 900})
        cookie: Any = {"name": "pilothouse-session", "value": http.cookies["pilothouse-session"], "url": server.url}
        context.add_cookies([cookie])
        yield context.new_page()
        browser.close()


async def _followers(place: Place) -> list[Figure]:
    server = place.server
    operation_id = await asyncio.to_thread(_start, place)
    path = f"/console/p/{_project(server)}/operations/{operation_id}/live"
    api = child_of(server.pid, "api")
    cookies = [await asyncio.to_thread(_cookie, server) for _ in range(-(-FOLLOWERS // EACH))]
    before = rss(api)
    async with asyncio.TaskGroup() as group:
        counts = [0] * FOLLOWERS
        following = [
            group.create_task(_follow(server, path, cookies[number // EACH], counts, number))
            for number in range(FOLLOWERS)
        ]
        await asyncio.sleep(5)  # all are there
        began, used = time.monotonic(), cpu_seconds([api])
        with psycopg.connect(server.database_url, autocommit=True) as database:
            for number in range(SECONDS):
                database.execute(_EVENT, {"id": operation_id, "said": f"0 of 3 ready, look {number}"})
                await asyncio.sleep(1)
        share = (cpu_seconds([api]) - used) / (time.monotonic() - began)
        grown = rss(api) - before
        for task in following:
            task.cancel()
    server.send("POST", f"/api/v1/operations/{operation_id}/cancel", json_body={})
    return [
        Figure(f"{FOLLOWERS} followers: cores of the API", (share,), unit="", target=0.5),
        Figure(f"{FOLLOWERS} followers: memory of the API", (grown,), unit="MiB", target=100),
        Figure(f"{FOLLOWERS} followers: messages a second, each", (-min(counts) / SECONDS,), unit="", target=-0.5),
    ]


_EVENT = """
WITH new AS (INSERT INTO operation_events (operation_id, attempt, kind, text)
  VALUES (%(id)s, 1, 'ready_progress', %(said)s))
SELECT pg_notify('pilothouse_operation_news', 'operation:' || %(id)s)
"""


def _start(place: Place) -> str:
    server = place.server
    stuck = deployment_template(selector="{nowhere: 'yes'}", replicas=3)
    chart_id = place.upload(build_chart("followed", templates={"web.yaml": stuck}), again=True)
    answer = server.send(
        "POST",
        place.releases,
        json_body={"chart_id": chart_id, "namespace": "default", "name": "followed", "values": {}},
        headers={"X-Pilothouse-Wait": "ready", "X-Pilothouse-Timeout": "600"},
    )
    assert answer.status_code == 201, answer.text
    return answer.headers["x-operation-id"]


def _cookie(server: RunningServer) -> str:
    person = add_person(server, "readonly", project_id=server.project_id)
    with httpx2.Client(base_url=server.url, trust_env=False, timeout=30) as http:
        _log_in(http, person.name, PASSWORD, _account(server))
        return http.cookies["pilothouse-session"]


async def _follow(server: RunningServer, path: str, cookie: str, counts: list[int], number: int) -> None:
    headers = {"Cookie": f"pilothouse-session={cookie}"}
    async with (
        httpx2.AsyncClient(base_url=server.url, trust_env=False, timeout=60) as http,
        http.stream("GET", path, headers=headers) as answer,
    ):
        assert answer.status_code == 200, answer.status_code
        async for line in answer.aiter_lines():
            counts[number] += not line  # an empty one ends a message
