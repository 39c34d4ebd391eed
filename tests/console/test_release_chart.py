"""The chart of a release on its own page: README, schema and facts, as the release stores them."""

from collections.abc import Callable

from playwright.sync_api import Browser, expect

from tests.support.browsers import Visit, visit
from tests.support.charts import build_chart, config_map_template
from tests.support.servers import RunningServer

_HOSTILE = "# Seen\n<script>document.title = 'taken'</script>\n[a](javascript:alert(1))"
_SCHEMA = '{"type": "object", "properties": {"text": {"type": "string"}}}'


def _install(server: RunningServer, namespace: str) -> str:
    chart = build_chart(
        "described",
        templates={"config.yaml": config_map_template()},
        values={"text": "hello"},
        schema=_SCHEMA,
        files={"README.md": _HOSTILE},
        metadata={
            "description": "says what it is",
            "home": "https://example.org/described",
            "maintainers": [{"name": "Ada", "email": "ada@example.org"}],
        },
    )
    uploaded = server.upload(chart, parameters='{"override": true}')
    assert uploaded.status_code == 201, uploaded.text
    chart_id = str(uploaded.json()["id"])
    made = server.create(chart_id=chart_id, namespace=namespace, name="described", values={})
    assert made.status_code == 201, made.text
    assert server.wait_until_final(namespace, "described")["status"] == "DEPLOYED"
    return chart_id


def test_readme_schema_and_facts_are_those_that_the_release_stores(
    browser: Browser, person: Visit, server: RunningServer, namespace: str
):
    chart_id, page = _install(server, namespace), person.page
    page.goto(f"{person.home}/charts/{chart_id}")
    expect(page.locator("#readme")).to_contain_text("# Seen")
    assert server.send("DELETE", f"/v2/charts/{chart_id}").status_code == 200
    cluster = next(one["name"] for one in server.send("GET", "/api/v1/clusters").json())
    page.goto(f"{person.home}/releases/{cluster}/{namespace}/described")
    page.get_by_role("link", name="Chart", exact=True).click()
    main = page.locator("main")
    for text in (_HOSTILE, _SCHEMA, "says what it is", "https://example.org/described", "Ada", "ada@example.org"):
        expect(main).to_contain_text(text)
    assert "taken" not in page.title()
    assert page.locator("main a[href^='javascript']").count() == 0
    with visit(browser, server, scripts=False) as reader:
        reader.log_in()
        reader.page.goto(page.url)
        expect(reader.page.locator("main")).to_contain_text("# Seen")


def test_a_chart_without_readme_and_schema_says_so(
    person: Visit, server: RunningServer, namespace: str, install: Callable[[str], None]
):
    install("plain")
    cluster = next(one["name"] for one in server.send("GET", "/api/v1/clusters").json())
    person.page.goto(f"{person.home}/releases/{cluster}/{namespace}/plain/chart")
    main = person.page.locator("main")
    expect(main).to_contain_text("The release stores none with its chart.")
    expect(main).to_contain_text("It has none: any values are taken.")
