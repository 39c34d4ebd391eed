"""How often the releases of a cluster are looked at for drift: shown on its page, and changed there."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browsers import Visit, visit
from tests.support.servers import RunningServer, open_folder, run_server
from tests.support.users import PASSWORD, add_person


@pytest.fixture(scope="module")
def looking(kubeconfig: str) -> Iterator[RunningServer]:
    """A server that may look for drift, and does only where a cluster asks for it."""
    environment = {
        "PILOTHOUSE_OBSERVER__DRIFT_REQUESTS_PER_SECOND": "2.5",
        "PILOTHOUSE_OBSERVER__DRIFT_SECONDS": "0",
    }
    with open_folder() as folder, run_server(folder, kubeconfig=kubeconfig, environment=environment) as running:
        yield running


def choose(page: Page, label: str) -> None:
    card = page.locator("#drift")
    card.get_by_label("How often").select_option(label=label)
    card.get_by_role("button", name="Change it").click()


def test_the_interval_of_a_cluster_is_shown_and_changed(browser: Browser, looking: RunningServer):
    name = next(one["name"] for one in looking.send("GET", "/api/v1/clusters").json())
    with visit(browser, looking) as person:
        person.log_in()
        page, card = person.page, person.page.locator("#drift")
        page.goto(f"{person.home}/clusters/{name}")
        expect(card).to_contain_text("only when asked, as the server's settings say")
        choose(page, "Every 6 h")
        expect(card).to_contain_text("Each release is looked at every 6 h.")
        expect(card).to_contain_text("at most 2.5 requests per second")
        looking.send("PUT", f"/api/v1/clusters/{looking.cluster_id}/drift", json_body={"seconds": 7200})
        page.reload()
        expect(card.get_by_label("How often")).to_have_value("7200")
        choose(page, "Only when asked")
        expect(card).to_contain_text("Its releases are looked at only when asked.")
        choose(page, "As the server says: only when asked")
        expect(card).to_contain_text("as the server's settings say")
        shown = looking.send("GET", f"/api/v1/clusters/{looking.cluster_id}").json()
        assert (shown["drift_seconds"], shown["drift"]) == (None, {"seconds": 0, "requests_per_second": 2.5})


def test_a_server_that_makes_no_looks_says_so_and_a_viewer_sees_no_form(
    browser: Browser, server: RunningServer, looking: RunningServer, person: Visit
):
    name = next(one["name"] for one in server.send("GET", "/api/v1/clusters").json())
    person.page.goto(f"{person.home}/clusters/{name}")
    card = person.page.locator("#drift")
    expect(card).to_contain_text("PILOTHOUSE_OBSERVER__DRIFT_REQUESTS_PER_SECOND is 0")
    expect(card.get_by_role("button")).to_have_count(0)
    viewer = add_person(looking, "readonly")
    with visit(browser, looking) as other:
        other.log_in(name=viewer.name, password=PASSWORD)
        other.page.goto(f"{other.home}/clusters/{looking.send('GET', '/api/v1/clusters').json()[0]['name']}")
        expect(other.page.locator("#drift")).to_contain_text("only when asked")
        expect(other.page.locator("#drift").get_by_role("button")).to_have_count(0)
