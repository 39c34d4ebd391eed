"""Texts and clocks that are not as one expects them: very long ones, names that look like others, times of tomorrow."""

import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.support.browsers import Visit, visit
from tests.support.charts import build_chart, config_map_template
from tests.support.releases import HelmCommand
from tests.support.servers import RunningServer

LONG = "a line of a text that somebody made too long, with <b>marks</b>\n" * 2**14
#: The second letter is Cyrillic; the mark turns what follows it around.
ALIKE = ["w\u0435bshop", "web\u202eshop", "we\u200bb"]


def test_a_readme_and_notes_of_a_megabyte_are_shown_and_the_page_answers(
    person: Visit, server: RunningServer, namespace: str
):
    assert len(LONG) >= 2**20
    archive = build_chart(
        "long", f"1.0.{uuid.uuid4().int % 10**9}", files={"README.md": LONG},
        templates={"config.yaml": config_map_template(), "NOTES.txt": "{{ repeat 16384 .Values.line }}"},
        values={"line": "sixty-four characters of a line of notes, which is one of many..\n"},
    )  # fmt: skip
    chart = server.upload(archive).json()["id"]
    assert server.create(chart_id=chart, namespace=namespace, name="long", values={}).status_code == 201
    assert server.wait_until_final(namespace, "long")["status"] == "DEPLOYED"
    page = person.page
    for path, place in (
        (f"{person.home}/charts/{chart}", "main"), (f"{person.home}/releases/test/{namespace}/long", "pre.text")
    ):  # fmt: skip
        began = datetime.now(UTC)
        page.goto(path)
        expect(page.locator(place)).to_contain_text("a line of")
        assert person.overflow() <= 0
        page.get_by_role("link", name="Operations").first.click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Operations")
        assert datetime.now(UTC) - began < timedelta(seconds=10)


@pytest.mark.parametrize("name", ALIKE, ids=["another script", "turned around", "nothing to see"])
def test_a_name_that_looks_like_another_is_refused_by_what_it_is(person: Visit, server: RunningServer, name: str):
    page, told = person.page, ascii(name)
    page.goto(f"{person.home}/clusters/new")
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Kubeconfig").fill("{}")
    page.get_by_role("button", name="Add the cluster").click()
    expect(page.locator("#fault-name")).to_contain_text(told)
    page.goto(f"{person.home}/access")
    person.unfold()
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_role("button", name="Add the user").click()
    expect(page.get_by_role("alert").first).to_contain_text(told)
    answer = server.upload(build_chart(name, templates={"config.yaml": config_map_template()}))
    assert answer.status_code == 400
    assert told[1:-1] in answer.json()["error_msg"]


def test_a_chart_of_another_client_with_such_a_name_is_told_apart(
    person: Visit,
    server: RunningServer,
    namespace: str,
    helm_cli: HelmCommand,
    tmp_path: Path,
):
    archive = tmp_path / "chart.tgz"
    archive.write_bytes(build_chart(ALIKE[0], templates={"config.yaml": config_map_template()}))
    helm_cli("install", "alike", str(archive), "-n", namespace)
    server.wait_until_shown(namespace, "alike")
    page = person.page
    page.goto(f"{person.home}/releases?namespace={namespace}")
    expect(page.locator("tbody tr")).to_contain_text("w\\u0435bshop")
    person.open_release(namespace, "alike")
    expect(page.locator(".lead").first).to_contain_text("w\\u0435bshop")


@pytest.mark.parametrize("hours", [-30, 30], ids=["behind", "ahead"])
def test_times_are_right_in_a_browser_whose_clock_is_wrong(
    browser: Browser, server: RunningServer, namespace: str, install: Callable[[str], None], hours: int
):
    install("timed")
    with visit(browser, server) as person:
        person.page.clock.install(time=datetime.now(UTC) + timedelta(hours=hours))
        person.log_in()
        person.page.goto(f"{person.home}/releases?namespace={namespace}")
        changed = person.page.locator("tbody tr time").first
        expect(changed).to_have_text(re.compile(r"^(now|[0-9]{1,2} s ago)$"))
        person.page.clock.fast_forward("03:00")
        expect(changed).to_have_text(re.compile(r"^3 min ago$"))
