"""Log-in of a person at a provider: authorization code with PKCE, state and nonce.

Source: OpenID Connect Core 1.0, section 3.1; RFC 7636, RFC 9207, RFC 9700.
"""

import asyncio
import secrets
from collections.abc import Mapping
from typing import Any, Final

from authlib.integrations.base_client import OAuthError
from authlib.integrations.httpx_client import AsyncOAuth2Client

from pilothouse.errors import NotAuthenticated, ProviderUnavailable
from pilothouse.oidc.attempts import Attempt
from pilothouse.oidc.configuration import ProviderConfiguration
from pilothouse.oidc.log_in_tokens import add_user_info
from pilothouse.oidc.provider import Description, Provider
from pilothouse.oidc.verification import Statement, verify_id_token

_LONGEST: Final = 8192
_RANDOM_BYTES: Final = 32
#: What a provider may say without being quoted.
_KNOWN_ERRORS: Final = frozenset(
    {
        *("access_denied", "consent_required", "interaction_required", "invalid_client", "invalid_grant"),
        *("invalid_request", "invalid_scope", "login_required", "server_error", "temporarily_unavailable"),
        *("unauthorized_client", "unsupported_response_type"),
    }
)


class CodeFlow:
    """Log people in at the providers, by name."""

    def __init__(self, providers: Mapping[str, Provider]) -> None:
        self._providers = providers

    def configurations(self) -> list[ProviderConfiguration]:
        """Return the providers at which people can log in."""
        return [provider.configuration for provider in self._providers.values() if provider.configuration.client_id]

    async def begin(self, name: str, redirect_uri: str) -> tuple[str, Attempt]:
        """Return where to send the browser, and what its return must match; raise ProviderUnavailable."""
        provider = self._providers[name]
        description = await provider.describe()
        with provider.failures():
            if not description.authorization or not description.token:
                raise ProviderUnavailable("it does not say where people log in")
        attempt = Attempt(name, *(secrets.token_urlsafe(_RANDOM_BYTES) for _ in range(3)))
        with provider.failures():
            async with _client(provider, description, redirect_uri) as client:
                url, _ = client.create_authorization_url(
                    description.authorization, state=attempt.state, nonce=attempt.nonce, code_verifier=attempt.verifier
                )
        return str(url), attempt

    async def finish(self, attempt: Attempt, answer: Mapping[str, str], redirect_uri: str) -> Statement:
        """Return what the provider says of the person who came back with this answer.

        Raises NotAuthenticated for an answer that is not one to this attempt, or ProviderUnavailable.
        """
        provider = self._providers[attempt.provider]
        description, configuration = await provider.describe(), provider.configuration
        if not secrets.compare_digest(answer.get("state", "").encode(), attempt.state.encode()):
            raise NotAuthenticated("The answer belongs to another log-in; begin again.")
        if answer.get("iss", "" if description.names_itself else configuration.issuer) != configuration.issuer:
            raise NotAuthenticated("The answer is another provider's; begin again.")
        if "error" in answer:
            raise _refusal(configuration.shown, answer["error"])
        code = answer.get("code", "")
        if not code or len(code) > _LONGEST:
            raise NotAuthenticated("The answer has no code; begin again.")
        with provider.failures():
            try:
                async with (
                    asyncio.timeout(provider.settings.answer_seconds),
                    _client(provider, description, redirect_uri) as client,
                ):
                    given = await client.fetch_token(description.token, code=code, code_verifier=attempt.verifier)
            except OAuthError as error:
                raise _refusal(configuration.shown, str(error.error)) from error
        id_token, access_token = given.get("id_token"), given.get("access_token")
        if not isinstance(id_token, str) or not isinstance(access_token, str):
            with provider.failures():
                raise ProviderUnavailable("it answered without an ID token or access token")
        statement = await verify_id_token(
            id_token, provider, client_id=configuration.client_id, nonce=attempt.nonce, access_token=access_token
        )
        return await add_user_info(statement, provider, access_token)


def _client(provider: Provider, description: Description, redirect_uri: str) -> Any:
    configuration = provider.configuration
    secret = configuration.client_secret()
    with_secret = "client_secret_post" if description.secret_in_body else "client_secret_basic"
    return AsyncOAuth2Client(
        configuration.client_id,
        secret or None,
        token_endpoint_auth_method=with_secret if secret else "none",
        scope=" ".join(configuration.scopes),
        redirect_uri=redirect_uri,
        code_challenge_method="S256",
        transport=provider.transport(),
        trust_env=False,
        timeout=None,
    )


def _refusal(provider: str, said: str) -> NotAuthenticated:
    known = said if said in _KNOWN_ERRORS else "an error that is not known here"
    return NotAuthenticated(f"{provider} refused the log-in: {known}.")
