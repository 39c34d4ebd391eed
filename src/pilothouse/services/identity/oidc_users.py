"""Callers and log-ins of OpenID Connect providers: verified here, without asking them."""

from collections.abc import Mapping

from pilothouse.errors import NotAuthenticated, ProviderUnavailable
from pilothouse.oidc.claims import identity_of
from pilothouse.oidc.provider import Provider
from pilothouse.oidc.verification import Statement, verify_bearer
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.provider_users import ProviderUsers
from pilothouse.store.provider_users import ProviderUserRow


class OidcUsers:
    """Turn tokens of OpenID Connect providers into callers, and log-ins there into users."""

    def __init__(self, users: ProviderUsers, providers: Mapping[str, Provider]) -> None:
        self._users = users
        self._by_issuer = {provider.configuration.issuer: provider for provider in providers.values()}

    async def find_bearer(self, token: str, project_id: str | None, source: str) -> Caller:
        """Return the caller of a JSON Web Token, in that project or the only one in which its user has a role.

        Raises NotAuthenticated, NotFound or Forbidden; ProviderUnavailable if the keys cannot be had.
        """
        try:
            statement = await verify_bearer(token, self._by_issuer)
        except (NotAuthenticated, ProviderUnavailable) as error:
            self._users.note_refused(error, source)
            raise
        return await self._users.find_caller(identity_of(statement), project_id, source)

    async def log_in(self, statement: Statement, source: str, *, request_id: str) -> ProviderUserRow:
        """Return the user of the statement, who has some role; raise NotAuthenticated or Forbidden."""
        return await self._users.log_in(identity_of(statement), source, request_id=request_id)
