"""Keystone, asked by a user of ours there whether a token is valid, and for whom.

Source: Identity API v3, "Password authentication with scoped authorization" and "Validate and show information for
token".
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from pilothouse.errors import NotAuthenticated, ProviderUnavailable
from pilothouse.kubernetes.resolver import LookUp
from pilothouse.providers.exchange import Exchange, place_of, read_object
from pilothouse.providers.kept import Kept
from pilothouse.providers.secret_files import read_secret
from pilothouse.settings import KeystoneSettings

#: Everything in a token but the list of services, which is long.
_VALIDATE: Final = "/v3/auth/tokens?nocatalog"
_LOG_IN: Final = "/v3/auth/tokens"
_VERSION_OF: Final = "/v3"
_VERSION: Final = re.compile(r"v3(\.[0-9]{1,4})?")
_GROUP: Final = "PILOTHOUSE_KEYSTONE__"
_LONGEST_TOKEN: Final = 32 * 1024
_MAY_NOT: Final = "it does not let our service user validate tokens; give it a role that may"


@dataclass(frozen=True)
class _Times:
    """How long our own token is used: any is replaced as soon as Keystone refuses it."""

    fresh_seconds: float = 600.0
    kept_seconds: float = 3600.0
    retry_seconds: float = 5.0


class Keystone:
    """One Keystone; our token there is kept."""

    def __init__(
        self, settings: KeystoneSettings, look_up: LookUp, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Raise InvalidSettings for a list of addresses or certificates that cannot be read."""
        self._settings = settings
        self._exchange = Exchange(settings.title or settings.name, settings, look_up, group=_GROUP)
        self._token = Kept(self.log_in, _Times(), clock=clock)

    async def validate(self, token: str) -> dict[str, Any]:
        """Return what Keystone says of a valid token; raise NotAuthenticated, or ProviderUnavailable."""
        with self._exchange.failures():
            status, document = await self._ask(await self._token.get(), token)
            if status == HTTPStatus.UNAUTHORIZED:  # ours has expired, or was revoked
                status, document = await self._ask(await self._token.get_newer(), token)
            if status in {HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND}:
                raise NotAuthenticated(
                    "decrypt token fail, Keystone does not accept it: it has expired, was revoked, or never was one"
                )
            if status == HTTPStatus.UNAUTHORIZED:
                raise ProviderUnavailable("it refuses the token that it gave to our service user")
            if status == HTTPStatus.FORBIDDEN:
                raise ProviderUnavailable(_MAY_NOT)
            if status != HTTPStatus.OK:
                raise ProviderUnavailable(f"{place_of(self._settings.url + _VALIDATE)} answered {status}")
            found = document.get("token")
            if not isinstance(found, dict):
                raise ProviderUnavailable("it answered without a token")
        return found

    async def find_version(self) -> str:
        """Return the version of the Identity API that answers, such as v3.14; raise ProviderUnavailable."""
        url = self._settings.url + _VERSION_OF
        with self._exchange.failures():
            answer = await self._exchange.send("GET", url, headers={})
            if answer.status_code != HTTPStatus.OK:
                raise ProviderUnavailable(f"{place_of(url)} answered {answer.status_code}")
            said = read_object(answer).get("version")
            version = said.get("id") if isinstance(said, dict) else None
            if not isinstance(version, str) or not _VERSION.fullmatch(version):
                raise ProviderUnavailable(f"{place_of(url)} does not say that it is the Identity API v3")
        return version

    async def check_right(self, ours: str) -> None:
        """Raise ProviderUnavailable unless our service user, with this token of its own, may validate tokens.

        Asks about none: everybody may validate one's own, and of what is no token Keystone says so before it looks at
        the right.
        """
        with self._exchange.failures():
            status, _ = await self._ask(ours, None)
            if status == HTTPStatus.FORBIDDEN:
                raise ProviderUnavailable(_MAY_NOT)
            if status not in {HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND}:
                raise ProviderUnavailable(f"{place_of(self._settings.url + _VALIDATE)} answered {status}")

    async def _ask(self, ours: str, token: str | None) -> tuple[int, dict[str, Any]]:
        about = {} if token is None else {"x-subject-token": token}
        answer = await self._exchange.send(
            "GET", self._settings.url + _VALIDATE, headers={"x-auth-token": ours, **about}
        )
        return answer.status_code, read_object(answer) if answer.status_code == HTTPStatus.OK else {}

    async def log_in(self) -> str:
        """Return a new token of our service user; raise ProviderUnavailable."""
        settings = self._settings
        with self._exchange.failures():
            file = settings.password_file
            assert file is not None  # noqa: S101 - for mypy: the settings require it
            user = {"name": settings.user, "domain": {"name": settings.user_domain}}
            identity = {
                "methods": ["password"],
                "password": {"user": {**user, "password": read_secret(file, f"{_GROUP}PASSWORD_FILE={file}")}},
            }
            project = {"name": settings.project, "domain": {"name": settings.project_domain}}
            body = {"auth": {"identity": identity, "scope": {"project": project}}}
            answer = await self._exchange.send("POST", settings.url + _LOG_IN, headers={}, body=body)
            if answer.status_code == HTTPStatus.UNAUTHORIZED:
                raise ProviderUnavailable("it refuses the name, password or project of our service user")
            token = answer.headers.get("x-subject-token", "")
            if answer.status_code != HTTPStatus.CREATED or not 0 < len(token) <= _LONGEST_TOKEN:
                raise ProviderUnavailable(f"{place_of(settings.url + _LOG_IN)} answered {answer.status_code}")
        return token

    async def close(self) -> None:
        """End what is under way."""
        await self._token.close()
