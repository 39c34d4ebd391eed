"""Idempotency of writes, for clients that do not know whether the first request arrived.

The key of a write is claimed in the transaction in which the write takes effect, together with what is needed to repeat
the answer. So nothing is looked up before the write is tried: a repeat is refused somewhere on its way, at the claim at
the latest, and then the key tells whether it collided with its own first attempt.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime

import msgspec
import structlog

from pilothouse.auth.sealing import MasterKeys
from pilothouse.errors import DecryptionFailed, KeyUsed, NotAuthenticated, NotPermitted, PilothouseError
from pilothouse.off_loop import off_loop
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.releases.commands import open_shown
from pilothouse.services.releases.pages import Release
from pilothouse.services.releases.shown import from_operation
from pilothouse.settings import Settings
from pilothouse.states import OperationState
from pilothouse.store import idempotency_keys, operations
from pilothouse.store.clusters import ClusterName
from pilothouse.store.database import Database, Transaction
from pilothouse.store.idempotency_keys import FoundKey, NewKey
from pilothouse.store.operations import NewOperation, OperationRow

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class SubmittedOperation:
    """The release in its current state, and the operation that changes it; None if there is none, as after a dry run.

    ``repeated``: it is the answer to an earlier request with the same key.
    """

    release: Release
    operation_id: str | None
    repeated: bool = False


@dataclass(frozen=True)
class Key:
    """The key of one request; ``fingerprint`` identifies the request."""

    text: str
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class _Record:
    """The answer and its request: the parts of the operation that the answer shows and that change later."""

    fingerprint: str
    cluster_name: str
    state: str
    revision: int | None
    status_description: str
    cancel_keeps: bool = False  # the name in stored records; the column is keep_resources
    undo_revision: int | None = None
    finished_at: datetime | None = None


class Idempotency:
    """Store answers by caller and key."""

    def __init__(self, database: Database, keys: MasterKeys, settings: Settings) -> None:
        self._database = database
        self._keys = keys
        self._life_seconds = settings.retention.key_seconds

    async def once(
        self, caller: Caller, key: Key | None, write: Callable[[], Awaitable[SubmittedOperation]]
    ) -> SubmittedOperation:
        """Run ``write`` at most once per key; a repeat gets the stored response.

        Raises KeyUsed if the key came with another request, and what ``write`` raises; then the key is still free.
        """
        if key is None:
            return await write()
        try:
            accepted = await write()
        except (NotAuthenticated, NotPermitted):  # who may no longer do it is not told what came of it
            raise
        except PilothouseError as error:
            found = await self._find(caller, key)
            if found is None:
                raise
            log.info("request_repeated", key=key.text, operation_id=found.operation_id, refused=type(error).__name__)
            return found
        if accepted.operation_id is None:  # a dry run claims no key, and must not come with another's
            await self._find(caller, key)
        return accepted

    def of_new(self, key: Key, new: NewOperation, *, cluster_name: str) -> NewKey:
        """Return the key to be claimed with an operation that is about to be accepted."""
        record = _Record(
            fingerprint=key.fingerprint,
            cluster_name=cluster_name,
            state=OperationState.QUEUED,
            revision=new.revision,
            status_description=new.status_description,
        )
        return self._seal(key, record, operation_id=new.id)

    async def hold(self, tx: Transaction, key: Key | None, row: OperationRow) -> bool:
        """Keep what the answer shows of the operation as long as the key; call it first in the transaction.

        Returns False if it is gone, because the operation has ended since it was read.
        """
        return key is None or await operations.keep_shown(tx, row.id, seconds=self._life_seconds)

    async def claim(
        self, tx: Transaction, caller: Caller, key: Key | None, row: OperationRow, *, cluster_name: str
    ) -> None:
        """Claim the key, if there is one, for the given row, in the transaction that makes the change."""
        if key is None:
            return
        record = _Record(
            fingerprint=key.fingerprint,
            cluster_name=cluster_name,
            state=row.state,
            revision=row.revision,
            status_description=row.status_description,
            cancel_keeps=row.keep_resources,
            undo_revision=row.undo_revision,
            finished_at=row.finished_at,
        )
        new = self._seal(key, record, operation_id=row.id)
        await idempotency_keys.claim(tx, new, project_id=caller.project_id, user_id=caller.user_id, operation_id=row.id)

    async def _find(self, caller: Caller, key: Key) -> SubmittedOperation | None:
        async with self._database.autocommit() as connection:
            found = await idempotency_keys.find_key(
                connection,
                project_id=caller.project_id,
                user_id=caller.user_id,
                key=key.text,
                life_seconds=self._life_seconds,
            )
        if found is None:
            return None
        record = self._open(found)
        if record.fingerprint != key.fingerprint:
            raise idempotency_keys.key_used_error(key.text)
        then = replace(
            found.operation,
            state=record.state,
            revision=record.revision,
            status_description=record.status_description,
            keep_resources=record.cancel_keeps,
            undo_revision=record.undo_revision,
            finished_at=record.finished_at,
        )
        cluster = ClusterName(then.cluster_id, record.cluster_name)
        release = await off_loop(
            lambda: from_operation(cluster, then, open_shown(then, keys=self._keys)), size=len(then.shown_sealed or b"")
        )
        return SubmittedOperation(release, then.id, repeated=True)

    def _seal(self, key: Key, record: _Record, *, operation_id: str) -> NewKey:
        sealed = self._keys.seal(msgspec.json.encode(record), context=_context(operation_id))
        return NewKey(key.text, sealed, self._life_seconds)

    def _open(self, found: FoundKey) -> _Record:
        """Pass over what a newer version wrote beside; raise KeyUsed for a record that nobody can read."""
        try:
            text = self._keys.unseal(found.record_sealed, context=_context(found.operation.id))
            return msgspec.json.decode(text, type=_Record)
        except (DecryptionFailed, msgspec.MsgspecError) as error:
            log.warning("idempotency_record_unreadable", operation_id=found.operation.id, cause=str(error))
            raise KeyUsed(
                f"Idempotency-Key: this key belongs to operation {found.operation.id}, but its answer cannot be read; "
                "check the operation, and use a new key for another request"
            ) from error


def _context(operation_id: str) -> str:
    return f"idempotency-key:{operation_id}"
