"""Drift of a release on request, and the rules about what is none."""

from collections.abc import Sequence

from pilothouse.auth.policy import READ_VALUES
from pilothouse.errors import InvalidArgument
from pilothouse.masking_thread import in_masking_thread
from pilothouse.services.clusters import cluster_error_context
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.releases.dependencies import ReleaseDependencies
from pilothouse.services.releases.details import ReleaseDetails, ReleaseRef
from pilothouse.services.releases.drift import Drift, deployed_or_newest, find_drift, keep_look
from pilothouse.services.releases.ignore_rules import MOST_RULES, IgnoreRule, read_rules
from pilothouse.services.releases.live import read_unsuperseded
from pilothouse.services.releases.masking import masks_of_stored
from pilothouse.services.releases.submit import Submissions
from pilothouse.store import drift as store

_UPDATE = "cce:release:update"


class ReleaseDrifts:
    """Compare releases with what their clusters have, and keep what is no drift."""

    def __init__(self, shared: ReleaseDependencies, details: ReleaseDetails) -> None:
        self._database = shared.database
        self._clusters = shared.clusters
        self._details = details
        self._submissions = Submissions(shared.database, shared.keys, shared.settings)

    async def read(self, caller: Caller, place: ReleaseRef, *, revision: int | None = None) -> Drift:
        """Return what the cluster of that id has that the revision does not say; None: the deployed, or the newest.

        Data of Secrets is masked for everybody, and all values for callers who may not read them.
        """
        caller.require("cce:release:get")
        cluster = await self._clusters.reach(place.cluster, project_id=None)
        client = self._clusters.client(cluster)
        with cluster_error_context(cluster):
            revisions = [candidate for candidate, _ in await read_unsuperseded(client, place.namespace, place.name)]
        if not revisions:
            raise await self._details.explain_missing(place, cluster.name)
        if revision is None:
            stored = deployed_or_newest(revisions)
        else:
            known = next((candidate for candidate in revisions if candidate.revision == revision), None)
            stored = known or await self._details.read_stored(place, revision)
        async with self._database.autocommit() as connection:
            rules = await read_rules(connection, place.cluster, namespace=place.namespace, name=place.name)
        hides = not caller.may(READ_VALUES)
        masks = await in_masking_thread(masks_of_stored, stored, *revisions) if hides else None
        with cluster_error_context(cluster):
            found = await find_drift(client, stored, rules, masks=masks)
        if revision is None:
            async with self._database.autocommit() as connection:
                await keep_look(connection, place.cluster, found, namespace=place.namespace, name=place.name)
        return found

    async def list_rules(self, caller: Caller, place: ReleaseRef) -> list[IgnoreRule]:
        """Return the rules about what is no drift of the release; none if nobody set any."""
        caller.require("cce:release:get")
        located = await self._details.locate(caller, place)
        async with self._database.autocommit() as connection:
            return await read_rules(connection, located.cluster, namespace=place.namespace, name=place.name)

    async def replace_rules(
        self, caller: Caller, place: ReleaseRef, rules: Sequence[IgnoreRule], *, request_id: str
    ) -> list[IgnoreRule]:
        """Store the rules instead of those before; NotFound for a release that does not exist."""
        caller.require(_UPDATE)
        if len(rules) > MOST_RULES:
            raise InvalidArgument(f"rules: there are {len(rules)}, and at most {MOST_RULES} are kept of a release")
        for number, rule in enumerate(rules):
            rule.check(f"rules[{number}]")
        cluster_id = (await self._details.show(caller, place)).release.cluster_id
        async with self._submissions.change(caller, permission=_UPDATE, request_id=request_id) as change:
            plain = [vars(rule) for rule in dict.fromkeys(rules)]
            await store.replace_rules(change.tx, cluster_id, namespace=place.namespace, name=place.name, rules=plain)
            await change.record(cluster_id, place.namespace, place.name, detail="ignore rules")
        return list(dict.fromkeys(rules))
