"""``pilothouse login``: prove who you are once, and keep the log-in as a context."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from pilothouse.cli.commands.list import time_of
from pilothouse.cli.connection import authority_of
from pilothouse.cli.exits import UsageError
from pilothouse.cli.groups import connection_options_of, options_of, takes
from pilothouse.cli.output import As, Output, print_answer
from pilothouse.cli.passwords import Domain, FromStdin, ask, prompt
from pilothouse.cli.terminal import echo
from pilothouse.errors import InvalidRequest, PilothouseError

if TYPE_CHECKING:
    from pilothouse.cli.client import Client
    from pilothouse.cli.contexts import Context

_TOKENS = "/v3/auth/tokens"
_KEYS = "/api/v1/accesskeys"
_SHOWN = ("url", "user", "domain", "provider", "access_key", "project", "expires_at")
_OTHER_WAYS = {
    "user": "--user",
    "password_stdin": "--password-stdin",
    "token_stdin": "--token-stdin",
    "secret_key_stdin": "--secret-key-stdin",
    "with_access_key": "--access-key",
    "with_secret_key": "--secret-key",
    "with_token": "--token",
}
_PROJECT_ID = re.compile(r"[0-9a-f]{32}")


def _at_provider(
    *,
    device: Annotated[
        bool,
        typer.Option("--device", help="Log in at the server's identity provider, with a browser on any device."),
    ] = False,
    provider: Annotated[
        str, typer.Option("--provider", metavar="NAME", help="Identity provider for --device; default: the only one.")
    ] = "",
) -> None:
    """Declare the options of a log-in at an identity provider."""


@takes(_at_provider)
def login(
    context: typer.Context,
    url: Annotated[str, typer.Argument(metavar="URL", help="URL of the server, for example https://host:8443.")],
    *,
    user: Annotated[str, typer.Option("--user", "-u", help="Name of the user; asked for if you do not say it.")] = "",
    domain: Domain = "pilothouse",
    password_stdin: FromStdin = False,
    token_stdin: Annotated[
        bool, typer.Option("--token-stdin", help="Log in with a token, read from standard input.")
    ] = False,
    secret_key_stdin: Annotated[
        bool, typer.Option("--secret-key-stdin", help="Log in with --access-key; read its secret from standard input.")
    ] = False,
    output: As = Output.TABLE,
) -> None:
    """Log in to a server, and keep the log-in as a context. It becomes the current context of all commands.

    With a password or --device, and for a project: --project, or the only one. --context names the context, --ca pins
    the authority of an https server, --cluster and -n are its defaults.
    """
    from pilothouse.cli.contexts import Context

    _refuse_without_scheme(url)
    options = connection_options_of(context)
    made = Context(
        name=options.get("named_context") or urlsplit(url).netloc or url,
        url=url.rstrip("/"),
        ca=authority_of({"authority": options.get("authority")}),  # --context names what is made here
        cluster=options.get("in_cluster", ""),
        namespace=options.get("in_namespace", ""),
    )
    project = str(options.get("in_project") or "")
    at_provider = options_of(context)
    _refuse_beside_device(context)
    token = ask("Token", from_stdin=True) if token_stdin else ""
    with _revoking(made, besides=token):
        if at_provider["device"]:
            _log_in_by_device(made, at_provider["provider"], project)
        elif token_stdin:
            _take_token(made, token, project)
        elif options.get("with_access_key"):
            made.access_key = options["with_access_key"]
            made.secret_key = options.get("with_secret_key") or ask("Secret key", from_stdin=secret_key_stdin)
            _find_project_of_key(made, project)
        else:
            name = user or (prompt("User", default="admin") if sys.stdin.isatty() else "admin")
            claim = {"name": name, "domain": {"name": domain}, "password": ask("Password", from_stdin=password_stdin)}
            _log_in(made, {"methods": ["password"], "password": {"user": claim}}, project)
        _require_cluster(made)
        _keep(made, output)


@contextmanager
def _revoking(made: "Context", *, besides: str) -> Iterator[None]:
    """End the token that the block has got if it fails, since nobody knows it then; not the one that was given."""
    try:
        yield
    except BaseException:
        if made.token and made.token != besides:
            _revoke(_client(made), made.token)
        raise


def _refuse_without_scheme(url: str) -> None:
    if urlsplit(url).scheme not in {"http", "https"}:
        raise UsageError(f"URL: {url!r} must begin with http:// or https://, as in https://{url}")


def _require_cluster(made: "Context") -> None:
    """Raise InvalidRequest if the server says that there is no such cluster."""
    from pilothouse.cli.commands.context import check_cluster

    if made.cluster:
        check_cluster(made, made.cluster)


def _keep(made: "Context", output: Output) -> None:
    """Make the log-in the current context, and print it."""
    from pilothouse.cli.contexts import edited_contexts, tell_overrides

    with edited_contexts() as contexts:
        contexts.put(made)
        contexts.current = made.name
    tell_overrides(made)
    if output is not Output.TABLE:
        print_answer({"context": made.name, **{name: getattr(made, name) for name in _SHOWN}}, output)
        return
    key = f"access key {made.access_key}" if made.access_key else ""
    who = f"{made.user}, {key}" if made.user and key else made.user or key
    until = f" until {time_of(made.expires_at)}" if made.expires_at else ""
    echo(f"logged in to {made.url} as {who}, project {made.project or '(none)'}{until}; context {made.name}")


def _refuse_beside_device(context: typer.Context) -> None:
    """Raise UsageError for --device beside another way to log in, or --provider without it."""
    if not options_of(context)["device"]:
        if options_of(context)["provider"]:
            raise UsageError("--provider: it is for --device")
        return
    options = {**context.params, **connection_options_of(context)}
    other = next((flag for name, flag in _OTHER_WAYS.items() if options.get(name)), "")
    if other:
        raise UsageError(f"--device: {other} is another way to log in; leave one of them out")


def _log_in_by_device(made: "Context", provider: str, project: str) -> None:
    """Log in at an identity provider, and keep a token of the project instead of the one that gives."""
    from pilothouse.cli.device_log_in import log_in_by_device

    made.token, made.provider = log_in_by_device(_client(made), provider)
    broad, client = made.token, _client(made)
    try:
        _log_in(made, {"methods": ["token"], "token": {"id": broad}}, project)
    finally:
        _revoke(client, broad)


def _revoke(client: "Client", token: str) -> None:
    """End a token that is not needed any more; one that cannot be ended now ends by itself."""
    with suppress(PilothouseError):
        client.call("DELETE", _TOKENS, headers={"X-Subject-Token": token})


def _client(made: "Context") -> "Client":
    """Return the client of a log-in that is being made: no context has it yet."""
    from pilothouse.cli.client import Client, Credentials

    credentials = Credentials(made.token, made.access_key, made.secret_key, origin="what was given")
    return Client(made.url, credentials=credentials, ca=made.ca)


def _take_token(made: "Context", token: str, project: str) -> None:
    """Keep the token, or one of the project for it: a token of no project sees no cluster."""
    made.token = token
    said = _client(made).call("GET", f"{_TOKENS}?nocatalog=1", headers={"X-Subject-Token": token})
    own = said["token"].get("project") or {}
    if own and project in {"", own["name"], own["id"]}:
        _describe(made, said)
    else:
        _log_in(made, {"methods": ["token"], "token": {"id": token}}, project)


def _log_in(made: "Context", identity: dict[str, Any], project: str) -> None:
    """Get a token for the project; without one for the only project, which a token of no project can list."""
    auth: dict[str, Any] = {"identity": identity}
    if project:
        auth["scope"] = {"project": {"id" if _PROJECT_ID.fullmatch(project) else "name": project}}
    made.token, said = _client(made).log_in({"auth": auth})
    if not project:
        client = _client(made)
        usable = client.call("GET", "/v3/auth/projects")["projects"]
        if usable:
            _log_in_to(made, _choose_project(usable)["id"])
            return
    _describe(made, said)


def _log_in_to(made: "Context", project_id: str) -> None:
    """Exchange the token of no project for one of this project."""
    broad, client = made.token, _client(made)
    exchanged = {"methods": ["token"], "token": {"id": broad}}
    made.token, said = client.log_in({"auth": {"identity": exchanged, "scope": {"project": {"id": project_id}}}})
    _revoke(client, broad)
    _describe(made, said)


def _choose_project(usable: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the only project, or the one that the person chooses; raise UsageError if there is nobody to ask."""
    if len(usable) == 1:
        return usable[0]
    by_name = {project["name"]: project for project in usable}
    names = ", ".join(sorted(by_name))
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(f"--project: you have {len(usable)} projects, choose one of them: {names}")
    echo(f"You have {len(usable)} projects: {names}", err=True)
    while (name := prompt("Project")) not in by_name:
        echo(f"{name!r} is none of them", err=True)
    return by_name[name]


def _describe(made: "Context", said: dict[str, Any]) -> None:
    token = said["token"]
    made.user, made.domain = token["user"]["name"], token["user"]["domain"]["name"]
    made.project = (token.get("project") or {}).get("name", "")
    made.expires_at = token["expires_at"]


def _find_project_of_key(made: "Context", project: str) -> None:
    """Prove the key by a question that it needs, and keep whose it is, and its project or the one it has to say."""
    client = _client(made)
    usable = client.call("GET", "/v3/auth/projects")["projects"]
    with suppress(PilothouseError):  # what is only shown
        made.user = client.call("GET", "/api/v1/users/me")["name"]
    if not project:
        with suppress(PilothouseError):
            own = {key["project_id"] for key in client.call("GET", _KEYS) if key["access_key"] == made.access_key}
            made.project = next((project["name"] for project in usable if project["id"] in own), "")
        return
    chosen = [own for own in usable if project in {own["name"], own["id"]}]
    if not chosen:
        names = ", ".join(sorted(project["name"] for project in usable))
        raise InvalidRequest(f"--project: {project!r} is none of your projects: {names}")
    made.project, made.project_id = chosen[0]["name"], chosen[0]["id"]
