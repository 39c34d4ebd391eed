"""``pilothouse login --device``: log in at an identity provider that the server names, with a browser on any device."""

import asyncio
import shutil
import textwrap
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

from pilothouse.cli.client import Client, ServerRefused
from pilothouse.cli.device_flow import Code, DeviceClient, DeviceFlow, GivenTokens
from pilothouse.cli.exits import UsageError
from pilothouse.cli.provider_requests import LOOPBACK, ProviderRequests
from pilothouse.cli.terminal import echo
from pilothouse.errors import InvalidRequest, PilothouseError

_LOG_IN: Final = "/api/v1/login"
_WIDEST: Final = 100
_MINUTE: Final = 60.0


def log_in_by_device(client: Client, provider: str) -> tuple[str, str]:
    """Return a token of no project, and the name of the provider at which the person logged in.

    ``provider`` is a name, or empty for the only one. Raises PilothouseError.
    """
    chosen = _choose(_providers(client), provider)
    plain = urlsplit(client.url).hostname in LOOPBACK
    given = asyncio.run(_ask_provider(chosen, plain=plain))
    body = {"provider": chosen.name, "id_token": given.id_token, "access_token": given.access_token}
    try:
        return str(client.ask("POST", _LOG_IN, body=body)["token"]), chosen.name
    except ServerRefused as error:
        raise PilothouseError(f"{chosen.title} confirmed the log-in, but the server refuses it: {error}") from error


async def _ask_provider(chosen: DeviceClient, *, plain: bool) -> GivenTokens:
    requests = ProviderRequests(chosen.title)
    try:
        return await DeviceFlow(chosen, requests, plain=plain).log_in(lambda code: _show(chosen.title, code))
    finally:
        await requests.close()


def _providers(client: Client) -> list[DeviceClient]:
    try:
        said = client.ask("GET", _LOG_IN)
    except ServerRefused as error:
        if error.status != HTTPStatus.UNAUTHORIZED:
            raise
        raise InvalidRequest(
            f"--device: {client.url} is of an earlier version, which knows no log-in from a terminal; leave --device "
            "out, and log in with a password or a token"
        ) from error
    try:
        return [_read(one) for one in said["providers"]]
    except (KeyError, TypeError) as error:
        raise InvalidRequest(f"--device: {client.url} does not say where people log in; is it Pilothouse?") from error


def _read(said: dict[str, Any]) -> DeviceClient:
    texts = {name: str(said[name]) for name in ("name", "title", "issuer", "client_id")}
    return DeviceClient(**texts, scopes=tuple(str(scope) for scope in said["scopes"]))


def _choose(providers: list[DeviceClient], name: str) -> DeviceClient:
    """Return the provider of this name, or the only one; raise InvalidRequest or UsageError."""
    names = ", ".join(one.name for one in providers)
    if not providers:
        raise InvalidRequest(
            "--device: this server has no identity provider for log-in from a terminal. Leave --device out, and log in "
            "with a password or a token; or let its administrator set device_client_id of a provider "
            "(docs/single-sign-on.md)"
        )
    if not name and len(providers) > 1:
        raise UsageError(f"--provider: choose one of {names}")
    found = [one for one in providers if name in {"", one.name}]
    if not found:
        raise UsageError(f"--provider: {name!r} is none of this server's for log-in from a terminal: {names}")
    return found[0]


def _show(title: str, code: Code) -> None:
    """Tell the person what to do; on standard error, as the result is for programs too."""
    _say(f"To log in at {title}, open this page in a browser, on any device:")
    _say_alone(code.page)
    _say("and enter this code:")
    _say_alone(code.user_code)
    if code.page_with_code:
        _say("Or open the page with the code in it, and compare the code:")
        _say_alone(code.page_with_code)
    minutes = max(1, round(code.seconds / _MINUTE))
    _say(
        f"Waiting for at most {minutes} minute{'s' if minutes > 1 else ''}; Ctrl-C ends it. Confirm only a log-in that "
        "you began yourself."
    )


def _say(text: str) -> None:
    columns = min(shutil.get_terminal_size().columns, _WIDEST)
    for line in textwrap.wrap(text, max(columns, 1), break_long_words=False):
        echo(line, err=True)


def _say_alone(text: str) -> None:
    """Print what is copied or clicked: on a line of its own, and never broken."""
    echo(f"  {text}", err=True)
