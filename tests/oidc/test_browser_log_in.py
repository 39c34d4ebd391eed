"""The button of a provider, as people press it: a real browser between a real provider and the console."""

from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
import yaml
from playwright.sync_api import Browser, Page, expect

from tests.oidc.conftest import PEOPLE, SignedOn
from tests.support.browsers import Visit, run_browser, visit
from tests.support.oidc_provider import PASSWORD, run_provider
from tests.support.servers import free_port, open_folder, run_server

_BUTTON = "Log in with Example Corp"


@pytest.fixture(scope="module")
def site() -> Iterator[SignedOn]:
    """A server that browsers reach as localhost: for them the provider, at 127.0.0.1, is another site."""
    port = free_port()
    public_url = f"http://localhost:{port}"
    with open_folder() as at_provider, open_folder() as folder:
        back_at = tuple(f"{public_url}/console/login/from/{name}" for name in ("corp", "down"))
        with run_provider(at_provider, PEOPLE, back_at) as provider:
            down = provider.describe(name="down", title="Broken Inc", issuer="http://127.0.0.1:9/o")
            described = folder / "providers.yaml"
            described.write_text(yaml.safe_dump({"providers": [provider.describe(), down]}))
            environment = {
                "PILOTHOUSE_OIDC__FILE": str(described),
                "PILOTHOUSE_OIDC__PUBLIC_URL": public_url,
                "PILOTHOUSE_OIDC__ALLOW_LOOPBACK": "true",
            }
            with run_server(folder, kubeconfig=None, environment=environment, port=port) as server:
                made = SignedOn(replace(server, url=public_url), provider)
                made.group("pilothouse-admins", "te_admin")
                yield made


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with run_browser() as running:
        yield running


@pytest.fixture(params=[True, False], ids=["scripts", "no-scripts"])
def person(request: pytest.FixtureRequest, browser: Browser, site: SignedOn) -> Iterator[Visit]:
    """Somebody who was never here, with a browser that runs scripts, and with one that runs none."""
    provider = frozenset({urlsplit(site.provider.issuer).netloc})
    with visit(browser, site.server, scripts=request.param, elsewhere=provider) as made:
        yield made


def log_in_there(page: Page, site: SignedOn, name: str) -> None:
    """Fill in the provider's form."""
    page.wait_for_url(f"{site.provider.issuer.removesuffix('/o')}/login/**")
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()


def test_the_button_leads_to_the_provider_and_back_to_what_was_wanted(person: Visit, site: SignedOn):
    page = person.page
    page.goto(f"{person.home}/charts")
    page.get_by_role("link", name=_BUTTON).click()
    log_in_there(page, site, "alice")
    page.wait_for_url(f"{site.server.url}{person.home}/charts")
    assert [one["name"] for one in page.context.cookies() if "login" in one.get("name", "")] == [], "it counts once"
    page.goto("/console/account")
    expect(page.locator("main")).to_contain_text("alice")

    page.get_by_role("button", name="Log out").first.click()
    expect(page.get_by_role("link", name=_BUTTON)).to_be_visible()
    page.goto(f"{person.home}/charts")
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in")


def test_whoever_is_in_no_group_of_ours_reads_why_and_can_try_again(person: Visit, site: SignedOn):
    page = person.page
    page.goto("/console/")
    page.get_by_role("link", name=_BUTTON).click()
    log_in_there(page, site, "carol")
    expect(page.get_by_role("alert")).to_contain_text("none of its groups has a role here (groups: staff)")
    assert urlsplit(page.url).netloc == urlsplit(site.server.url).netloc
    expect(page.get_by_role("link", name=_BUTTON)).to_be_visible()


def test_a_provider_that_is_down_is_said_and_a_password_still_opens(person: Visit):
    page = person.page
    page.goto("/console/")
    page.get_by_role("link", name="Log in with Broken Inc").click()
    expect(page.get_by_role("alert")).to_contain_text("the identity provider Broken Inc cannot be used now")
    page.get_by_label("Name", exact=True).fill("admin")
    page.get_by_label("Password").fill(person.server.password)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/releases")


def test_the_page_with_the_buttons_has_no_barriers(browser: Browser, site: SignedOn):
    for scheme in ("light", "dark"):
        with visit(browser, site.server, scheme=scheme, size=(360, 740)) as they:
            they.page.goto("/console/")
            expect(they.page.get_by_role("link", name=_BUTTON)).to_be_visible()
            assert they.overflow() == 0
            assert they.barriers() == []
