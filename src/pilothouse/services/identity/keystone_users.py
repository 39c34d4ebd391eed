"""Callers with tokens of OpenStack Keystone, which is asked whether they are valid."""

from pilothouse.errors import Forbidden, NotAuthenticated, ProviderUnavailable
from pilothouse.keystone.validated import Validated
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.provider_users import ProviderUsers


class KeystoneUsers:
    """Turn tokens of Keystone into callers, with the groups of the token's own project and roles."""

    def __init__(self, users: ProviderUsers, validated: Validated) -> None:
        self._users = users
        self._validated = validated

    async def find_bearer(self, token: str, project_id: str | None, source: str) -> Caller:
        """Return the caller of the token, in that project of ours or the only one in which its roles count.

        ``project_id`` may also be Keystone's id of the token's project. Raises NotAuthenticated, NotFound, Forbidden or
        Busy; ProviderUnavailable if Keystone cannot tell.
        """
        try:
            found = await self._validated.find(token, source)
        except (NotAuthenticated, Forbidden, ProviderUnavailable) as error:
            self._users.note_refused(error, source)
            raise
        wanted = None if project_id == found.project_id else project_id
        return await self._users.find_caller(found.identity, wanted, source, token=token)

    async def check_again(self, token: str, source: str) -> tuple[str, ...]:
        """Return the groups of a token that is valid still, as of at most the cache's time ago.

        Raises as ``find_bearer``.
        """
        return (await self._validated.find(token, source)).identity.groups or ()
