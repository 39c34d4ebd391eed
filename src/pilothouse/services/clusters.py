"""Clusters: registered from a kubeconfig, stored encrypted, and connections to them."""

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from pilothouse.auth.sealing import MasterKeys
from pilothouse.errors import (
    AlreadyExists,
    ClusterDenied,
    ClusterUnavailable,
    CorruptRelease,
    DecryptionFailed,
    InvalidRequest,
    KubeconfigUnreadable,
    NotFound,
    QuotaExceeded,
)
from pilothouse.kubernetes.addresses import addresses_of
from pilothouse.kubernetes.client import ClusterClient, ClusterVersion
from pilothouse.kubernetes.client_cache import ClusterClients
from pilothouse.kubernetes.kubeconfig import Kubeconfig, sanitise
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.standing import require_still
from pilothouse.settings import ClusterSettings
from pilothouse.store import audit, cluster_watches, releases
from pilothouse.store import clusters as store
from pilothouse.store.cluster_watches import Freshness
from pilothouse.store.clusters import ClusterName
from pilothouse.store.database import Database, Transaction
from pilothouse.store.releases import UnreadableSecrets

_NAMED_SECRETS = 20
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,126}[a-z0-9])?")


@dataclass(frozen=True)
class Cluster(ClusterName):
    """A registered cluster as callers see it."""

    server: str
    wait: str
    created_at: datetime


@dataclass(frozen=True)
class ClusterIndex:
    """Age of the release index of a cluster, and its Secrets that could not be decoded."""

    freshness: Freshness
    unreadable: UnreadableSecrets


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
        self, caller: Caller, *, name: str, kubeconfig: str, context: str | None, request_id: str
    ) -> Cluster:
        """Store the sanitised kubeconfig, after the cluster answered with it.

        Raises InvalidKubeconfig, ClusterUnavailable or ClusterDenied, AlreadyExists if the name is taken, and
        QuotaExceeded.
        """
        caller.require("cce:cluster:create")
        if not _NAME.fullmatch(name):
            raise InvalidRequest(
                f"name: {name!r} is not a cluster name: a lower-case letter, then lower-case letters, digits and '-', "
                "ending in a letter or digit, at most 128 characters"
            )
        async with self._database.autocommit() as connection:
            await self._check_quota(connection, caller)  # before a cluster is asked for nothing
        sanitised, identity = await self._try_out(caller, kubeconfig, context=context)
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
            )
            if row is None:
                raise AlreadyExists(f"name: this project already has a cluster named {name!r}")
            await cluster_watches.add_cluster_watch(tx, cluster_id)
            await require_still(tx, caller, "cce:cluster:create")
            await audit.record(
                tx, caller, "cce:cluster:create", target=cluster_id, target_name=name, request_id=request_id
            )
        return _cluster(row)

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
        sanitised, identity = await self._try_out(caller, kubeconfig, context=context)
        difference = _difference(known, sanitised, identity, forced=force)
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
        return _cluster(row)

    async def _try_out(self, caller: Caller, kubeconfig: str, *, context: str | None) -> tuple[Kubeconfig, str]:
        """Return the sanitised kubeconfig, and the identity of the cluster that answered with it."""
        sanitised = sanitise(kubeconfig, addresses=addresses_of(self._settings), context=context)
        async with self._clients.try_out(sanitised.text, project=caller.project_id) as client, client.within_limit():
            await client.probe()
            return sanitised, await client.find_identity()

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
        caller.require("cce:cluster:list")
        async with self._database.autocommit() as connection:
            return [_cluster(row) for row in await store.list_clusters(connection, project_id=caller.project_id)]

    async def show(self, caller: Caller, cluster_id: str) -> Cluster:
        """Return one cluster of the project, else raise NotFound."""
        caller.require("cce:cluster:get")
        row = await self._row(cluster_id, project_id=caller.project_id)
        if row is None:
            raise unknown_cluster(cluster_id)
        return _cluster(row)

    async def identify(self, named: str, *, project_id: str) -> ClusterName:
        """Return the project's cluster of that id or name, else raise NotFound."""
        async with self._database.autocommit() as connection:
            found = await store.identify_cluster(connection, named, project_id=project_id)
        if found is None:
            raise unknown_cluster(named)
        return found

    async def show_index(self, caller: Caller, cluster_id: str) -> ClusterIndex:
        """Return progress and error of the release index for a cluster of the project; else raise NotFound."""
        caller.require("cce:cluster:get")
        async with self._database.autocommit() as connection:
            found = await releases.find_index(connection, cluster_id, project_id=caller.project_id)
            if found is None:
                raise unknown_cluster(cluster_id)
            unreadable = await releases.find_unreadable(connection, cluster_id, limit=_NAMED_SECRETS)
        return ClusterIndex(found.freshness, unreadable)

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
        self, cluster_id: str, *, project_id: str | None, tx: Transaction | None = None
    ) -> ClusterConnection:
        """Return the cluster with its credentials, if it is that project's (None: any), else raise NotFound.

        With ``tx`` it is read through that connection, together with the caller's other reads.
        """
        return self.open(cluster_id, await self._row(cluster_id, project_id=project_id, tx=tx))

    def open(self, cluster_id: str, row: store.ClusterRow | None) -> ClusterConnection:
        """Return the cluster of that row with its credentials; NotFound for None, a failed lookup.

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
        return ClusterConnection(**vars(_cluster(row)), project_id=row.project_id, kubeconfig=kubeconfig)

    def client(self, cluster: ClusterConnection) -> ClusterClient:
        """Return this process's client for the cluster."""
        return self._clients.get(cluster.id, cluster.kubeconfig, project=cluster.project_id)

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
        raise ClusterDenied(f"cluster {cluster.name!r}: {error}") from error
    except CorruptRelease as error:
        raise CorruptRelease(f"cluster {cluster.name!r}: {error}; fix or delete this Secret, then retry") from error


def unknown_cluster(cluster_id: str) -> NotFound:
    """Return the error for a cluster that the project does not have."""
    return NotFound(f"cluster {cluster_id!r} does not exist in this project")


def _difference(known: store.ClusterRow, new: Kubeconfig, identity: str, *, forced: bool) -> str:
    """Return why the kubeconfig may be another cluster's, which is InvalidRequest if not ``forced``; empty if not."""
    difference = ""
    if known.identity and identity:
        if known.identity != identity:
            difference = "it is another cluster's, whose namespace kube-system has other uid"
    elif known.server != new.server:
        difference = (
            f"its server is {new.server} and was {known.server}, and the accounts may not read the clusters' ids"
        )
    if difference and not forced:
        raise InvalidRequest(
            f"kubeconfig: {difference}; its releases would be another cluster's: register that beside this one, or "
            "send force=true (--force) if it is the same"
        )
    return difference


def _sealing_context(cluster_id: str) -> str:
    return f"kubeconfig:{cluster_id}"


def _cluster(row: store.ClusterRow) -> Cluster:
    return Cluster(id=row.id, name=row.name, server=row.server, wait=row.wait, created_at=row.created_at)
