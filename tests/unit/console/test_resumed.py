"""What a form that was kept through a log-in would do, in words."""

from collections.abc import Iterable, Iterator

import pytest
from starlette.routing import BaseRoute, Route

from pilothouse.console import app
from pilothouse.console.resumed import tell_form, tell_kept

HOME = "/console/p/cn-north-4"
#: Forms that no log-in keeps: that of the log-in itself, and what scripts send beside a form.
NEVER_KEPT = {"/login", "/logout"}


@pytest.mark.parametrize(
    ("path", "action", "place"),
    [
        (f"{HOME}/releases/test/a%20b/web/uninstall", "Uninstall", "test / a b / web"),
        (f"{HOME}/releases/test/a/web/change?plan=1", "Plan a change", "test / a / web"),
        (f"{HOME}/install?chart=1", "Plan an install", ""),
        (f"{HOME}/clusters", "Add a cluster", ""),
        (f"{HOME}/clusters/test/remove", "Remove a cluster", "test"),
        (f"{HOME}/clusters/test/wall/remove", "Remove the wall of a cluster", "test"),
        (f"{HOME}/releases/bulk", "Change several releases", ""),
        (f"{HOME}/sources/charts/change", "Change a source", "charts"),
        (f"{HOME}/plans/1-2/apply", "Apply a plan", "plan 1-2"),
        (f"{HOME}/operations/1-2/cancel", "Cancel an operation", "operation 1-2"),
        (f"{HOME}/access/users/1-2/roles", "Grant a role to a user", "user 1-2"),
        (f"{HOME}/access/groups/1-2/roles/withdraw", "Withdraw a role of a group", "group 1-2"),
        (f"{HOME}/access/policies/1-2/attachments", "Attach a policy", "policy 1-2"),
        (f"{HOME}/access/users/1-2/keys", "Make an access key", "user 1-2"),
        (f"{HOME}/some/new-thing", "Send the form", f"{HOME}/some/new-thing"),
    ],
)
def test_a_form_is_told_by_what_it_does_for_what_and_where(path: str, action: str, place: str):
    told = tell_form(path, {})
    assert (told.action, told.place, told.project) == (action, place, "cn-north-4")


@pytest.mark.parametrize(
    ("path", "do", "action", "destroys"),
    [
        ("/console/account/keys/change", "delete", "Delete an access key", True),
        ("/console/account/keys/change", "enable", "Enable an access key", False),
        ("/console/account/keys/change", "", "Change an access key", False),
        (f"{HOME}/access/users/1/keys/change", "disable", "Disable an access key", True),
        (f"{HOME}/access/users/1/state", "disable", "Disable a user", True),
        (f"{HOME}/releases/bulk", "uninstall", "Uninstall several releases", True),
        (f"{HOME}/releases/bulk", "rollback", "Roll back several releases", False),
    ],
)
def test_a_form_of_several_buttons_is_told_by_the_one_that_was_pressed(
    path: str, do: str, action: str, *, destroys: bool
):
    told = tell_form(path, {"do": do})
    assert (told.action, told.destroys) == (action, destroys)


def test_what_is_undone_by_nothing_is_told_so_but_for_a_plan_of_it():
    path = f"{HOME}/releases/test/a/web/uninstall"
    assert tell_form(path, {"confirm": "web"}).destroys
    assert not tell_form(path, {"plan": "yes"}).destroys
    assert not tell_form(f"{HOME}/plans/1/apply", {}).destroys
    assert tell_form(f"{HOME}/plans/1/apply", {"confirm": "web"}).destroys


def test_fields_are_told_as_the_form_says_them():
    kept = {
        "chart": "18bc55ee-b249", "mode": "replace", "values": "greeting: nojs\r\nreplicas: 2\r\n", "wait": "ready",
        "crds": "skip", "take_ownership": "yes", "revision": "3", "once": "x",
    }  # fmt: skip
    assert tell_kept(kept, {"chart": "settings 1.4.0"}) == [
        ("Chart", "settings 1.4.0"),
        ("Values that the release has", "the text is all"),
        ("Values", "greeting: nojs\nreplicas: 2\n"),
        ("Wait", "until objects are ready"),
        ("CRDs of the chart", "skip"),
        ("Take over objects that exist already, whosever they are", "yes"),
        ("Revision", "3"),
    ]
    several = {"do": "uninstall", "releases": "eu/a/web@3>2!17 us/b/api@1!0", "keep_history": "yes"}
    assert tell_kept(several) == [("Releases", "eu / a / web\nus / b / api"), ("Keep the history", "yes")]
    source = {"sync_seconds": "3600", "verification": "none", "do": "unheard of", "project": "account"}
    assert [value for _, value in tell_kept(source)] == [
        "every hour", "not: whoever signed them", "unheard of", "the whole account",
    ]  # fmt: skip


def test_an_account_is_no_project():
    told = tell_form("/console/account/sessions/end", {})
    assert (told.action, told.place, told.project) == ("End a session", "your account", "")


def routes_of(routes: Iterable[BaseRoute], method: str) -> Iterator[Route]:
    """Yield the routes of pages that take the method."""
    for route in routes:
        if isinstance(route, Route) and method in (route.methods or ()):
            yield route


def test_each_form_of_the_console_has_words_and_names_what_it_is_for_and_its_page():
    routes = [one for part in vars(app).values() for one in getattr(part, "ROUTES", [])]
    pages = [one.path_regex for one in routes_of(routes, "GET")]
    paths = {one.path for one in routes_of(routes, "POST")} - NEVER_KEPT
    assert len(paths) > 40
    for path in (one for one in paths if not one.endswith("/judge")):
        told = tell_form(f"{HOME}{path.replace('{', 'the-').replace('}', '')}?with=more", {})
        assert told.action != "Send the form", path
        assert all(f"the-{name.partition('}')[0]}" in told.place for name in path.split("{")[1:]), path
        page = told.page.removeprefix(HOME).partition("?")[0]
        assert any(one.fullmatch(page) for one in pages), told.page


@pytest.mark.parametrize(
    ("path", "page"),
    [
        ("/console/account/keys/change", "/console/account"),
        (f"{HOME}/plans/1-2/apply", f"{HOME}/plans/1-2"),
        (f"{HOME}/releases/test/a/web/change?plan=1", f"{HOME}/releases/test/a/web/change?plan=1"),
        (f"{HOME}/clusters/test/wall/remove", f"{HOME}/clusters/test"),
        (f"{HOME}/access/users", f"{HOME}/access"),
        (f"{HOME}/verification/keys", f"{HOME}/verification"),
        (f"{HOME}/some/new-thing?x", f"{HOME}/some/new-thing?x"),
    ],
)
def test_the_way_back_leads_to_the_page_of_the_form(path: str, page: str):
    assert tell_form(path, {}).page == page


def test_fields_are_told_by_their_labels_and_what_only_a_page_knows_is_not():
    kept = {"once": "1", "seen": "2", "digest": "3", "timeout_seconds": "5", "rollback_on_failure": "yes", "name": ""}
    assert tell_kept(kept) == [("At most, in seconds", "5"), ("If it fails, undo it", "yes")]
