"""Users of identity providers: known by issuer and subject, with the rights of their groups.

A user becomes a row when it first comes with a group that has a role here, and not before: everybody in the world has a
token of some issuers. Its name is free to choose there and is taken here only if no other user has it.
"""

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from pilothouse.errors import Forbidden, NotAuthenticated, NotFound, ProviderUnavailable
from pilothouse.oidc.claims import groups_of, name_of, subject_of
from pilothouse.oidc.configuration import ProviderConfiguration
from pilothouse.oidc.provider import Provider
from pilothouse.oidc.verification import Statement, verify_bearer
from pilothouse.services.admin.audit import Audit
from pilothouse.services.identity.authentication import bearer_caller
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.settings import OidcSettings
from pilothouse.store import audit as audit_store
from pilothouse.store import oidc_users as store
from pilothouse.store import projects, roles
from pilothouse.store.audit import Outcome, Somebody
from pilothouse.store.database import Database
from pilothouse.store.oidc_users import OidcUserRow

log = structlog.get_logger(__name__)

_USE_TOKEN: Final = "iam:tokens:use"  # noqa: S105 - an action of the audit
_LOG_IN: Final = "iam:sessions:create"
_CREATE_USER: Final = "iam:users:createUser"
_USE_PROJECT: Final = "iam:projects:use"
#: The same groups are stated again when this share of the time that they count has passed.
_RENEWED_AFTER: Final = 0.1
_LONGEST_LIST: Final = 200


class OidcUsers:
    """Turn what providers say into users and callers."""

    def __init__(
        self,
        database: Database,
        settings: OidcSettings,
        providers: Mapping[str, Provider],
        notes: Audit,
        *,
        first_domain: str,
    ) -> None:
        """``first_domain``: the name of the account of providers that name none."""
        self._database = database
        self._settings = settings
        self._by_issuer = {one.configuration.issuer: one for one in providers.values()}
        self._notes = notes
        self._first_domain = first_domain

    async def find_bearer(self, token: str, project_id: str | None, source: str) -> Caller:
        """Return the caller of a provider's token, in that project or the only one in which its user has a role.

        Raises NotAuthenticated, NotFound or Forbidden; ProviderUnavailable if the keys cannot be had.
        """
        try:
            statement = await verify_bearer(token, self._by_issuer)
        except (NotAuthenticated, ProviderUnavailable) as error:
            log.info("bearer_refused", cause=str(error))
            detail = str(error).removeprefix("decrypt token fail, ")
            self._notes.note(Somebody(source=source), _USE_TOKEN, outcome=Outcome.FAILED, detail=detail)
            raise
        row = await self.admit(statement, source, request_id="", project_id=project_id)
        caller = bearer_caller(row, source, proved_at=statement.proved_at, expires_at=statement.expires_at)
        if project_id is not None and not caller.project_id:
            self._notes.note(
                caller, _USE_PROJECT, outcome=Outcome.DENIED, target=project_id, detail="unknown or disabled"
            )
            raise NotFound(f"X-Project-Id {project_id!r} is not an enabled project in which the user has a role")
        return caller

    async def admit(
        self, statement: Statement, source: str, *, request_id: str, project_id: str | None = None
    ) -> OidcUserRow:
        """Return the user of the statement, made or changed by it; raise NotAuthenticated or Forbidden.

        A statement without the claim of groups leaves them as they are: who is denied something as a member must not
        be rid of that by asking the provider for less.
        """
        provider, claims = statement.provider, statement.claims
        subject, stated = subject_of(claims), groups_of(claims, provider)
        names = stated or ()
        domain_id = await self._domain(provider)
        async with self._database.autocommit() as connection:
            row = await store.find_user(
                connection, domain_id=domain_id, issuer=provider.issuer, subject=subject, project_id=project_id
            )
            if row is None and not await store.have_rights(
                connection, names, domain_id=domain_id, issuer=provider.issuer
            ):
                who = Somebody(domain_id=domain_id, source=source)
                name = name_of(claims, provider)
                self._notes.note(who, _USE_TOKEN, outcome=Outcome.DENIED, target_name=name, detail="no group of a role")
                raise Forbidden(_without_role(name, provider, names))
        if row is None:
            await self._add(statement, domain_id, subject, source, request_id)
        elif not row.enabled:
            self._note_disabled(row, source)
            raise NotAuthenticated(
                f"user {row.user_name!r} is disabled here; an administrator of the account can enable it"
            )
        if row is not None and (stated is None or not self._says_something_new(row, names, statement)):
            return row
        return await self._state(statement, domain_id, subject, names, project_id)

    async def log_in(self, statement: Statement, source: str, *, request_id: str) -> OidcUserRow:
        """Return the user of the statement, who has some role; raise NotAuthenticated or Forbidden."""
        row = await self.admit(statement, source, request_id=request_id)
        async with self._database.autocommit() as connection:
            has_role = await roles.has_any_role(connection, row.user_id)
        if not has_role:
            who = Somebody(user_id=row.user_id, user_name=row.user_name, domain_id=row.domain_id, source=source)
            self._notes.note(who, _LOG_IN, outcome=Outcome.DENIED, target=row.user_id, detail="no role")
            raise Forbidden(_without_role(row.user_name, statement.provider, row.groups))
        return row

    async def _domain(self, provider: ProviderConfiguration) -> str:
        name = provider.account or self._first_domain
        async with self._database.autocommit() as connection:
            found = await projects.find_domain(connection, domain_id=None, name=name)
        if found is None:
            raise NotAuthenticated(f"the account {name!r} of the provider {provider.name} does not exist here")
        return found

    async def _add(self, statement: Statement, domain_id: str, subject: str, source: str, request_id: str) -> None:
        """Add the user under the first name that is free; raise Forbidden if none is."""
        provider = statement.provider
        wanted = name_of(statement.claims, provider)
        for name in (wanted, f"{wanted}@{provider.name}"):
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
            f"other users of this account are called {wanted!r} and '{wanted}@{provider.name}' already; an "
            "administrator can delete one of them, or the provider can give another name"
        )

    def _says_something_new(self, row: OidcUserRow, names: tuple[str, ...], statement: Statement) -> bool:
        stated, until = self._times(statement)
        if row.groups_stated_at is not None and stated < row.groups_stated_at:
            return False
        if row.groups_until is None or set(row.groups) != set(names):
            return True
        return until - row.groups_until > timedelta(seconds=_RENEWED_AFTER * self._settings.groups_seconds)

    def _times(self, statement: Statement) -> tuple[datetime, datetime]:
        """Return since when and until when the groups count."""
        until = max(statement.expires_at, statement.issued_at + self._settings.groups_seconds)
        return datetime.fromtimestamp(statement.issued_at, UTC), datetime.fromtimestamp(until, UTC)

    async def _state(
        self, statement: Statement, domain_id: str, subject: str, names: tuple[str, ...], project_id: str | None
    ) -> OidcUserRow:
        stated, until = self._times(statement)
        async with self._database.transaction() as tx:
            row = await store.find_user(
                tx, domain_id=domain_id, issuer=statement.provider.issuer, subject=subject, project_id=None
            )
            if row is not None:
                await store.state_groups(tx, row.user_id, names=names, stated_at=stated, until=until)
                row = await store.find_again(tx, row.user_id, project_id=project_id)
        if row is None:
            raise NotAuthenticated("the user was deleted at the same moment; try again")
        return row

    def _note_disabled(self, row: OidcUserRow, source: str) -> None:
        who = Somebody(user_id=row.user_id, user_name=row.user_name, domain_id=row.domain_id, source=source)
        self._notes.note(
            who, _USE_TOKEN, outcome=Outcome.FAILED, target=row.user_id, target_name=row.user_name, detail="disabled"
        )


def _without_role(name: str, provider: ProviderConfiguration, names: Sequence[str]) -> str:
    """Return what to tell somebody whom the provider vouches for, and who may do nothing here."""
    listed = ", ".join(names)
    shown = listed if len(listed) <= _LONGEST_LIST else listed[:_LONGEST_LIST] + "…"
    return (
        f"{provider.shown} vouches for {name!r}, but none of its groups has a role here "
        f"({provider.groups_claim}: {shown or 'none'}); an administrator of the account can grant one to a group"
    )
