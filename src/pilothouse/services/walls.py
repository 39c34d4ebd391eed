"""Walls: in which namespaces of a cluster a project works, and as whom.

The registered account impersonates that user in every request of ours and of the engine, so that Kubernetes itself
refuses what the user may not. What asks for all namespaces asks for each of the wall's instead.
"""

import asyncio
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from pilothouse.errors import Checks, ClusterDenied, InvalidRequest
from pilothouse.kubernetes.client import ClusterClient
from pilothouse.kubernetes.client_cache import ClusterClients
from pilothouse.kubernetes.kubeconfig import acting_as
from pilothouse.services.releases.names import is_namespace
from pilothouse.store import clusters
from pilothouse.store.clusters import ClusterRow, WallRow
from pilothouse.store.database import Transaction

SET_WALL: Final = "pilothouse:wall:update"
#: Each is watched over a connection of its own, and a client keeps 32.
_MOST_NAMESPACES: Final = 20
_MOST_GROUPS: Final = 20
_LONGEST: Final = 256
#: What Helm does with its Secrets, and what the index does.
_VERBS: Final = ("get", "list", "watch", "create", "update", "delete")
#: Each of them shows what the Secrets of a namespace hold.
_READING: Final = ("get", "list", "watch", "*")
_AT_ONCE: Final = 10


@dataclass(frozen=True)
class Wall:
    """The namespaces of a project in a cluster, and the user and groups that the cluster's account impersonates."""

    namespaces: tuple[str, ...]
    user: str
    groups: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise InvalidRequest for a wall that cannot be."""
        checks = Checks()
        if not self.namespaces or not self.user:
            checks.refuse("wall: needs at least one of namespaces, and user; without a wall, leave both out")
        checks.read(self.check_given)
        checks.end()

    def check_given(self) -> None:
        """Raise InvalidRequest for what is wrong in that which is given."""
        checks = Checks()
        if wrong := next((namespace for namespace in self.namespaces if not is_namespace(namespace)), None):
            checks.refuse(f"wall.namespaces: {wrong[:100]!a} cannot be the name of a namespace")
        elif len(set(self.namespaces)) != len(self.namespaces):
            checks.refuse("wall.namespaces: one of them is there twice")
        if len(self.namespaces) > _MOST_NAMESPACES or len(self.groups) > _MOST_GROUPS:
            checks.refuse(f"wall: at most {_MOST_NAMESPACES} namespaces and {_MOST_GROUPS} groups")
        for name, texts in {"user": filter(None, [self.user]), "groups": self.groups}.items():
            if any(not 0 < len(text) <= _LONGEST or not text.isprintable() or text != text.strip() for text in texts):
                checks.refuse(f"wall.{name}: 1 to {_LONGEST} printable characters each, no blank at either end")
        checks.end()

    @property
    def row(self) -> WallRow:
        """Return the wall as it is stored."""
        return WallRow(list(self.namespaces), self.user, list(self.groups))

    def where(self) -> str:
        """Return the namespaces, for messages."""
        return ", ".join(self.namespaces)[:300]

    def describe(self) -> str:
        """Return the wall on one line, for the audit log."""
        groups = f" in {', '.join(self.groups)}" if self.groups else ""
        return f"{self.where()} as {self.user}{groups}"[:500]


def wall_of(row: ClusterRow) -> Wall | None:
    """Return the wall of a cluster, if it has one."""
    return Wall(tuple(row.wall_namespaces), row.wall_user, tuple(row.wall_groups)) if row.wall_user else None


def digest_of(wall: Wall | None) -> str:
    """Return what a form tells of the wall that it was shown with."""
    return hashlib.sha256(repr(wall).encode()).hexdigest()


async def try_wall(clients: ClusterClients, kubeconfig: str, wall: Wall, *, project: str) -> None:
    """Ask the cluster whether the wall would stand, and whether a release would work behind it.

    Raises InvalidKubeconfig, InvalidRequest (what the account or the user may not) or ClusterUnavailable.
    """
    acting = acting_as(kubeconfig, wall.user, wall.groups)
    async with clients.try_out(acting, project=project) as client, client.within_limit():
        with _impersonating(wall):
            await client.probe()
        if verbs := [verb for verb in _READING if await client.review_access({"verb": verb, "resource": "secrets"})]:
            raise InvalidRequest(
                f"wall.user: {wall.user!a} may read the Secrets of all namespaces of the cluster ({', '.join(verbs)}), "
                "so this would be no wall; bind its rights with a RoleBinding in each namespace, and no "
                "ClusterRoleBinding"
            )
        places = asyncio.Semaphore(_AT_ONCE)
        tries = (_try_namespace(client, wall, namespace, places) for namespace in wall.namespaces)
        for failure in await asyncio.gather(*tries, return_exceptions=True):
            if failure is not None:
                raise failure


async def refuse_shared_user(tx: Transaction, row: ClusterRow) -> None:
    """Raise InvalidRequest if another project acts as the wall's user in the same cluster: each would do as the other.

    Call it in the transaction that has stored the row.
    """
    if row.wall_user and await clusters.shares_wall_user(tx, row):
        raise InvalidRequest(
            f"wall.user: another project acts as {row.wall_user!a} in this cluster already, so nothing would keep the "
            "two apart; give each project a user of its own"
        )


@contextmanager
def _impersonating(wall: Wall) -> Iterator[None]:
    try:
        yield
    except ClusterDenied as error:
        groups = f" and the groups {', '.join(map(repr, wall.groups))}" if wall.groups else ""
        raise InvalidRequest(
            f"wall.user: the registered account may not impersonate {wall.user!a}{groups}: {error}; give it the verb "
            "impersonate on them by a ClusterRole"
        ) from error


async def _try_namespace(client: ClusterClient, wall: Wall, namespace: str, places: asyncio.Semaphore) -> None:
    remedy = f"bind it a Role there (kubectl create rolebinding … --namespace {namespace})"
    async with places:
        try:
            exists = await client.namespace_exists(namespace)
        except ClusterDenied as error:
            raise InvalidRequest(
                f"wall.namespaces: {wall.user!a} may not get the namespace {namespace!a}: {error}; {remedy}"
            ) from error
        if not exists:
            raise InvalidRequest(f"wall.namespaces: {namespace!a} does not exist in the cluster; create it first")
        lacking = [verb for verb in _VERBS if not await client.review_access(_on_secrets(verb, namespace))]
    if lacking:
        raise InvalidRequest(
            f"wall.namespaces: {wall.user!a} may not {', '.join(lacking)} Secrets in {namespace!a}, where Helm keeps "
            f"releases; {remedy}"
        )


def _on_secrets(verb: str, namespace: str) -> dict[str, str]:
    return {"verb": verb, "resource": "secrets", "namespace": namespace}
