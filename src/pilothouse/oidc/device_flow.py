"""Log-in of a person from a terminal: its program asks the provider itself, and brings what that gives.

The program is a client of its own, without a secret, so nothing but the provider's signature counts, and whoever brings
the ID token must also have the access token that was given with it.

Source: RFC 8628; OpenID Connect Core 1.0, sections 3.1.3.6, 3.1.3.7 and 5.3.
"""

import time
from collections.abc import Callable, Mapping
from typing import Final

from pilothouse.auth.attempts import network_of
from pilothouse.errors import NotAuthenticated
from pilothouse.oidc.configuration import ProviderConfiguration
from pilothouse.oidc.log_in_tokens import needs_user_info, read_user_info
from pilothouse.oidc.provider import Provider
from pilothouse.oidc.verification import Statement, verify_id_token
from pilothouse.shares import FairSlots

#: Questions to the providers at a time for people who have proved half of what they must.
_QUESTIONS: Final = 4
_MOST_WAITING: Final = 50


class DeviceFlow:
    """Verify what people's programs got at the providers, by name."""

    def __init__(self, providers: Mapping[str, Provider], *, clock: Callable[[], float] = time.time) -> None:
        self._providers = {
            name: provider for name, provider in providers.items() if provider.configuration.device_client_id
        }
        self._clock = clock
        self._slots = FairSlots(
            _QUESTIONS,
            what="the identity providers are asked about as many log-ins as they may be at a time",
            most_waiting=_MOST_WAITING,
            whose="this address",
        )

    def configurations(self) -> list[ProviderConfiguration]:
        """Return the providers at which people can log in from a terminal."""
        return [provider.configuration for provider in self._providers.values()]

    def takes_until(self, statement: Statement) -> float:
        """Return when the ID token of the statement is too old for a log-in, in seconds since 1970."""
        settings = self._providers[statement.provider.name].settings
        return statement.issued_at + settings.login_seconds + settings.leeway_seconds

    async def accept(self, name: str, *, id_token: str, access_token: str, source: str) -> Statement:
        """Return what the provider says of the person; ``source`` is the address that asks.

        Raises NotAuthenticated, Busy or ProviderUnavailable.
        """
        provider = self._providers[name]
        client_id = provider.configuration.device_client_id
        statement = await verify_id_token(id_token, provider, client_id=client_id, nonce="", access_token=access_token)
        if self._clock() > self.takes_until(statement):  # tokens get into other hands
            raise NotAuthenticated("The log-in took too long; begin again.")
        belong_together = "at_hash" in statement.claims
        if belong_together and not needs_user_info(statement):
            return statement
        if not (await provider.describe()).userinfo and not belong_together:
            raise NotAuthenticated(
                "The provider's ID token names no access token (at_hash), and there is no user info that could tell "
                "whose the access token is; such a provider is not for log-in from a terminal."
            )
        async with self._slots.hold(network_of(source), seconds=provider.settings.answer_seconds):
            return await read_user_info(statement, provider, access_token)
