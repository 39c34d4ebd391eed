"""The console without a browser: whose session it is, where a form comes from, and what each answer forbids."""

import json
import re
import ssl
import time
from collections.abc import Callable, Iterator
from html import escape, unescape

import httpx2
import psycopg
import pytest

from tests.contract.test_policies import attach, statement
from tests.support.charts import build_chart, config_map_template
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import RunningServer, free_port, wait_for
from tests.support.tokens import token_of
from tests.support.users import PASSWORD, Person, add_person

HOME = "/console/p/cn-north-4"
SAME_SITE = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def http(server: RunningServer) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, trust_env=False, timeout=60) as client:
        yield client


@pytest.fixture
def person(http: httpx2.Client, server: RunningServer) -> httpx2.Client:
    """A client with a session of the administrator."""
    assert log_in(http, name="admin", password=server.password).status_code == 303
    return http


def log_in(http: httpx2.Client, **fields: str) -> httpx2.Response:
    return http.post("/console/login", data={"account": "pilothouse", **fields}, headers=SAME_SITE)


def proof(http: httpx2.Client, path: str = "/console/account") -> str:
    """The proof of a form on the page."""
    found = re.search(r'name="csrf" value="([0-9a-f]+)"', http.get(path).text)
    assert found is not None
    return found[1]


def test_the_cookie_is_for_this_host_and_no_script_and_over_tls_for_nothing_else(
    http: httpx2.Client, server: RunningServer
):
    plain = log_in(http, name="admin", password=server.password).headers["set-cookie"]
    context = ssl.create_default_context(cafile=str(server.ca))
    with httpx2.Client(base_url=server.tls_url, verify=context, trust_env=False) as encrypted:
        sealed = log_in(encrypted, name="admin", password=server.password).headers["set-cookie"]
        assert encrypted.get(f"{HOME}/releases").status_code == 200
    assert re.fullmatch(r"pilothouse-session=phs-\S{43}; HttpOnly; Path=/; SameSite=lax", plain)
    assert re.fullmatch(r"__Host-pilothouse-session=phs-\S{43}; HttpOnly; Path=/; SameSite=lax; Secure", sealed)


def test_a_cookie_is_no_token_and_a_token_no_cookie(person: httpx2.Client, server: RunningServer):
    cookie = person.cookies["pilothouse-session"]
    assert person.get("/api/v1/releases").status_code == 401
    assert person.get("/api/v1/releases", headers={"X-Auth-Token": cookie}).status_code == 401
    token = token_of(server, name="admin", password=server.password)
    with httpx2.Client(base_url=server.url, trust_env=False) as other:
        assert other.get(f"{HOME}/releases", headers={"X-Auth-Token": token}).status_code == 401
        other.cookies.set("pilothouse-session", token)
        assert other.get(f"{HOME}/releases").status_code == 401
        assert log_in(other, token=token).status_code == 303
        assert other.get(f"{HOME}/releases").status_code == 200


def test_a_form_of_another_site_or_session_is_refused(person: httpx2.Client, server: RunningServer):
    path, right = "/console/account/sessions/end-all", proof(person)
    with httpx2.Client(base_url=server.url, trust_env=False) as other:
        log_in(other, name="admin", password=server.password)
        foreign = proof(other)
    refused = [
        ({"csrf": right}, {"Sec-Fetch-Site": "cross-site"}),
        ({"csrf": right}, {"Sec-Fetch-Site": "same-site"}),
        ({"csrf": right}, {"Origin": "https://evil.example"}),
        ({"csrf": right}, {"Origin": "null"}),
        ({"csrf": foreign}, SAME_SITE),
        ({"csrf": right[:-1] + ("0" if right[-1] != "0" else "1")}, SAME_SITE),
        ({"csrf": "\u00e4"}, SAME_SITE),
        ({"csrf": ""}, SAME_SITE),
        ({"session": "x"}, SAME_SITE),
    ]
    for fields, headers in refused:
        answer = person.post(path, data=fields, headers=headers)
        assert answer.status_code == 403, (fields, headers)
    assert person.get("/console/account").status_code == 200, "nothing was ended"
    login = {"name": "admin", "password": server.password, "account": "pilothouse"}
    assert person.post("/console/login", data=login, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert person.post(path, data={"csrf": right}, headers=SAME_SITE).status_code == 303
    assert person.get("/console/account").status_code == 401


def test_only_a_form_of_the_ended_session_is_kept_through_the_log_in(http: httpx2.Client, server: RunningServer):
    login = {"name": "admin", "password": server.password}
    log_in(http, **login)
    right, path = proof(http), f"{HOME}/releases/test/default/of-others/uninstall"
    ended = http.cookies["pilothouse-session"]
    assert http.post("/console/account/sessions/end-all", data={"csrf": right}, headers=SAME_SITE).status_code == 303
    for fields, headers, cookie in (
        ({"csrf": right}, {"Sec-Fetch-Site": "cross-site"}, ended),
        ({"csrf": right[:-1] + ("0" if right[-1] != "0" else "1")}, SAME_SITE, ended),
        ({}, SAME_SITE, ended),
        ({"csrf": right}, SAME_SITE, ""),
    ):
        http.cookies.set("pilothouse-session", cookie)
        asked = http.post(path, data={"confirm": "of-others", **fields}, headers=headers)
        assert (asked.status_code, 'of-others"' in asked.text) == (401, False), (fields, headers)
    http.cookies.set("pilothouse-session", ended)
    asked = http.post(path, data={"confirm": "of-others", "csrf": right}, headers=SAME_SITE)
    assert (asked.status_code, "of-others" in asked.text.replace(path, "")) == (401, False)
    again = log_in(http, **login, **carried(asked))
    assert f'action="{path}"' in again.text
    assert ("of-others" in again.text, "Uninstall" in again.text) == (True, True)


def carried(asked: httpx2.Response) -> dict[str, str]:
    """What the form of the log-in carries of the form before."""
    found = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', asked.text)
    return {name: unescape(value) for name, value in found if name == "next" or name.startswith("kept")}


def sent_late(http: httpx2.Client, server: RunningServer, path: str, **fields: str) -> httpx2.Response:
    """What a form is answered whose session has ended since its page was shown."""
    log_in(http, name="admin", password=server.password)
    right, ended = proof(http), http.cookies["pilothouse-session"]
    assert http.post("/console/account/sessions/end-all", data={"csrf": right}, headers=SAME_SITE).status_code == 303
    http.cookies.set("pilothouse-session", ended)
    return http.post(path, data={"csrf": right, **fields}, headers=SAME_SITE)


def test_what_an_ended_session_sent_is_kept_for_its_user_alone_and_no_secret_is_shown(
    http: httpx2.Client, server: RunningServer
):
    other = add_person(server, "readonly", project_id=server.project_id)
    asked = sent_late(http, server, f"{HOME}/clusters", name="mine-alone", kubeconfig="token: of-admin-4711")
    assert "Log in as the same user" in asked.text
    ended, kept = http.cookies["pilothouse-session"], carried(asked)
    for cookie, fields in (
        (ended, {"name": other.name, "password": PASSWORD}),
        ("", {"name": "admin", "password": server.password}),
    ):
        http.cookies.set("pilothouse-session", cookie)
        told = log_in(http, **fields, **kept)
        assert (told.status_code, "It is not kept for you" in told.text) == (200, True), fields
        assert ("of-admin-4711" in told.text, "mine-alone" in told.text) == (False, False), fields
        http.cookies.clear()
    http.cookies.set("pilothouse-session", ended)
    told = log_in(http, name="admin", password=server.password, **kept)
    shown = told.text.partition("<dl")[2].partition("</dl>")[0]
    assert ("mine-alone" in shown, "not shown (20 characters)" in shown, "of-admin-4711" in shown) == (
        True,
        True,
        False,
    )
    assert 'name="kubeconfig" value="token: of-admin-4711"' in told.text


def test_of_a_form_with_a_password_the_rest_is_kept_and_it_cannot_be_sent_without(
    http: httpx2.Client, server: RunningServer
):
    asked = sent_late(http, server, f"{HOME}/access/users", name="somebody-new", password="a-secret-of-eight")
    assert ("passwords are not kept" in asked.text, "a-secret-of-eight" in asked.text) == (True, False)
    told = log_in(http, name="admin", password=server.password, **carried(asked))
    assert ("somebody-new" in told.text, "Send it now" in told.text) == (True, False)
    assert f'href="{HOME}/access"' in told.text


@pytest.mark.parametrize(
    ("path", "page"),
    [
        (f"{HOME}/access/users", f"{HOME}/access"), (f"{HOME}/verification/keys", f"{HOME}/verification"),
        (f"{HOME}/verification/policy", f"{HOME}/verification"), (f"{HOME}/sources/one/sync", f"{HOME}/sources/one"),
        ("/console/account/password", "/console/account"),
    ],
)  # fmt: skip
def test_an_address_that_only_takes_forms_leads_to_the_page_of_its_form(person: httpx2.Client, path: str, page: str):
    led = person.get(path)
    assert (led.status_code, led.headers.get("location")) == (303, page)
    person.cookies.clear()
    asked = person.post(path, data={"name": "x"}, headers=SAME_SITE)
    assert ("keeps nothing of it" in asked.text, carried(asked)) == (True, {"next": page})


def test_a_kept_form_is_told_with_names_in_place_of_ids(
    http: httpx2.Client, server: RunningServer, charts: dict[str, str]
):
    fields = {"chart": charts["plain"], "mode": "replace", "values": "greeting: nojs\r\nreplicas: 2\r\n"}
    asked = sent_late(http, server, f"{HOME}/releases/test/default/of-others/change", **fields)
    told = log_in(http, name="admin", password=server.password, **carried(asked)).text
    shown = told.partition("<dl")[2].partition("</dl>")[0]
    assert "seen 1.0.0" in shown
    assert "the text is all" in shown
    assert "greeting: nojs\nreplicas: 2" in shown
    assert charts["plain"] not in shown


def test_who_has_no_session_sends_little(http: httpx2.Client, server: RunningServer):
    def form(size: int) -> dict[str, str]:
        return {"confirm": "x" * (size - len("confirm="))}

    for path, refused in (("/console/login", 400), (f"{HOME}/clusters", 401), (f"{HOME}/charts", 401)):
        assert http.post(path, data=form(64 * 1024), headers=SAME_SITE).status_code == refused
        led = http.post(path, data=form(64 * 1024 + 1), headers=SAME_SITE)
        assert (led.status_code, led.headers["location"]) == (303, "/console/login"), path
    for field, most in (("name", 200), ("account", 200), ("password", 1000), ("token", 200)):
        login = {"name": "admin", "password": server.password, "account": "pilothouse", field: "x" * (most + 1)}
        answer = http.post("/console/login", data=login, headers=SAME_SITE)
        assert (answer.status_code, f"{field.title()}: more than {most} characters" in answer.text) == (400, True)
    log_in(http, name="admin", password=server.password)
    large = http.post(f"{HOME}/clusters", data=form(1024 * 1024), headers=SAME_SITE)
    assert large.status_code == 403, "with a session it is read"


def test_other_cookies_do_not_hide_the_session(person: httpx2.Client):
    session = "pilothouse-session=" + person.cookies["pilothouse-session"]
    person.cookies.clear()
    for odd in ('a={"x":1}', "foo", "k[0]=1", "=", "not-pilothouse-session=phs-x"):
        for cookies in (f"{odd}; {session}", f"{session};{odd}", f"{odd};  {session} ; c=1"):
            headers = {"Cookie": cookies}
            assert person.get("/console/account", headers=headers).status_code == 200, cookies


def test_no_answer_leads_to_the_host_of_the_request(person: httpx2.Client):
    evil = {"Host": "evil.example", "X-Forwarded-Host": "evil.example"}
    cookie = {"Cookie": "pilothouse-session=" + person.cookies["pilothouse-session"]}
    led = person.get(HOME, headers=evil | cookie)
    assert (led.status_code, led.headers["location"]) == (302, f"{HOME}/releases")
    for path in ("/console/projects/", "/console/account/", f"{HOME}/releases/", f"{HOME}/charts/"):
        answer = person.get(path, headers=evil | cookie)
        assert (answer.status_code, answer.headers.get("location")) == (404, None), path


def test_logging_in_again_ends_the_session_before(http: httpx2.Client, server: RunningServer):
    log_in(http, name="admin", password=server.password)
    before = http.cookies["pilothouse-session"]
    log_in(http, name="admin", password="wrong")
    assert http.get("/console/account").status_code == 200
    log_in(http, name="admin", password=server.password)
    assert http.get("/console/account").status_code == 200
    with httpx2.Client(base_url=server.url, trust_env=False) as other:
        other.cookies.set("pilothouse-session", before)
        assert other.get("/console/account").status_code == 401


def test_every_page_forbids_what_it_does_not_need(person: httpx2.Client):
    for path in ("/console/login", f"{HOME}/releases", f"{HOME}/nothing", "/console/account"):
        headers = person.get(path).headers
        policy = dict(one.split(" ", 1) for one in headers["content-security-policy"].split("; "))
        assert policy.pop("default-src") == policy.pop("frame-ancestors") == policy.pop("base-uri") == "'none'"
        assert set(policy.values()) == {"'self'"}
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
    page = person.get(f"{HOME}/releases")
    assert page.headers["content-encoding"] == "gzip"
    for file in re.findall(r'(?:src|href)="(/console/static/[^"]+)"', page.text):
        answer = person.get(file)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]


def test_the_first_page_weighs_little(person: httpx2.Client):
    page = person.get(f"{HOME}/releases")
    files = set(re.findall(r'(?:src|href)="(/console/static/[^"]+)"', page.text))
    total = 0
    for path in (f"{HOME}/releases", *files):
        with person.stream("GET", path) as answer:
            total += sum(len(piece) for piece in answer.iter_raw())
    assert total < 60_000


@pytest.mark.parametrize("what", ["password", "disabled"])
def test_a_session_ends_with_what_it_was_opened_by(http: httpx2.Client, server: RunningServer, what: str):
    somebody = add_person(server, "readonly")
    assert log_in(http, name=somebody.name, password=PASSWORD).status_code == 303
    assert http.get(f"{HOME}/releases").status_code == 200
    if what == "password":
        body = {"password": "another one of eight"}
        assert server.send("PUT", f"/api/v1/users/{somebody.id}/password", json_body=body).status_code in (200, 204)
    else:
        server.send("PATCH", f"/api/v1/users/{somebody.id}", json_body={"enabled": False})
    assert http.get(f"{HOME}/releases").status_code == 401


def test_a_project_in_which_one_has_no_role_does_not_exist(http: httpx2.Client, server: RunningServer):
    nobody = add_person(server)
    assert log_in(http, name=nobody.name, password=PASSWORD).status_code == 303
    for path in (f"{HOME}/releases", f"{HOME}/operations", "/console/p/there-is-none/releases"):
        answer = http.get(path)
        assert (answer.status_code, "has no role in it" in answer.text) == (404, True), path
    assert "has no role in any project" in http.get("/console/").text


def test_what_a_viewer_sends_is_refused_by_the_service_and_audited(
    http: httpx2.Client, server: RunningServer, namespace: str, helm_cli: HelmCommand, install: Callable[[str], None]
):
    install("kept")
    viewer: Person = add_person(server, "readonly", project_id=server.project_id)
    log_in(http, name=viewer.name, password=PASSWORD)
    path, form = (
        f"{HOME}/releases/test/{namespace}/kept",
        {"csrf": proof(http), "confirm": "kept", "reason": "x", "to": "1"},
    )
    for write in ("uninstall", "rollback", "unlock"):
        answer = http.post(f"{path}/{write}", data=form, headers=SAME_SITE)
        assert answer.status_code == 403, answer.text
        assert "lacks the permission cce:release:" in answer.text
    assert OneRelease(server, namespace, "kept", helm_cli).settled()["status"] == "DEPLOYED"


def test_a_plan_is_applied_once_by_whoever_may_and_only_with_its_own_digest(
    person: httpx2.Client, server: RunningServer, namespace: str, helm_cli: HelmCommand, install: Callable[[str], None]
):
    install("planned")
    path = f"{HOME}/releases/test/{namespace}/planned"
    planned = person.post(f"{path}/rollback", data={"csrf": proof(person), "to": "1", "plan": "yes"}, headers=SAME_SITE)
    assert planned.status_code == 303, planned.text
    plan = planned.headers["location"]
    found = re.search(r'name="digest" value="(sha256:[0-9a-f]+)"', person.get(plan).text)
    assert found is not None
    viewer = add_person(server, "readonly", project_id=server.project_id)
    with httpx2.Client(base_url=server.url, trust_env=False, timeout=60) as other:
        log_in(other, name=viewer.name, password=PASSWORD)
        denied = other.post(f"{plan}/apply", data={"csrf": proof(other), "digest": found[1]}, headers=SAME_SITE)
        assert (denied.status_code, "lacks the permission cce:release:update" in denied.text) == (403, True)
    for digest, told in (("sha256:" + "0" * 64, "it is not that of plan"), ("", "it is not that of plan")):
        refused = person.post(f"{plan}/apply", data={"csrf": proof(person), "digest": digest}, headers=SAME_SITE)
        assert (refused.status_code, told in refused.text) == (409, True)
    form = {"digest": found[1], "once": "a-key-of-this-plan"}
    answers = [person.post(f"{plan}/apply", data={"csrf": proof(person), **form}, headers=SAME_SITE) for _ in range(2)]
    assert [one.status_code for one in answers] == [303, 303]
    assert len({one.headers["location"] for one in answers}) == 1
    one = OneRelease(server, namespace, "planned", helm_cli)
    settled = one.settled()
    assert settled["status"] == "DEPLOYED", settled
    assert len(one.history()) == 2
    again = person.post(f"{plan}/apply", data={"csrf": proof(person), "digest": found[1]}, headers=SAME_SITE)
    assert (again.status_code, "has been applied already" in again.text) == (409, True)
    rows = server.send("GET", "/api/v1/audit?target=planned&action=cce:release:update").json()
    assert [row["outcome"] for row in rows if row["user"] == "admin"] == ["done"]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"chart": ""}, "Chart: missing"), ({"chart": "none"}, "chart"), ({"cluster": ""}, "Cluster: missing"),
        ({"namespace": "A"}, "is not a namespace name"), ({"name": "-"}, "is not a release name"),
        ({"wait": "long"}, "Wait: "), ({"timeout_seconds": "0"}, "At most, in seconds: "),
        ({"crds": "x"}, "CRDs of the chart: "),
        ({"description": "x" * 1001}, "Description: more than"), ({"values": "a: [b"}, "Line 1:"),
        ({"values": "- a"}, "Line 1:"), ({"namespace": "there-is-none"}, "there-is-none"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_form_is_told_with_all_that_was_typed(
    person: httpx2.Client, namespace: str, charts: dict[str, str], wrong: dict[str, str], told: str
):
    right = {"chart": charts["plain"], "cluster": "test", "namespace": namespace, "name": "x", "values": "text: typed"}
    form = {**right, "rollback_on_failure": "yes", **wrong}
    answer = person.post(f"{HOME}/install", data={"csrf": proof(person), **form}, headers=SAME_SITE)
    assert answer.status_code in (400, 404), answer.text
    assert told in answer.text
    assert 'role="alert"' in answer.text
    for name, value in form.items():
        typed = escape(value, quote=False).replace("'", "&#39;")
        assert typed in answer.text, name
    assert 'name="rollback_on_failure" value="yes" checked' in answer.text


def test_values_are_judged_with_those_that_they_are_laid_over_and_not_for_who_may_not_read_these(
    person: httpx2.Client, server: RunningServer, namespace: str
):
    schema = '{"type": "object", "required": ["secret"], "properties": {"text": {"type": "string"}}}'
    chart = build_chart("judged", templates={"c.yaml": config_map_template()}, values={"text": "x"}, schema=schema)
    made = server.upload(chart, parameters='{"override": true, "skip_lint": true}').json()
    server.create(chart_id=made["id"], namespace=namespace, name="judged", values={"secret": "s"})
    assert server.wait_until_final(namespace, "judged")["status"] == "DEPLOYED"
    path = f"{HOME}/releases/test/{namespace}/judged/change/judge"

    def judged(http: httpx2.Client, **fields: str) -> list[str]:
        form = {"csrf": proof(http), "chart": made["id"], **fields}
        answer = http.post(path, data=form, headers=SAME_SITE)
        assert answer.status_code == 200, answer.text
        assert answer.headers["cache-control"] == "no-store"
        return [one["text"] for one in answer.json()["problems"]]

    assert judged(person, values="text: a", mode="reset_then_reuse") == []
    assert judged(person, values="text: 1", mode="reuse") == ["text: got number, want string"]
    assert judged(person, values="text: a", mode="replace") == ["missing property 'secret'"]
    assert judged(person, values="text: 1", mode="replace", skip_schema_validation="yes") == []
    viewer = add_person(server, "readonly", project_id=server.project_id)
    with httpx2.Client(base_url=server.url, trust_env=False, timeout=60) as other:
        log_in(other, name=viewer.name, password=PASSWORD)
        assert judged(other, values="text: 1", mode="reuse") == []
        assert other.post(path, data={"values": "text: 1"}, headers=SAME_SITE).status_code == 403


def test_the_form_of_a_plan_is_filled_in_for_its_own_release_and_by_the_rights_there(  # noqa: PLR0917 (fixtures)
    person: httpx2.Client, server: RunningServer, namespace: str, make_namespace: Callable[[], str],
    install: Callable[[str], None], charts: dict[str, str],
):  # fmt: skip
    install("mine")
    others, secret = make_namespace(), "typed-by-somebody-else"
    path = f"{HOME}/releases/test/{namespace}/mine/change"
    typed = {"chart": charts["plain"], "values": f"text: {secret}\n"}
    forms = {
        others: (f"{HOME}/install", {"cluster": "test", "namespace": others, "name": "theirs"}),
        namespace: (path, {"mode": "replace", "revision": "1"}),
    }
    plans = {}
    for place, (address, form) in forms.items():
        made = person.post(address, data={"csrf": proof(person), **typed, **form}, headers=SAME_SITE)
        assert made.status_code == 303, made.text
        plans[place] = made.headers["location"].rpartition("/")[2]
    there = {"StringEquals": {"pilothouse:Namespace": [others]}}
    viewer = add_person(server, "te_admin")
    attach(server, viewer, statement("Deny", "pilothouse:values:read", **there))
    log_in(person, name=viewer.name, password=PASSWORD)
    for address, status, told in (
        (f"{path}?plan={plans[namespace]}", 200, True),
        (f"{path}?plan={plans[others]}", 404, False),
        (f"{HOME}/install?plan={plans[others]}", 200, False),
        (f"{HOME}/install?plan={plans[namespace]}", 200, True),
    ):
        answer = person.get(address)
        assert (answer.status_code, secret in answer.text) == (status, told), address
    attach(server, viewer, statement("Deny", "cce:release:get", **there))
    assert person.get(f"{HOME}/install?plan={plans[others]}").status_code == 403


def test_what_was_refused_of_several_names_its_release(person: httpx2.Client, server: RunningServer):
    there = {"StringEquals": {"pilothouse:Namespace": ["theirs"]}}
    keeper = add_person(server, "te_admin")
    attach(server, keeper, statement("Deny", "cce:release:get", **there))
    log_in(person, name=keeper.name, password=PASSWORD)
    chosen = {"release": ["test/theirs/one", "test/theirs/two"]}
    pages = {f"{HOME}/releases/bulk/drift": {}, f"{HOME}/releases/bulk": {"do": "uninstall"}}
    for address, more in pages.items():
        answer = person.get(address, params={**more, **chosen})
        assert (answer.status_code, "Forbidden" in answer.text) == (200, True), answer.text

    def refused() -> set[tuple[str, str, str]]:
        query = f"user={keeper.id}&outcome=denied&namespace=theirs&cluster={server.cluster_id}"
        found = server.send("GET", f"/api/v1/audit?{query}").json()
        return {(row["detail"], row["target"], row["target_name"]) for row in found}

    wanted = {
        (f"GET {address}", f"{server.cluster_id}/theirs/{name}", name) for address in pages for name in ("one", "two")
    }
    wait_for(lambda: refused() == wanted, seconds=20)


def test_a_release_that_moved_since_its_page_was_shown_is_left_alone(  # noqa: PLR0917 (fixtures)
    person: httpx2.Client, server: RunningServer, namespace: str, helm_cli: HelmCommand, charts: dict[str, str],
    install: Callable[[str], None],
):  # fmt: skip
    one, path = OneRelease(server, namespace, "moves", helm_cli), f"{HOME}/releases/test/{namespace}/moves"
    forms = {"uninstall": {"confirm": "moves"}, "rollback": {"to": "1"}}

    def upgrade() -> None:
        assert one.update(chart_id=charts["next"], values={"text": "second"}).status_code == 200
        one.settled()

    def shown() -> dict[str, str]:
        found = {
            write: re.search(r'name="seen" value="([^"]+)"', person.get(f"{path}/{write}?to=1").text) for write in forms
        }
        return {write: seen[1] for write, seen in found.items() if seen is not None}

    def ordered(write: str, seen: str) -> httpx2.Response:
        form = {"csrf": proof(person), "seen": seen, **forms[write]}
        return person.post(f"{path}/{write}", data=form, headers=SAME_SITE)

    install("moves")
    moves: dict[str, list[Callable[[], object]]] = {
        "it is at revision 2 now; look at it again": [upgrade],
        "it was installed anew since it was shown": [one.delete, one.gone, lambda: install("moves"), upgrade],
    }
    for told, move in moves.items():
        seen = shown()
        for step in move:
            step()
        for write in forms:
            answer = ordered(write, seen[write])
            assert (answer.status_code, told in answer.text) == (400, True), answer.text
    assert one.statuses() == ["superseded", "deployed"]
    assert ordered("rollback", "x").status_code == 400
    assert ordered("rollback", shown()["rollback"]).status_code == 303
    one.settled()


def test_a_form_that_is_sent_twice_is_carried_out_once(
    person: httpx2.Client, server: RunningServer, namespace: str, helm_cli: HelmCommand, install: Callable[[str], None]
):
    install("twice")
    path = f"{HOME}/releases/test/{namespace}/twice/rollback"
    form = {"csrf": proof(person), "to": "1", "once": "a-key-of-this-test"}
    first = person.post(path, data=form, headers=SAME_SITE)
    assert first.status_code == 303, first.text
    one = OneRelease(server, namespace, "twice", helm_cli)
    one.settled()
    again = person.post(path, data={**form, "csrf": proof(person)}, headers=SAME_SITE)
    assert again.headers["location"] == first.headers["location"]
    assert len(one.history()) == 2
    other = person.post(path, data={**form, "hooks": "yes"}, headers=SAME_SITE)
    assert other.status_code == 422


def test_what_is_written_by_the_console_is_in_the_audit_as_by_the_api(
    person: httpx2.Client, server: RunningServer, namespace: str, install: Callable[[str], None]
):
    install("noted")
    form = {"csrf": proof(person), "confirm": "noted"}
    path = f"{HOME}/releases/test/{namespace}/noted/uninstall"
    answer = person.post(path, data=form, headers=SAME_SITE)
    assert answer.status_code == 303
    rows = server.send("GET", "/api/v1/audit?target=noted&action=cce:release:delete").json()
    assert [(row["user"], row["outcome"], row["request_id"]) for row in rows] == [
        ("admin", "done", answer.headers["x-request-id"])
    ]


@pytest.mark.parametrize(
    "path",
    [
        "/releases?sort=nam", "/releases?marker=abc", "/releases?q=%00", "/releases?cluster=none",
        "/operations?state=x", "/operations?marker=2026-01-01T00:00:00/x", "/operations/none",
        "/releases/test/none/none", "/releases/none/none/none/values", "/releases/test/none/none/diff?from=x",
        "/charts?marker=e30=", "/charts/none", "/clusters/none", "/audit?outcome=x", "/audit?marker=-1", "/nothing",
        "/releases/test/a%00b/c", "/operations/%00", "/operations/%00/live", "/charts/%00", "/clusters/%00",
        "/audit?marker=" + "0" * 19 + "1" * 4500, "/releases/test/none/none/values?revision=" + "0" * 19 + "1" * 4500,
        "/releases/test/none/none/values?revision=" + "%20" * 20 + "1",
        "/plans/none", "/plans/%00", "/install?plan=none", "/install?name=%00", "/releases/test/none/none/change",
        "/releases/test/none/none/change?source=%00", "/sources?q=%00", "/operations?release=%00", "/audit?user=%00",
    ],
)  # fmt: skip
def test_a_wrong_address_is_explained_on_a_page(person: httpx2.Client, path: str):
    answer = person.get(f"{HOME}{path}")
    assert answer.status_code in (400, 404), answer.text
    assert answer.headers["content-type"].startswith("text/html")
    assert 'role="alert"' in answer.text


def test_a_failure_of_the_server_is_in_its_log_under_the_request_that_the_page_names(
    person: httpx2.Client, server: RunningServer
):
    nowhere = f"https://127.0.0.1:{free_port()}"
    config = {
        "clusters": [{"name": "x", "cluster": {"server": nowhere}}],
        "users": [{"name": "x", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "current-context": "x",
    }
    form = {"csrf": proof(person), "name": "away", "kubeconfig": json.dumps(config)}
    answer = person.post(f"{HOME}/clusters", data=form, headers=SAME_SITE)
    assert answer.status_code == 500
    assert "cannot be reached" in answer.text
    log = (server.data_dir.parent / "serve.log").read_text()
    named = [line for line in log.splitlines() if answer.headers["x-request-id"] in line and "request_failed" in line]
    assert len(named) == 1
    assert "ClusterUnavailable" in named[0]


def test_a_part_that_cannot_be_shown_keeps_its_page_and_tells_its_status(
    person: httpx2.Client, namespace: str, install: Callable[[str], None]
):
    install("shown")
    path = f"{HOME}/releases/test/{namespace}/shown"
    for part, status in (("manifest?revision=9", 404), ("diff?from=1&to=9", 404), ("rollback?to=x", 400)):
        answer = person.get(f"{path}/{part}")
        assert answer.status_code == status, part
        assert "Overview</a>" in answer.text


def test_pages_that_show_no_values_are_no_reads_of_values_and_a_history_is_one_as_by_the_api(
    person: httpx2.Client, server: RunningServer, namespace: str, install: Callable[[str], None]
):
    install("read")
    path = f"{HOME}/releases/test/{namespace}/read"

    def noted() -> set[str]:
        query = f"/api/v1/audit?action=pilothouse:values:read&target={server.cluster_id}/{namespace}/read"
        return {row["detail"] for row in server.send("GET", query).json()} - {"show"}  # which is how it was waited for

    for part in ("/uninstall", "/rollback", "/history"):
        assert person.get(path + part).status_code == 200
    wait_for(noted)
    assert noted() == {"history"}
    assert "Say hello" in person.get(path).text
    wait_for(lambda: noted() == {"history", "release"})


def test_a_stream_begins_with_the_newest_events_and_sends_at_most_a_message_a_second(
    person: httpx2.Client, server: RunningServer, start_stuck: Callable[..., str]
):
    operation_id = start_stuck("long")
    add = (
        "WITH new AS (INSERT INTO operation_events (operation_id, attempt, kind, text)"
        " SELECT %(id)s, 1, 'told', %(said)s || n FROM generate_series(1, %(count)s) n)"
        " SELECT pg_notify('pilothouse_operation_news', 'operation:' || %(id)s)"
    )
    with psycopg.connect(server.database_url, autocommit=True) as database:
        database.execute(add, {"id": operation_id, "said": "early ", "count": 1200})
        with person.stream("GET", f"{HOME}/operations/{operation_id}/live") as answer:
            began, messages = time.monotonic(), read_messages(answer)
            first = next(messages)
            assert ">early 1200<" in first
            assert 250 < first.count(">early ") <= 300
            for number in range(60):
                database.execute(add, {"id": operation_id, "said": f"late {number} ", "count": 1})
            count = 2 + next(number for number, text in enumerate(messages) if ">late 59 1<" in text)
            server.send("POST", f"/api/v1/operations/{operation_id}/cancel", json_body={})
            *between, last, end = messages
            assert "Cancelled" in last
            assert end.startswith("event: end")
            assert count + len(between) <= time.monotonic() - began + 2


def read_messages(answer: httpx2.Response) -> Iterator[str]:
    """Yield the messages of a stream of events, without comments."""
    lines: list[str] = []
    for line in answer.iter_lines():
        if line:
            lines.append(line)
        elif lines:
            if not lines[0].startswith(":"):
                yield "\n".join(lines)
            lines = []


def test_log_in_leads_only_to_pages_of_the_console(http: httpx2.Client, server: RunningServer):
    for path in (
        "//evil.example/console/",
        "https://evil.example/",
        "/console/\\evil.example",
        "/v2/charts",
        "javascript:x",
    ):
        answer = log_in(http, name="admin", password=server.password, next=path)
        assert answer.headers["location"] == "/console/"
    answer = log_in(http, name="admin", password=server.password, next=f"{HOME}/audit?user=a")
    assert answer.headers["location"] == f"{HOME}/audit?user=a"


def test_the_root_is_the_vendors_for_its_clients_and_the_consoles_for_browsers(http: httpx2.Client):
    assert http.get("/").status_code == 300
    assert http.get("/", headers={"Accept": "application/json"}).json()["versions"]
    led = http.get("/", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert (led.status_code, led.headers["location"]) == (302, "/console/")
