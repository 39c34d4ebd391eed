"""What Pilothouse does to a release through another registration of its cluster.

Each registration has its own operations, and Helm's lock in the cluster is the only thing that they share. What another
project does is told, and nothing of it.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from pilothouse.errors import AtWorkElsewhere, Forbidden
from pilothouse.kubernetes.client import Secret
from pilothouse.kubernetes.helm_secrets import StoredRelease
from pilothouse.kubernetes.kubeconfig import api_server
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.releases.locks import REFUSED, locked_error, noun_of
from pilothouse.store import registrations as store
from pilothouse.store.database import Database, Transaction
from pilothouse.store.registrations import OperationElsewhere
from pilothouse.store.release_changes import Change, list_changes

#: How long the index of one registration may lag behind an operation of another.
_LAG: Final = timedelta(seconds=30)
_GET: Final = "cce:release:get"
_UPDATE: Final = "cce:release:update"


@dataclass(frozen=True)
class AtWork:
    """An operation at work on the release elsewhere; all is empty if the caller may not see it.

    It may have ended a moment ago, while the release is still shown as locked.
    """

    operation_id: str = ""
    action: str = ""
    state: str = ""
    cluster_name: str = ""


async def find_elsewhere(
    tx: Transaction,
    cluster_id: str,
    *,
    namespace: str,
    name: str,
    project_id: str,
    ended_since: timedelta | None = None,
) -> OperationElsewhere | None:
    """Return the unfinished operation on the release through another registration of the cluster, of any project."""
    others = await store.list_registrations(tx, cluster_id, address_of=api_server)
    return await store.find_operation_elsewhere(
        tx, others, namespace=namespace, name=name, project_id=project_id, ended_since=ended_since
    )


async def show_elsewhere(
    tx: Transaction, caller: Caller, cluster_id: str, *, namespace: str, name: str
) -> AtWork | None:
    """Return what is at work, or was a moment ago, as the caller may see it."""
    caller = caller.at(cluster_id, namespace)
    caller.require(_GET)
    found = await find_elsewhere(
        tx, cluster_id, namespace=namespace, name=name, project_id=caller.project_id, ended_since=_LAG
    )
    if found is None:
        return None
    if not _may_see(caller, found, namespace):
        return AtWork()
    return AtWork(found.operation_id, found.action, found.state, found.cluster_name)


async def list_elsewhere(tx: Transaction, project_id: str) -> frozenset[tuple[str, str, str]]:
    """Return cluster, namespace and name of all releases of the project that ``show_elsewhere`` tells of.

    The caller leaves out those that one may not see.
    """
    return frozenset(
        await store.list_written_elsewhere(tx, project_id=project_id, address_of=api_server, ended_since=_LAG)
    )


async def list_all_changes(
    tx: Transaction, caller: Caller, cluster_id: str, *, namespace: str, name: str
) -> list[Change] | None:
    """Return the release's operations through all registrations that the caller may see; None if there are no others.

    Only those of its project are among them, newest first.
    """
    caller = caller.at(cluster_id, namespace)
    caller.require(_GET)
    others = await store.list_registrations(tx, cluster_id, address_of=api_server, project_id=caller.project_id)
    seen = [registration.id for registration in others if caller.at(registration.id, namespace).may(_GET)]
    return await list_changes(tx, cluster_id, namespace=namespace, name=name, also=seen) if seen else None


async def refuse_unlock_elsewhere(
    tx: Transaction, caller: Caller, cluster_id: str, *, namespace: str, name: str
) -> None:
    """Raise AtWorkElsewhere if the release is locked by an unfinished operation of another registration."""
    caller = caller.at(cluster_id, namespace)
    caller.require(_UPDATE)
    found = await find_elsewhere(tx, cluster_id, namespace=namespace, name=name, project_id=caller.project_id)
    if found is not None:
        raise AtWorkElsewhere(f"release {name!r} is not unlocked: {_tell(caller, found, namespace)}; {_WAIT}")


async def lock_refusal(database: Database, cluster_id: str, stored: StoredRelease, secret: Secret) -> Forbidden:
    """Return the error for a write to a locked release: who holds it, and what can be done."""
    if await is_at_work_elsewhere(database, cluster_id, namespace=stored.namespace, name=stored.name):
        return Forbidden(f"{REFUSED}: {describe_elsewhere(stored)}")
    return locked_error(stored, secret, cluster_id=cluster_id)


async def is_at_work_elsewhere(database: Database, cluster_id: str, *, namespace: str, name: str) -> bool:
    """Return whether an operation of another registration is at work on the release."""
    async with database.autocommit() as connection:
        found = await find_elsewhere(connection, cluster_id, namespace=namespace, name=name, project_id="")
    return found is not None


def describe_elsewhere(stored: StoredRelease) -> str:
    """Describe the lock of an operation of another registration, for whoever may see this one."""
    return f"revision {stored.revision} is {stored.status}: {_ANOTHER}; {_WAIT}"


def _may_see(caller: Caller, found: OperationElsewhere, namespace: str) -> bool:
    return found.project_id == caller.project_id and caller.at(found.cluster_id, namespace).may(_GET)


def _tell(caller: Caller, found: OperationElsewhere, namespace: str) -> str:
    if not _may_see(caller, found, namespace):
        return _ANOTHER
    return (
        f"{noun_of(found.action)} of it is {found.state} through cluster {found.cluster_name!r}, another registration "
        f"of the same API server (operation {found.operation_id})"
    )


_ANOTHER: Final = "an operation of Pilothouse is at work on it through another registration of its API server"
_WAIT: Final = "retry when that has ended"
