"""Clusters: registered from a kubeconfig, stored encrypted, and connections to them."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from pilothouse.auth.sealing import MasterKeys
from pilothouse.errors import (
    AlreadyExists,
    Checks,
    ClusterDenied,
    ClusterMissing,
    ClusterUnavailable,
    CorruptRelease,
    DecryptionFailed,
    KubeconfigUnreadable,
    NotFound,
    QuotaExceeded,
)
from pilothouse.kubernetes.addresses import addresses_of
from pilothouse.kubernetes.client import ClusterClient, ClusterVersion
from pilothouse.kubernetes.client_cache import ClusterClients
from pilothouse.kubernetes.kubeconfig import Kubeconfig, acting_as, api_server, sanitise
from pilothouse.kubernetes.pods import Pods
from pilothouse.services.cluster_checks import check_name, find_difference
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.standing import require_still
from pilothouse.services.walls import SET_WALL, Wall, refuse_shared_user, try_wall, wall_of
from pilothouse.settings import ClusterSettings
from pilothouse.store import audit, cluster_watches, releases
from pilothouse.store import clusters as store
from pilothouse.store.cluster_watches import Freshness
from pilothouse.store.clusters import ClusterName
from pilothouse.store.database import Database, Transaction, retry_conflicts
from pilothouse.store.registrations import list_registrations

_NAMED_SECRETS = 20


@dataclass(frozen=True)
class Cluster(ClusterName):
    """A registered cluster as callers see it."""

    server: str
    wait: str
    created_at: datetime
    wall: Wall | None
    drift_seconds: int | None


@dataclass(frozen=True)
class ClusterIndex:
    """Age of the release index of a cluster, and its Secrets that could not be decoded."""

    freshness: Freshness
    unreadable: releases.UnreadableSecrets


@dataclass(frozen=True)
class ClusterConnection(Cluster):
    """A registered cluster with its credentials; contains secrets."""

    project_id: str
    kubeconfig: str = field(repr=False)


class Clusters:
    """Register, list, probe and remove the clusters of a project."""

    def __init__(
        self, database: Database, keys: MasterKeys, clients: ClusterClients, settings: ClusterSettings
    ) -> None:
        self._database = database
        self._keys = keys
        self._clients = clients
        self._settings = settings

    async def register(
        self,
        caller: Caller,
        *,
        name: str,
        kubeconfig: str,
        context: str | None,
        wall: Wall | None = None,
        request_id: str,
    ) -> Cluster:
        """Store the sanitised kubeconfig, after the cluster answered with it, and for a ``wall`` from behind it.

        Raises InvalidKubeconfig, ClusterUnavailable or ClusterDenied, AlreadyExists if the name is taken, and
        QuotaExceeded.
        """
        caller.require("cce:cluster:create")
        if wall is not None:
            caller.require_in_account(SET_WALL)
        self.check_registration(caller, name=name, kubeconfig=kubeconfig, context=context, wall=wall)
        async with self._database.autocommit() as connection:
            await self._check_quota(connection, caller)  # before a cluster is asked for nothing
        sanitised, identity = await self._try_out(caller, kubeconfig, context=context, wall=wall)
        return await self._add(caller, name, sanitised, identity, wall, request_id=request_id)

    def check_registration(
        self, caller: Caller, *, name: str, kubeconfig: str, context: str | None, wall: Wall | None = None
    ) -> None:
        """Raise InvalidRequest with all of it that is wrong whatever the cluster says."""
        caller.require("cce:cluster:create")
        checks, addresses = Checks(), addresses_of(self._settings)
        checks.read(lambda: check_name(name))
        checks.read(lambda: sanitise(kubeconfig, addresses=addresses, context=context))
        if wall is not None:
            checks.read(wall.check)
        checks.end()

    async def _add(
        self, caller: Caller, name: str, sanitised: Kubeconfig, identity: str, wall: Wall | None, *, request_id: str
    ) -> Cluster:
        cluster_id = str(uuid.uuid4())
        async with self._database.transaction() as tx:
            await store.lock_project(tx, caller.project_id)
            await self._check_quota(tx, caller)
            row = await store.add_cluster(
                tx,
                cluster_id=cluster_id,
                project_id=caller.project_id,
                name=name,
                server=sanitised.server,
                kubeconfig_sealed=self._seal(cluster_id, sanitised),
                identity=identity,
                wall=wall.row if wall is not None else None,
            )
            if row is None:
                raise AlreadyExists(f"name: this project already has a cluster named {name!r}")
            await refuse_shared_user(tx, row)
            await cluster_watches.add_cluster_watch(tx, cluster_id)
            current = await require_still(tx, caller, "cce:cluster:create")
            if wall is not None:
                current.require_in_account(SET_WALL)
            await audit.record(
                tx,
                caller,
                "cce:cluster:create",
                target=cluster_id,
                target_name=name,
                detail=wall.describe() if wall is not None else "",
                request_id=request_id,
            )
        return cluster_of(row)

    async def replace_kubeconfig(
        self,
        caller: Caller,
        cluster_id: str,
        *,
        kubeconfig: str,
        context: str | None,
        force: bool,
        request_id: str,
    ) -> Cluster:
        """Replace the credentials, after the same checks as at registration; later actions use the new ones.

        Raises what ``register`` raises, NotFound, and InvalidRequest if it is another cluster, or may be one, unless
        ``force`` is set: then the index of its releases is rebuilt.
        """
        caller.require("cce:cluster:update")
        known = await self._row(cluster_id, project_id=caller.project_id)
        if known is None:
            raise unknown_cluster(cluster_id)
        sanitised, identity = await self._try_out(caller, kubeconfig, context=context, wall=wall_of(known))
        difference = find_difference(known, sanitised, identity, forced=force)
        async with self._database.transaction() as tx:
            row = await store.replace_kubeconfig(
                tx,
                cluster_id,
                project_id=caller.project_id,
                server=sanitised.server,
                kubeconfig_sealed=self._seal(cluster_id, sanitised),
                identity=identity or ("" if difference else known.identity),
            )
            if row is None:
                raise unknown_cluster(cluster_id)
            await refuse_shared_user(tx, row)
            if difference:
                await cluster_watches.forget_progress(tx, cluster_id)
            await cluster_watches.announce_change(tx, cluster_id)
            await require_still(tx, caller, "cce:cluster:update")
            await audit.record(
                tx,
                caller,
                "cce:cluster:update",
                target=cluster_id,
                target_name=row.name,
                detail="kubeconfig",
                request_id=request_id,
            )
        return cluster_of(row)

    async def _try_out(
        self, caller: Caller, kubeconfig: str, *, context: str | None, wall: Wall | None
    ) -> tuple[Kubeconfig, str]:
        """Return the sanitised kubeconfig, and the identity of the cluster that answered with it."""
        sanitised = sanitise(kubeconfig, addresses=addresses_of(self._settings), context=context)
        async with self._clients.try_out(sanitised.text, project=caller.project_id) as client, client.within_limit():
            await client.probe()
            identity = await client.find_identity()
        if wall is not None:
            await try_wall(self._clients, sanitised.text, wall, project=caller.project_id)
        return sanitised, identity

    async def _check_quota(self, tx: Transaction, caller: Caller) -> None:
        most = self._settings.per_project
        if await store.count_clusters(tx, caller.project_id) >= most:
            raise QuotaExceeded(
                f"Insufficient cluster quota: this project has {most} clusters, the limit; remove one first"
            )

    def _seal(self, cluster_id: str, sanitised: Kubeconfig) -> bytes:
        return self._keys.seal(sanitised.text.encode(), context=_sealing_context(cluster_id))

    async def list_clusters(self, caller: Caller) -> list[Cluster]:
        """Return the project's clusters by name."""
        caller.require_somewhere("cce:cluster:list")
        async with self._database.autocommit() as connection:
            rows = await store.list_clusters(connection, project_id=caller.project_id)
        return [cluster_of(row) for row in rows if caller.at(row.id).may("cce:cluster:list")]

    async def list_names(self, caller: Caller) -> dict[str, str]:
        """Return the names of the project's clusters by id."""
        caller.require_somewhere("cce:cluster:list")
        async with self._database.autocommit() as connection:
            names = await store.list_names(connection, project_id=caller.project_id)
        return {id_: name for id_, name in names.items() if caller.at(id_).may("cce:cluster:list")}

    async def show(self, caller: Caller, cluster_id: str) -> Cluster:
        """Return one cluster of the project, else raise NotFound."""
        caller.require("cce:cluster:get")
        row = await self._row(cluster_id, project_id=caller.project_id)
        if row is None:
            raise unknown_cluster(cluster_id)
        return cluster_of(row)

    async def list_other_names(self, caller: Caller, cluster_id: str) -> list[str]:
        """Return the other names under which the project has registered the same API server."""
        caller.require("cce:cluster:get")
        async with self._database.autocommit() as connection:
            found = await list_registrations(
                connection, cluster_id, address_of=api_server, project_id=caller.project_id
            )
        return [registration.name for registration in found if caller.at(registration.id).may("cce:cluster:get")]

    async def identify(self, named: str, *, project_id: str) -> ClusterName:
        """Return the project's cluster of that id or name, else raise NotFound."""
        async with self._database.autocommit() as connection:
            found = await store.identify_cluster(connection, named, project_id=project_id)
        if found is None:
            raise unknown_cluster(named)
        return found

    async def find_id(self, named: str, *, project_id: str) -> str | None:
        """Return the id of the project's cluster of that id or name, if it has one."""
        async with self._database.autocommit() as connection:
            found = await store.identify_cluster(connection, named, project_id=project_id)
        return found.id if found is not None else None

    async def show_index(self, caller: Caller, cluster_id: str) -> ClusterIndex:
        """Return progress and error of the release index for a cluster of the project; else raise NotFound."""
        caller.require("cce:cluster:get")
        async with self._database.autocommit() as connection:
            found = await releases.find_index(connection, cluster_id, project_id=caller.project_id)
            if found is None:
                raise unknown_cluster(cluster_id)
            unreadable = await releases.find_unreadable(connection, cluster_id, limit=_NAMED_SECRETS)
        return ClusterIndex(found.freshness, unreadable)

    async def list_indexes(self, caller: Caller) -> dict[str, ClusterIndex]:
        """Return progress and error of the index of each of the project's clusters, by id; no Secret is named."""
        caller.require_somewhere("cce:cluster:get")
        async with self._database.autocommit() as connection:
            found = await releases.list_indexes(connection, project_id=caller.project_id)
        return {
            index.cluster.id: ClusterIndex(index.freshness, releases.UnreadableSecrets(unreadable, []))
            for index, unreadable in found
            if caller.at(index.cluster.id).may("cce:cluster:get")
        }

    @retry_conflicts
    async def remove(self, caller: Caller, cluster_id: str, *, request_id: str) -> None:
        """Delete the cluster and its credentials; its releases are not affected."""
        caller.require("cce:cluster:delete")
        async with self._database.transaction() as tx:
            await require_still(tx, caller, "cce:cluster:delete")
            name = await store.remove_cluster(tx, cluster_id, project_id=caller.project_id)
            if name is None:
                raise unknown_cluster(cluster_id)
            await cluster_watches.announce(tx)
            await audit.record(
                tx, caller, "cce:cluster:delete", target=cluster_id, target_name=name, request_id=request_id
            )

    async def probe(self, caller: Caller, cluster_id: str) -> ClusterVersion:
        """Return the cluster's version now; raise ClusterUnavailable or ClusterDenied."""
        caller.require("cce:cluster:get")
        cluster = await self.reach(cluster_id, project_id=caller.project_id)
        with cluster_error_context(cluster):
            return await self.client(cluster).probe()

    async def reach(
        self, cluster_id: str, *, project_id: str | None, tx: Transaction | None = None, impersonating: bool = True
    ) -> ClusterConnection:
        """Return the cluster with its credentials, if it is that project's (None: any), else raise NotFound.

        With ``tx`` it is read through that connection, together with the caller's other reads.
        """
        row = await self._row(cluster_id, project_id=project_id, tx=tx)
        return self.open(cluster_id, row, impersonating=impersonating)

    def open(self, cluster_id: str, row: store.ClusterRow | None, *, impersonating: bool = True) -> ClusterConnection:
        """Return the cluster of that row with its credentials; NotFound for None, a failed lookup.

        They act as the user of the project's wall, if it has one (not ``impersonating``: as the registered account).
        Raises KubeconfigUnreadable if they are damaged, or sealed with a key that is missing.
        """
        if row is None:
            raise unknown_cluster(cluster_id)
        try:
            kubeconfig = self._keys.unseal(row.kubeconfig_sealed, context=_sealing_context(row.id)).decode()
        except DecryptionFailed as error:
            raise KubeconfigUnreadable(
                f"cluster {row.name!r}: its stored kubeconfig cannot be read: {error}; send it again with "
                f"PUT /api/v1/clusters/{row.id}/kubeconfig or 'pilothouse cluster update', or restore the master key"
            ) from error
        if impersonating and row.wall_user:
            kubeconfig = acting_as(kubeconfig, row.wall_user, row.wall_groups)
        return ClusterConnection(**vars(cluster_of(row)), project_id=row.project_id, kubeconfig=kubeconfig)

    def client(self, cluster: ClusterConnection) -> ClusterClient:
        """Return this process's client for the cluster."""
        namespaces = cluster.wall.namespaces if cluster.wall is not None else ()
        return self._clients.get(cluster.id, cluster.kubeconfig, project=cluster.project_id, namespaces=namespaces)

    def connect_pods(self, cluster: ClusterConnection) -> Pods:
        """Return more connections to the cluster, for streams; the caller closes them."""
        return Pods(cluster.kubeconfig, self._settings, look_up=self.client(cluster).look_up)

    async def _row(
        self, cluster_id: str, *, project_id: str | None, tx: Transaction | None = None
    ) -> store.ClusterRow | None:
        if tx is not None:
            row = await store.find_cluster(tx, cluster_id, project_id=project_id)
        else:
            async with self._database.autocommit() as own:
                row = await store.find_cluster(own, cluster_id, project_id=project_id)
        return row


@contextmanager
def cluster_error_context(cluster: Cluster) -> Iterator[None]:
    """Put the cluster's name in front of errors about it: callers know names, not addresses."""
    try:
        yield
    except ClusterUnavailable as error:
        raise ClusterUnavailable(f"cluster {cluster.name!r} is unavailable: {error}", detail=error.detail) from error
    except ClusterDenied as error:
        where = f"; behind its wall, this project works in {cluster.wall.where()} only" if cluster.wall else ""
        raise ClusterDenied(f"cluster {cluster.name!r}: {error}{where}") from error
    except CorruptRelease as error:
        raise CorruptRelease(f"cluster {cluster.name!r}: {error}; fix or delete this Secret, then retry") from error


def unknown_cluster(cluster_id: str) -> NotFound:
    """Return the error for a cluster that the project does not have."""
    return ClusterMissing(f"cluster {cluster_id!r} does not exist in this project")


def _sealing_context(cluster_id: str) -> str:
    return f"kubeconfig:{cluster_id}"


def cluster_of(row: store.ClusterRow) -> Cluster:
    """Return the cluster as callers see it."""
    return Cluster(
        id=row.id,
        name=row.name,
        server=row.server,
        wait=row.wait,
        created_at=row.created_at,
        wall=wall_of(row),
        drift_seconds=row.drift_seconds,
    )
