"""What hooks log, on the page of the operation, while they run."""

import json

import psycopg
from playwright.sync_api import Browser, expect

from tests.support.browsers import Visit, visit
from tests.support.charts import build_chart
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import RunningServer, wait_for
from tests.support.users import PASSWORD, add_person
from tests.support.workloads import hook_template

LAST = "simulated container: this line is on standard error"
ADD = (
    "WITH new AS (INSERT INTO operation_events (operation_id, attempt, kind, text, data)"
    " SELECT operation_id, attempt + %(later)s, kind, 'told', data || %(data)s FROM operation_events"
    " WHERE operation_id = %(id)s AND kind = 'hook_log' ORDER BY id LIMIT 1)"
    " SELECT pg_notify('pilothouse_operation_news', 'operation:' || %(id)s)"
)


def test_lines_of_a_hook_come_onto_the_page_of_its_operation_and_are_texts(
    person: Visit, browser: Browser, server: RunningServer, namespace: str, helm_cli: HelmCommand
):
    hook = hook_template("pre-install", fate="never-ready")
    chart = str(server.upload(build_chart("hooklogs", templates={"hook.yaml": hook})).json()["id"])
    release = OneRelease(server, namespace, "shop", helm_cli)
    answer = release.create(chart, values={"text": "no process runs here"})
    operation_id = answer.headers["x-operation-id"]
    page = person.page
    page.goto(f"{person.home}/operations/{operation_id}")
    page.evaluate("window.same = true")
    log = page.locator("pre[data-follows]")
    expect(log).to_contain_text(LAST, timeout=20_000)
    expect(log).to_contain_text("simulated container: ***, the local cluster")
    expect(page.get_by_role("heading", name="Job shop-hook, pod shop-hook-")).to_be_visible()
    expect(page.locator(".timeline")).not_to_contain_text(LAST)
    query = f"/api/v1/audit?action=pilothouse:logs:read&target={server.cluster_id}/{namespace}/shop&outcome=done"
    told = f"logs of operation {operation_id}"
    wait_for(lambda: [row["detail"] for row in server.send("GET", query).json()] == [told])
    with psycopg.connect(server.database_url, autocommit=True) as database:
        later = {"first": 4, "lines": ["<script>alert(1)</script>", *(f"line {number}" for number in range(200))]}
        database.execute(ADD, {"id": operation_id, "later": 0, "data": json.dumps(later)})
        expect(log).to_contain_text("line 199")
        expect(page.locator("main")).to_contain_text("Earlier lines are among the events of the operation")
        assert log.evaluate("log => log.scrollHeight - log.scrollTop - log.clientHeight < 2"), "it is at its end"
        database.execute(
            ADD, {"id": operation_id, "later": 1, "data": json.dumps({"pod": "next", "lines": ["<b>again</b>"]})}
        )
    expect(page.locator("pre[data-follows]")).to_have_text("<b>again</b>")
    expect(page.get_by_text("attempt 2", exact=True)).to_be_visible()
    assert page.evaluate("window.same"), "it was not loaded again"
    person.inspect("operation-logs")
    for role, shown in (("CCE FullAccess", True), ("readonly", False)):
        viewer = add_person(server, role, project_id=server.project_id)
        with visit(browser, server, scripts=False) as reader:
            reader.log_in(name=viewer.name, password=PASSWORD)
            reader.page.goto(f"{person.home}/operations/{operation_id}")
            expect(reader.page.get_by_role("heading", level=1)).to_be_visible()
            expect(reader.page.get_by_text("line 199")).to_have_count(1 if shown else 0)
    assert release.delete().is_success
    release.gone()
    page.goto(f"{person.home}/operations/{operation_id}")
    expect(page.locator("pre.log").first).to_contain_text("line 199")
