"""Which provider a token is of, by its form: it is sent to no other."""

from typing import TYPE_CHECKING

from pilothouse.auth.tokens import is_jwt, is_keystone_token
from pilothouse.errors import NotAuthenticated
from pilothouse.services.identity.bootstrap import Caller

if TYPE_CHECKING:  # loaded where providers are set up, and nowhere else
    from pilothouse.services.identity.keystone_users import KeystoneUsers
    from pilothouse.services.identity.oidc_users import OidcUsers


class Bearers:
    """Verify tokens of the providers that are set up."""

    def __init__(self, *, oidc: "OidcUsers | None", keystone: "KeystoneUsers | None") -> None:
        self._oidc = oidc
        self._keystone = keystone

    def takes(self, token: str) -> bool:
        """Return True for text in the form of a token of a provider that is set up."""
        return (self._keystone is not None and is_keystone_token(token)) or (self._oidc is not None and is_jwt(token))

    async def find_bearer(self, token: str, project_id: str | None, source: str) -> Caller:
        """Return the caller of a token that ``takes`` knows.

        Raises NotAuthenticated, NotFound, Forbidden or Busy; ProviderUnavailable if nobody can tell.
        """
        if self._keystone is not None and is_keystone_token(token):
            return await self._keystone.find_bearer(token, project_id, source)
        if self._oidc is None:
            raise NotAuthenticated("decrypt token fail")
        return await self._oidc.find_bearer(token, project_id, source)

    async def check_again(self, token: str, source: str) -> tuple[str, ...]:
        """Return the groups of a token that its provider can revoke and has not; raise as ``find_bearer``."""
        if self._keystone is None:
            raise NotAuthenticated("decrypt token fail")
        return await self._keystone.check_again(token, source)
