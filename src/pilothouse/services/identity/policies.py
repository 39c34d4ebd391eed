"""Policies of an account: stored if they are understood, and attached to users and groups."""

import hashlib
import re
import uuid
from collections.abc import Sequence
from typing import Final

import orjson

from pilothouse.auth import policy
from pilothouse.auth.policy_documents import check_actions, read
from pilothouse.errors import AlreadyExists, Checks, InvalidArgument, InvalidRequest, NotFound, QuotaExceeded
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.standing import current_caller
from pilothouse.services.identity.users import name_project
from pilothouse.store import audit, groups, users
from pilothouse.store import policies as store
from pilothouse.store.database import Database, Transaction, retry_conflicts
from pilothouse.store.policies import AttachmentRow, PolicyRow

_NAME: Final = re.compile(r"[A-Za-z0-9_.,@+=-]{1,128}")
_MOST: Final = 200
#: Together: a user holds no more than its account has, and each is asked for each namespace of a list.
_MOST_STATEMENTS: Final = 500
#: Each is read at every request of whoever has it.
_MOST_ATTACHED: Final = 20
_CREATE, _UPDATE, _DELETE = "iam:policies:create", "iam:policies:update", "iam:policies:delete"
_ATTACH, _DETACH = "iam:policies:attach", "iam:policies:detach"


def digest_of(document: str) -> str:
    """Return what a form tells of the document that it was shown with."""
    return hashlib.sha256(document.encode()).hexdigest()


class Policies:
    """Store, show and attach the policies of an account."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_policies(self, caller: Caller) -> list[PolicyRow]:
        """Return the account's policies by name."""
        caller.require_in_account("iam:policies:list")
        async with self._database.autocommit() as connection:
            return await store.list_policies(connection, domain_id=caller.domain_id)

    async def show(self, caller: Caller, policy_id: str) -> PolicyRow:
        """Return one policy; NotFound for another account's."""
        caller.require_in_account("iam:policies:get")
        async with self._database.autocommit() as connection:
            return await _find(connection, caller, policy_id)

    async def create(self, caller: Caller, *, name: str, document: object, request_id: str) -> PolicyRow:
        """Store a policy that nobody has yet; raise InvalidRequest, which names what is not understood in it."""
        caller.require_in_account(_CREATE)
        checks = Checks()
        if not _NAME.fullmatch(name):
            checks.refuse(f"name: {name[:100]!a} is not 1 to 128 letters, digits and '_.,@+=-'")
        text, policy_id = checks.read(lambda: _checked(document)) or "", uuid.uuid4().hex
        checks.end()
        async with self._database.transaction() as tx:
            (await current_caller(tx, caller)).require_in_account(_CREATE)
            if await store.count_policies(tx, domain_id=caller.domain_id) >= _MOST:
                raise QuotaExceeded(f"this account has {_MOST} policies already, the most that there may be")
            await _check_statements(tx, caller, text)
            if not await store.add_policy(
                tx, policy_id=policy_id, domain_id=caller.domain_id, name=name, document=text
            ):
                raise AlreadyExists(f"name: this account already has a policy named {name!r}")
            await audit.record(tx, caller, _CREATE, target=policy_id, target_name=name, request_id=request_id)
            return await _find(tx, caller, policy_id)

    async def replace_document(
        self, caller: Caller, policy_id: str, *, document: object, request_id: str, shown: str = ""
    ) -> PolicyRow:
        """Replace what a policy says, which counts at once for whoever has it.

        ``shown``: only the document of that digest; InvalidRequest for another one.
        """
        caller.require_in_account(_UPDATE)
        text = _checked(document)
        async with self._database.transaction() as tx:
            (await current_caller(tx, caller)).require_in_account(_UPDATE)
            row = await _find(tx, caller, policy_id)
            await _refuse_own(tx, caller, row.attachments, "change")
            await _check_statements(tx, caller, text, instead_of=policy_id)
            await _refuse_changed(tx, row, shown)
            await store.replace_document(tx, policy_id, document=text)
            await audit.record(tx, caller, _UPDATE, target=policy_id, target_name=row.name, request_id=request_id)
            return await _find(tx, caller, policy_id)

    async def remove(self, caller: Caller, policy_id: str, *, request_id: str, shown: str = "") -> None:
        """Delete a policy, and take it from whoever has it; ``shown`` as for ``replace_document``."""
        caller.require_in_account(_DELETE)
        async with self._database.transaction() as tx:
            (await current_caller(tx, caller)).require_in_account(_DELETE)
            row = await _find(tx, caller, policy_id)
            await _refuse_own(tx, caller, row.attachments, "delete")
            await _refuse_changed(tx, row, shown)
            await store.remove_policy(tx, policy_id)
            await audit.record(tx, caller, _DELETE, target=policy_id, target_name=row.name, request_id=request_id)

    @retry_conflicts
    async def attach(
        self, caller: Caller, policy_id: str, where: AttachmentRow, *, request_id: str, shown: str = ""
    ) -> PolicyRow:
        """Attach a policy to a user or a group, in a project or (None) in the whole account; it counts at once.

        ``shown`` as for ``replace_document``.
        """
        caller.require_in_account(_ATTACH)
        async with self._database.transaction() as tx:
            (await current_caller(tx, caller)).require_in_account(_ATTACH)
            row = await _find(tx, caller, policy_id)
            await _refuse_own(tx, caller, [where], "attach")
            await _refuse_changed(tx, row, shown)
            detail = await _name(tx, caller, where)
            if await store.count_attached(tx, where) >= _MOST_ATTACHED:
                raise QuotaExceeded(f"{detail}: has {_MOST_ATTACHED} policies already, the most that there may be")
            if await store.attach(tx, policy_id, where):
                await audit.record(
                    tx, caller, _ATTACH, target=policy_id, target_name=row.name, detail=detail, request_id=request_id
                )
            return await _find(tx, caller, policy_id)

    @retry_conflicts
    async def detach(self, caller: Caller, policy_id: str, where: AttachmentRow, *, request_id: str) -> PolicyRow:
        """Take a policy away; NotFound if it is not attached there."""
        caller.require_in_account(_DETACH)
        async with self._database.transaction() as tx:
            (await current_caller(tx, caller)).require_in_account(_DETACH)
            row = await _find(tx, caller, policy_id)
            await _refuse_own(tx, caller, [where], "take away")
            detail = await _name(tx, caller, where)
            if not await store.detach(tx, policy_id, where):
                raise NotFound(f"policy {row.name!r} is not attached to {detail}")
            await audit.record(
                tx, caller, _DETACH, target=policy_id, target_name=row.name, detail=detail, request_id=request_id
            )
            return await _find(tx, caller, policy_id)


def _checked(document: object) -> str:
    """Return the document as it is stored; raise InvalidRequest."""
    text = document if isinstance(document, str) else orjson.dumps(document).decode()
    check_actions(read(text), policy.ACTIONS)
    return text


async def _check_statements(tx: Transaction, caller: Caller, text: str, *, instead_of: str = "") -> None:
    """Raise QuotaExceeded if the account's policies would have too many statements with that one."""
    others = [other for other in await store.list_policies(tx, domain_id=caller.domain_id) if other.id != instead_of]
    count = sum(len(read(document).statements) for document in (text, *(other.document for other in others)))
    if count > _MOST_STATEMENTS:
        raise QuotaExceeded(f"the policies of this account have {count} statements; {_MOST_STATEMENTS} are the most")


async def _refuse_changed(tx: Transaction, row: PolicyRow, shown: str) -> None:
    """Raise InvalidRequest unless the policy says, and says until the transaction ends, what was ``shown``, if any."""
    if shown and (shown != digest_of(row.document) or not await store.hold(tx, row.id, document=row.document)):
        raise InvalidRequest("document: it was changed since it was shown; look at what it says now, and again")


async def _refuse_own(tx: Transaction, caller: Caller, attachments: Sequence[AttachmentRow], verb: str) -> None:
    """Raise InvalidRequest for a policy of the caller or its groups: whom one denies could free itself of it."""
    if any(attachment.user_id == caller.user_id for attachment in attachments):
        raise InvalidRequest(f"you cannot {verb} a policy of yourself; another administrator of the account can")
    is_any = caller.carried is not None  # another token of the caller may carry another group of its provider
    mine = await groups.groups_of_user(tx, caller.user_id, is_any=is_any)
    if any(attachment.group_id in mine for attachment in attachments):
        which = "that another token of yours may be in" if is_any else "that you are in"
        raise InvalidRequest(f"you cannot {verb} a policy of a group {which}; another administrator of the account can")


async def _find(tx: Transaction, caller: Caller, policy_id: str) -> PolicyRow:
    row = await store.find_policy(tx, policy_id, domain_id=caller.domain_id)
    if row is None:
        raise NotFound(f"policy {policy_id!r} does not exist in this account")
    return row


async def _name(tx: Transaction, caller: Caller, where: AttachmentRow) -> str:
    """Return user or group, and where, for the audit; raise InvalidRequest or NotFound."""
    holders = []
    if where.user_id is not None:
        user = await users.find_user(tx, where.user_id, domain_id=caller.domain_id)
        if user is None:
            raise NotFound(f"user {where.user_id!r} does not exist in this account")
        holders.append(f"user {user.name}")
    if where.group_id is not None:
        group = await groups.find_group(tx, where.group_id, domain_id=caller.domain_id)
        if group is None:
            raise NotFound(f"group {where.group_id!r} does not exist in this account")
        holders.append(f"group {group.name}")
    place = await name_project(tx, caller.domain_id, where.project_id)
    if len(holders) != 1:
        raise InvalidArgument("user_id, group_id: give one of them")
    return f"{holders[0]} in {place}"
