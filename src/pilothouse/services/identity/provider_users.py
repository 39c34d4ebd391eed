"""Users of identity providers: known by issuer and subject, with the rights of their groups.

A user becomes a row when it first comes with a group that has a role here, and not before: everybody in the world has a
token of some issuers. Its name is free to choose there and is taken here only if no other user has it.
"""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from pilothouse.errors import Forbidden, NotAuthenticated, NotFound, ProviderUnavailable
from pilothouse.providers.identities import Identity, Voucher
from pilothouse.providers.names import user_name
from pilothouse.services.admin.audit import Audit
from pilothouse.services.identity.authentication import bearer_caller
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.store import audit as audit_store
from pilothouse.store import projects, roles
from pilothouse.store import provider_users as store
from pilothouse.store.audit import Outcome, Somebody
from pilothouse.store.database import Database
from pilothouse.store.provider_users import ProviderUserRow
from pilothouse.store.roles import Carried

log = structlog.get_logger(__name__)

_USE_TOKEN: Final = "iam:tokens:use"  # noqa: S105 - an action of the audit
_LOG_IN: Final = "iam:sessions:create"
_CREATE_USER: Final = "iam:users:createUser"
_USE_PROJECT: Final = "iam:projects:use"
#: The same groups are stated again when this share of the time that they count has passed.
_RENEWED_AFTER: Final = 0.1
_LONGEST_LIST: Final = 200


class ProviderUsers:
    """Turn what providers say into users and callers."""

    def __init__(self, database: Database, notes: Audit, *, groups_seconds: float, first_domain: str) -> None:
        """``groups_seconds``: how long stated groups count.

        ``first_domain``: the name of the account of providers that name none.
        """
        self._database = database
        self._notes = notes
        self._groups_seconds = groups_seconds
        self._first_domain = first_domain

    async def find_caller(self, identity: Identity, project_id: str | None, source: str, *, token: str = "") -> Caller:
        """Return the caller of a provider's token, in that project or the only one in which its user has a role.

        ``token`` is its text if the provider has to be asked again whether it is valid. Raises NotAuthenticated,
        NotFound or Forbidden.
        """
        row = await self.admit(identity, source, request_id="", project_id=project_id)
        caller = bearer_caller(
            row,
            source,
            proved_at=identity.proved_at,
            expires_at=identity.expires_at,
            carried=_carried(identity),
            token=token,
        )
        if project_id is not None and not caller.project_id:
            self._notes.note(
                caller, _USE_PROJECT, outcome=Outcome.DENIED, target=project_id, detail="unknown or disabled"
            )
            raise NotFound(f"X-Project-Id {project_id!r} is not an enabled project in which the user has a role")
        return caller

    def note_refused(self, error: NotAuthenticated | Forbidden | ProviderUnavailable, source: str) -> None:
        """Record a token that proved nothing."""
        log.info("bearer_refused", cause=str(error))
        detail = str(error).removeprefix("decrypt token fail, ")
        self._notes.note(Somebody(source=source), _USE_TOKEN, outcome=Outcome.FAILED, detail=detail)

    async def admit(
        self, identity: Identity, source: str, *, request_id: str, project_id: str | None = None
    ) -> ProviderUserRow:
        """Return the user of that identity, made or changed by it; raise NotAuthenticated or Forbidden.

        One that states no groups leaves them as they are: who is denied something as a member must not be rid of that
        by asking the provider for less. Groups that a token carries are not stored.
        """
        provider, names = identity.provider, identity.groups or ()
        domain_id = await self._domain(provider)
        row = await self._find(identity, domain_id, project_id)
        if row is None:
            async with self._database.autocommit() as connection:
                known = await store.have_rights(connection, names, domain_id=domain_id, issuer=provider.issuer)
            if not known:
                who, name = Somebody(domain_id=domain_id, source=source), identity.name
                self._notes.note(who, _USE_TOKEN, outcome=Outcome.DENIED, target_name=name, detail="no group of a role")
                raise Forbidden(_without_role(name, provider, names))
            await self._add(identity, domain_id, source, request_id)
        else:
            self._require_enabled(row, source)
        if identity.carried:
            row = row or await self._find(identity, domain_id, project_id)
        elif row is None or (identity.groups is not None and self._says_something_new(row, names, identity)):
            row = await self._state(identity, domain_id, names, project_id)
        if row is None:
            raise NotAuthenticated("the user was deleted at the same moment; try again")
        self._require_enabled(row, source)  # it may be one that another request has just added, or disabled
        return row

    async def _find(self, identity: Identity, domain_id: str, project_id: str | None) -> ProviderUserRow | None:
        async with self._database.autocommit() as connection:
            return await store.find_user(
                connection,
                domain_id=domain_id,
                issuer=identity.provider.issuer,
                subject=identity.subject,
                project_id=project_id,
                carried=_carried(identity),
            )

    async def log_in(self, identity: Identity, source: str, *, request_id: str) -> ProviderUserRow:
        """Return the user of that identity, who has some role; raise NotAuthenticated or Forbidden."""
        row = await self.admit(identity, source, request_id=request_id)
        async with self._database.autocommit() as connection:
            has_role = await roles.has_any_role(connection, row.user_id)
        if not has_role:
            who = Somebody(user_id=row.user_id, user_name=row.user_name, domain_id=row.domain_id, source=source)
            self._notes.note(who, _LOG_IN, outcome=Outcome.DENIED, target=row.user_id, detail="no role")
            raise Forbidden(_without_role(row.user_name, identity.provider, row.groups))
        return row

    async def _domain(self, provider: Voucher) -> str:
        name = provider.account or self._first_domain
        async with self._database.autocommit() as connection:
            found = await projects.find_domain(connection, domain_id=None, name=name)
        if found is None:
            raise NotAuthenticated(f"the account {name!r} of the provider {provider.name} does not exist here")
        return found

    async def _add(self, identity: Identity, domain_id: str, source: str, request_id: str) -> None:
        """Add the user under the first name that is free; raise Forbidden if none is."""
        provider, subject, stated = identity.provider, identity.subject, identity.name
        unique = user_name(None, subject=subject, provider=provider.name)
        for name in (stated, f"{stated}@{provider.name}", unique):
            user_id = uuid.uuid4().hex
            async with self._database.transaction() as tx:
                added = await store.add_user(
                    tx, user_id=user_id, domain_id=domain_id, name=name, issuer=provider.issuer, subject=subject
                )
                if added:
                    who = Somebody(user_id=user_id, user_name=name, domain_id=domain_id, source=source)
                    await audit_store.record(
                        tx,
                        who,
                        _CREATE_USER,
                        target=user_id,
                        target_name=name,
                        detail=f"by {provider.name}",
                        request_id=request_id,
                    )
                    return
                found = await store.find_user(
                    tx, domain_id=domain_id, issuer=provider.issuer, subject=subject, project_id=None
                )
                if found is not None:  # another request of the same user was faster
                    return
        raise Forbidden(
            f"other users of this account are called {stated!r}, '{stated}@{provider.name}' and {unique!r} already; an "
            "administrator can delete one of them, or the provider can give another name"
        )

    def _says_something_new(self, row: ProviderUserRow, names: tuple[str, ...], identity: Identity) -> bool:
        stated, until = self._times(identity)
        if row.groups_stated_at is not None and stated < row.groups_stated_at:
            return False
        if row.groups_until is None or set(row.groups) != set(names):
            return True
        return until - row.groups_until > timedelta(seconds=_RENEWED_AFTER * self._groups_seconds)

    def _times(self, identity: Identity) -> tuple[datetime, datetime]:
        """Return since when and until when the groups count."""
        until = max(identity.expires_at, identity.issued_at + self._groups_seconds)
        return datetime.fromtimestamp(identity.issued_at, UTC), datetime.fromtimestamp(until, UTC)

    async def _state(
        self, identity: Identity, domain_id: str, names: tuple[str, ...], project_id: str | None
    ) -> ProviderUserRow | None:
        stated, until = self._times(identity)
        async with self._database.transaction() as tx:
            row = await store.find_user(
                tx, domain_id=domain_id, issuer=identity.provider.issuer, subject=identity.subject, project_id=None
            )
            if row is None:
                return None
            await store.state_groups(tx, row.user_id, names=names, stated_at=stated, until=until)
            return await store.find_again(tx, row.user_id, project_id=project_id)

    def _require_enabled(self, row: ProviderUserRow, source: str) -> None:
        """Raise NotAuthenticated, and record it, for a user that is disabled."""
        if row.enabled:
            return
        who = Somebody(user_id=row.user_id, user_name=row.user_name, domain_id=row.domain_id, source=source)
        self._notes.note(
            who, _USE_TOKEN, outcome=Outcome.FAILED, target=row.user_id, target_name=row.user_name, detail="disabled"
        )
        raise NotAuthenticated(
            f"user {row.user_name!r} is disabled here; an administrator of the account can enable it"
        )


def _carried(identity: Identity) -> Carried | None:
    """Return what counts for this token alone; None: what was stated last counts for each of the user's."""
    return Carried(identity.groups or (), is_alone=identity.delegated) if identity.carried else None


def _without_role(name: str, provider: Voucher, names: Sequence[str]) -> str:
    """Return what to tell somebody whom the provider vouches for, and who may do nothing here."""
    listed = ", ".join(names)
    shown = listed if len(listed) <= _LONGEST_LIST else listed[:_LONGEST_LIST] + "…"
    return (
        f"{provider.shown} vouches for {name!r}, but none of its groups has a role here "
        f"({provider.groups_claim}: {shown or 'none'}); an administrator of the account can grant one to a group"
    )
