"""Log-in from a terminal at an identity provider: a token of ours for what the provider gave the person's program."""

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from pilothouse.errors import Busy, NotAuthenticated, NotFound, ProviderUnavailable
from pilothouse.metrics import THROTTLED
from pilothouse.services.admin.audit import Audit
from pilothouse.services.identity.tokens import IssuedToken, Tokens
from pilothouse.shares import Rate
from pilothouse.store import exchanged_tokens
from pilothouse.store.audit import Outcome, Somebody
from pilothouse.store.database import Database

if TYPE_CHECKING:  # loaded where providers are set up, and nowhere else
    from pilothouse.oidc.device_flow import DeviceFlow
    from pilothouse.oidc.verification import Statement
    from pilothouse.services.identity.oidc_users import OidcUsers

_CREATE: Final = "iam:tokens:create"
_BURST_SECONDS: Final = 10


@dataclass(frozen=True)
class DeviceClient:
    """A provider, and the client that a person's program is there."""

    name: str
    title: str
    issuer: str
    client_id: str
    scopes: tuple[str, ...]


@dataclass(frozen=True)
class GivenTokens:
    """What the program says that a provider gave it."""

    id_token: str = field(repr=False)
    access_token: str = field(repr=False)


class DeviceLogIns:
    """Tell programs where to log in, and give them tokens for it."""

    def __init__(
        self,
        database: Database,
        tokens: Tokens,
        notes: Audit,
        *,
        often: float,
        people: "tuple[DeviceFlow, OidcUsers] | None" = None,
    ) -> None:
        """Have no providers without ``people``; ``often``: how many log-ins of a person in a second, 0: any number."""
        self._rate = Rate(often, burst=often * _BURST_SECONDS, what="log-ins", whose="this user")
        self._database = database
        self._tokens = tokens
        self._notes = notes
        self._people = people

    @property
    def clients(self) -> list[DeviceClient]:
        """Return the providers at which people can log in from a terminal."""
        found = self._people[0].configurations() if self._people is not None else []
        return [
            DeviceClient(provider.name, provider.shown, provider.issuer, provider.device_client_id, provider.scopes)
            for provider in found
        ]

    async def log_in(self, name: str, tokens: GivenTokens, *, source: str, request_id: str) -> IssuedToken:
        """Issue a token without a project to the person of whom the provider's tokens are.

        It makes access keys only as long as the provider says that the person logged in there. Raises NotFound,
        NotAuthenticated, Forbidden, Busy or ProviderUnavailable.
        """
        if self._people is None or name not in {client.name for client in self.clients}:
            raise NotFound(f"there is no identity provider {name[:100]!r} for log-in from a terminal")
        flow, users = self._people
        try:
            statement = await flow.accept(
                name, id_token=tokens.id_token, access_token=tokens.access_token, source=source
            )
            self._count(statement)
            await self._claim(tokens, until=flow.takes_until(statement))
        except (NotAuthenticated, ProviderUnavailable, Busy) as error:
            self._notes.note(Somebody(source=source), _CREATE, outcome=Outcome.FAILED, detail=f"{name}: {error}")
            raise
        row = await users.log_in(statement, source, request_id=request_id)
        return await self._tokens.issue_for(
            row, proved_at=statement.proved_at, detail=f"at {name}", source=source, request_id=request_id
        )

    def _count(self, statement: "Statement") -> None:
        """Count a log-in for the person, from whatever address; raise Busy, before its ID token is used up."""
        try:
            self._rate.take(f"{statement.provider.issuer} {statement.claims['sub']}")
        except Busy:
            THROTTLED.labels("login").inc()
            raise

    async def _claim(self, tokens: GivenTokens, *, until: float) -> None:
        """Take an ID token that was proved; raise NotAuthenticated if it was taken before.

        Its signature does not count: one of some algorithms can be changed into another that is right too.
        """
        digest = hashlib.sha256(tokens.id_token.rpartition(".")[0].encode()).hexdigest()
        async with self._database.autocommit() as connection:
            if not await exchanged_tokens.claim(connection, digest, until=datetime.fromtimestamp(until, UTC)):
                raise NotAuthenticated("The log-in was used already; begin again.")
