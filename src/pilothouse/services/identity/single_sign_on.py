"""Log-in to the console at an identity provider.

What a log-in must match at its end is sealed in a cookie of its browser: nothing is stored for those who do not come
back, and any API process can finish what another began.
"""

import base64
import binascii
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pilothouse.auth.sealing import MasterKeys
from pilothouse.errors import DecryptionFailed, NotAuthenticated, NotFound, ProviderUnavailable
from pilothouse.oidc.attempts import Attempt
from pilothouse.services.admin.audit import Audit
from pilothouse.services.identity.sessions import OpenedSession, Opening, Sessions
from pilothouse.settings import OidcSettings
from pilothouse.store.audit import Outcome, Somebody

if TYPE_CHECKING:  # loaded where providers are set up, and nowhere else
    from pilothouse.oidc.code_flow import CodeFlow
    from pilothouse.services.identity.oidc_users import OidcUsers

_CREATE: Final = "iam:sessions:create"
_CONTEXT: Final = "oidc-login"
#: A cookie holds 4 KiB.
_LONGEST_PATH: Final = 1000


@dataclass(frozen=True)
class Link:
    """A provider on the log-in page."""

    name: str
    title: str


@dataclass(frozen=True)
class Departure:
    """Where to send the browser, and the text of the cookie that it has to come back with."""

    url: str
    kept: str = field(repr=False)


class SingleSignOn:
    """Begin and finish log-ins at providers."""

    def __init__(
        self,
        keys: MasterKeys,
        sessions: Sessions,
        settings: OidcSettings,
        notes: Audit,
        *,
        people: "tuple[CodeFlow, OidcUsers] | None" = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Have no providers without ``people``."""
        self._keys = keys
        self._sessions = sessions
        self._settings = settings
        self._notes = notes
        self._people = people
        self._clock = clock

    @property
    def links(self) -> list[Link]:
        """Return the providers at which people can log in."""
        found = self._people[0].configurations() if self._people is not None else []
        return [Link(provider.name, provider.shown) for provider in found]

    async def begin(self, name: str, *, back_at: str, next_path: str) -> Departure:
        """Begin a log-in; raise NotFound or ProviderUnavailable.

        ``back_at``: the path of ours that the browser comes back to; ``next_path``: where it was going.
        """
        flow, _ = self._found(name)
        url, attempt = await flow.begin(name, self._settings.public_url + back_at)
        kept = {
            **vars(attempt),
            "next": next_path if len(next_path) <= _LONGEST_PATH else "",
            "until": self._clock() + self._settings.login_seconds,
        }
        sealed = self._keys.seal(json.dumps(kept).encode(), context=_CONTEXT)
        return Departure(url, base64.urlsafe_b64encode(sealed).decode())

    async def finish(
        self, name: str, *, kept: str, answer: Mapping[str, str], back_at: str, opening: Opening
    ) -> tuple[OpenedSession, str]:
        """Open a session for the person who came back; return it, and where the browser was going.

        Raises NotFound, NotAuthenticated, Forbidden or ProviderUnavailable.
        """
        flow, users = self._found(name)
        try:
            attempt, next_path = self._open(kept, name)
            statement = await flow.finish(attempt, answer, self._settings.public_url + back_at)
        except (NotAuthenticated, ProviderUnavailable) as error:
            somebody = Somebody(source=opening.source)
            self._notes.note(somebody, _CREATE, outcome=Outcome.FAILED, detail=f"{name}: {error}")
            raise
        row = await users.log_in(statement, opening.source, request_id=opening.request_id)
        opened = await self._sessions.open_for(row.user_id, row.generation, opening, detail=f"at {name}")
        return opened, next_path

    def _found(self, name: str) -> "tuple[CodeFlow, OidcUsers]":
        if self._people is None or name not in {link.name for link in self.links}:
            raise NotFound(f"there is no identity provider {name[:100]!r}")
        return self._people

    def _open(self, kept: str, provider: str) -> tuple[Attempt, str]:
        """Return what the cookie keeps of a log-in at the provider; raise NotAuthenticated."""
        try:
            sealed = base64.urlsafe_b64decode(kept)
            found = json.loads(self._keys.unseal(sealed, context=_CONTEXT)) if kept else None
        except (binascii.Error, ValueError, DecryptionFailed):
            found = None
        if found is None:
            raise NotAuthenticated("This browser began no log-in here, or does not keep cookies; begin again.")
        if found["until"] < self._clock():
            raise NotAuthenticated("The log-in took too long; begin again.")
        if found["provider"] != provider:
            raise NotAuthenticated("The answer is another provider's; begin again.")
        return Attempt(*(found[name] for name in ("provider", "state", "nonce", "verifier"))), found["next"]
