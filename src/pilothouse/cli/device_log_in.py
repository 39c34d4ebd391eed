"""``pilothouse login --device``: log in at an identity provider that the server names, with a browser on any device."""

import asyncio
import re
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
_LONGEST: Final = 500
#: As docs/single-sign-on.md has it.
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")
_MINUTE: Final = 60.0


def log_in_by_device(client: Client, provider: str) -> tuple[str, str]:
    """Return a token of no project, and the name of the provider at which the person logged in.

    ``provider`` is a name, or empty for the only one. Raises PilothouseError.
    """
    server = urlsplit(client.url)
    plain = server.hostname in LOOPBACK
    if server.scheme != "https" and not plain:
        raise UsageError(
            f"--device: {client.url} must begin with https://, as it says where you log in, and receives the access "
            "token of the identity provider; plain HTTP is for a server on this machine only"
        )
    chosen = _choose(_providers(client), provider)
    tokens = asyncio.run(_ask_provider(chosen, client.url, plain=plain))
    body = {"provider": chosen.name, "id_token": tokens.id_token, "access_token": tokens.access_token}
    try:
        said = client.ask("POST", _LOG_IN, body=body)
    except ServerRefused as error:
        raise PilothouseError(f"{chosen.title} confirmed the log-in, but the server refuses it: {error}") from error
    token = said.get("token") if isinstance(said, dict) else None
    if not isinstance(token, str):
        raise InvalidRequest(f"--device: {client.url} answers the log-in without a token; is it Pilothouse?")
    return token, chosen.name


async def _ask_provider(chosen: DeviceClient, url: str, *, plain: bool) -> GivenTokens:
    requests = ProviderRequests(chosen.title)
    try:
        return await DeviceFlow(chosen, requests, plain=plain).log_in(lambda code: _show(chosen, url, code))
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
        return [_read(provider) for provider in said["providers"]]
    except (KeyError, TypeError) as error:
        raise InvalidRequest(f"--device: {client.url} does not say where people log in; is it Pilothouse?") from error


def _read(said: dict[str, Any]) -> DeviceClient:
    """Return what a server says of a provider, which a person reads and types; raise KeyError or TypeError."""
    texts = {name: said[name] for name in ("name", "title", "issuer", "client_id")}
    scopes = said["scopes"]
    if not isinstance(scopes, list) or not all(_is_plain(text) for text in (*texts.values(), *scopes)):
        raise TypeError("texts are expected")
    if not _NAME.fullmatch(texts["name"]):
        raise TypeError("a name is expected")
    return DeviceClient(**texts, scopes=tuple(scopes))


def _is_plain(text: object) -> bool:
    return isinstance(text, str) and 0 < len(text) <= _LONGEST and text.isprintable()


def _choose(providers: list[DeviceClient], name: str) -> DeviceClient:
    """Return the provider of this name, or the only one; raise InvalidRequest or UsageError."""
    names = ", ".join(provider.name for provider in providers)
    if not providers:
        raise InvalidRequest(
            "--device: this server has no identity provider for log-in from a terminal. Leave --device out, and log in "
            "with a password or a token; or let its administrator set device_client_id of a provider "
            "(see 'Single sign-on' in the documentation)"
        )
    if not name and len(providers) > 1:
        raise UsageError(f"--provider: choose one of {names}")
    found = [provider for provider in providers if name in {"", provider.name}]
    if not found:
        raise UsageError(f"--provider: {name!r} is none of this server's for log-in from a terminal: {names}")
    return found[0]


def _show(chosen: DeviceClient, url: str, code: Code) -> None:
    """Tell the person what to do, and for whom; on standard error, as the result is for programs too."""
    host = urlsplit(chosen.issuer).netloc
    _say(
        f"{url} asks you to log in at {host} as the client {chosen.client_id}, and receives the access token, with the "
        f"scopes {', '.join(chosen.scopes) or '(none)'}."
    )
    _say(f"To log in at {chosen.title}, open this page in a browser, on any device:")
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
