"""Log-in to the console at a real provider: away, back, and what does not come back."""

import re
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from tests.oidc.conftest import PUBLIC_URL, SignedOn
from tests.support.servers import wait_for

HOME = "/console/p/cn-north-4/releases"


@pytest.fixture
def browser(signed_on: SignedOn) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=signed_on.server.url, trust_env=False, timeout=60) as client:
        yield client


def leave(browser: httpx2.Client, **query: str) -> str:
    """Return the address at the provider that the browser is sent to."""
    away = browser.get("/console/login/at/corp", params=query)
    assert away.status_code == 303, away.text
    url: str = away.headers["location"]
    return url


def at_provider(signed_on: SignedOn, url: str, name: str) -> str:
    """Log in there; return the path of ours that the browser is sent back to."""
    with httpx2.Client(trust_env=False, timeout=20) as other_site:
        back = signed_on.provider.log_in(other_site, url, name)
    assert back.startswith(f"{PUBLIC_URL}/console/login/from/corp?")
    return back.removeprefix(PUBLIC_URL)


def log_in(browser: httpx2.Client, signed_on: SignedOn, name: str, **query: str) -> httpx2.Response:
    return browser.get(at_provider(signed_on, leave(browser, **query), name))


def test_a_person_of_the_provider_logs_in_and_goes_where_they_wanted(browser: httpx2.Client, signed_on: SignedOn):
    shown = browser.get(HOME)
    link = re.search(r'href="(/console/login/at/corp[^"]*)">Log in with Example Corp<', shown.text)
    assert (shown.status_code, link is not None) == (401, True)
    assert link is not None
    away = browser.get(link[1].replace("&amp;", "&"))
    asked = parse_qs(urlsplit(away.headers["location"]).query)
    assert {name: asked[name] for name in ("response_type", "code_challenge_method", "scope")} == {
        "response_type": ["code"],
        "code_challenge_method": ["S256"],
        "scope": ["openid profile groups"],
    }
    assert all(len(asked[name][0]) >= 43 for name in ("state", "nonce", "code_challenge"))
    cookie = away.headers["set-cookie"]
    assert re.match(r"pilothouse-session-login=\S+; HttpOnly; Max-Age=3600; Path=/; SameSite=lax$", cookie)
    assert asked["state"][0] not in cookie
    back = browser.get(at_provider(signed_on, away.headers["location"], "alice"))
    assert (back.status_code, back.headers["location"]) == (303, HOME)
    assert browser.get(HOME).status_code == 200
    assert "pilothouse-session-login" not in browser.cookies, "it counts once"
    account = browser.get("/console/account")
    assert ("<bdi>alice</bdi>" in account.text, "te_admin" in account.text) == (True, True)

    def rows() -> list[tuple[str, str]]:
        found = signed_on.server.send("GET", "/api/v1/audit?action=iam:sessions:create&user=alice").json()
        return [(row["detail"], row["outcome"]) for row in found]

    assert ("at corp", "done") in wait_for(rows)


def test_an_answer_counts_for_the_browser_that_began_and_once(browser: httpx2.Client, signed_on: SignedOn):
    path = at_provider(signed_on, leave(browser), "alice")
    kept = browser.cookies["pilothouse-session-login"]
    with httpx2.Client(base_url=signed_on.server.url, trust_env=False) as other:
        for cookie, why in ((None, "began no log-in here"), ("x" + kept[1:], "began no"), (kept[:-9], "began no")):
            other.cookies.clear()
            if cookie is not None:
                other.cookies.set("pilothouse-session-login", cookie)
            refused = other.get(path)
            assert (refused.status_code, why in refused.text) == (401, True), cookie
        leave(other)
        refused = other.get(path)
        assert (refused.status_code, "belongs to another log-in" in refused.text) == (401, True)
        assert "pilothouse-session" not in other.cookies
    assert browser.get(path).status_code == 303
    browser.cookies.delete("pilothouse-session")
    browser.cookies.set("pilothouse-session-login", kept)
    again = browser.get(path)
    assert (again.status_code, "refused the log-in: invalid_grant" in again.text) == (401, True)
    assert "pilothouse-session" not in browser.cookies


def test_answers_that_are_none_open_nothing(browser: httpx2.Client):
    state = parse_qs(urlsplit(leave(browser)).query)["state"][0]
    kept = browser.cookies["pilothouse-session-login"]
    for query, why in (
        ({"state": state}, "The answer has no code"),
        ({"state": state, "code": "x" * 9000}, "The answer has no code"),
        ({"state": state, "code": "made-up"}, "refused the log-in: invalid_grant"),
        ({"state": state, "error": "access_denied", "error_description": "<b>"}, "refused the log-in: access_denied"),
        ({"state": state, "error": "<script>"}, "an error that is not known here"),
        ({"state": "x", "code": "x"}, "belongs to another log-in"),
        ({"code": "x"}, "belongs to another log-in"),
        ({"state": state, "code": "x", "iss": "https://elsewhere.example"}, "another provider"),
    ):
        browser.cookies.set("pilothouse-session-login", kept)
        refused = browser.get("/console/login/from/corp", params=query)
        assert refused.status_code == 401, (query, refused.text)
        assert why in refused.text
        assert "<script>" not in refused.text
        assert "pilothouse-session" not in browser.cookies
    browser.cookies.set("pilothouse-session-login", kept)
    mixed = browser.get("/console/login/from/down", params={"state": state, "code": "x"})
    assert (mixed.status_code, "another provider" in mixed.text) == (401, True)


def test_a_way_back_leads_to_the_console_only(browser: httpx2.Client, signed_on: SignedOn):
    for target in ("https://evil.example/", "//evil.example", "/v2/charts", "/console\\evil", "/console/login"):
        back = log_in(browser, signed_on, "alice", next=target)
        assert (back.status_code, back.headers["location"]) == (303, "/console/")


def test_groups_that_map_to_nothing_are_told_and_open_nothing(browser: httpx2.Client, signed_on: SignedOn):
    refused = log_in(browser, signed_on, "carol")
    assert refused.status_code == 403
    assert "none of its groups has a role here (groups: staff)" in refused.text
    assert "pilothouse-session" not in browser.cookies


def test_a_user_who_was_disabled_is_out_at_once_and_cannot_come_back(browser: httpx2.Client, signed_on: SignedOn):
    assert log_in(browser, signed_on, "bob").status_code == 303
    assert browser.get(HOME).status_code == 200
    rows = signed_on.server.send("GET", "/api/v1/users").json()
    bob = next(row["id"] for row in rows if row["name"] == "bob")
    assert signed_on.server.send("PATCH", f"/api/v1/users/{bob}", json_body={"enabled": False}).status_code == 200
    assert browser.get(HOME).status_code == 401
    refused = log_in(browser, signed_on, "bob")
    assert (refused.status_code, "disabled here" in refused.text) == (401, True)
    assert signed_on.server.send("PATCH", f"/api/v1/users/{bob}", json_body={"enabled": True}).status_code == 200


def test_sessions_go_on_while_the_provider_is_down_and_log_in_says_so(browser: httpx2.Client, signed_on: SignedOn):
    assert log_in(browser, signed_on, "alice").status_code == 303
    path = at_provider(signed_on, leave(browser), "alice")
    signed_on.provider.stop()
    try:
        assert browser.get(HOME).status_code == 200
        late = browser.get(path)
        assert late.status_code == 503
        assert "the identity provider Example Corp cannot be used now" in late.text
        assert "the connection failed" not in late.text
        assert browser.get(HOME).status_code == 200, "the session that was there is there"
    finally:
        signed_on.provider.start()
    down = browser.get("/console/login/at/down")
    assert (down.status_code, "the identity provider Broken Inc cannot be used now" in down.text) == (503, True)
    assert 'name="password"' in down.text, "and a password still opens"
    unknown = browser.get("/console/login/at/nobody")
    assert unknown.status_code == 404
