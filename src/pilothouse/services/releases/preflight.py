"""Detects, before the first write, what would make a release fail half-way.

Helm itself checks some of it first (``pkg/action/install.go``, ``upgrade.go``): that the objects' kinds are served, and
that no object has another owner. It does not check the kinds of hooks, the account's rights and the size of its own
record; it installs ``crds/`` before it checks anything, and a rollback checks nothing. Those are checked here, by
rendering without the cluster, which costs next to nothing; if the chart's output depends on the cluster, Helm's own dry
run has to confirm a problem before the request is refused.
"""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from pilothouse.chart_archive.charts import asks_cluster
from pilothouse.chart_archive.documents import read_objects
from pilothouse.engine.inspection import RenderedObject
from pilothouse.engine.protocol import InspectRequest, InstallRequest, ReleaseOutcome, UpgradeRequest, ValuesLayer
from pilothouse.engine.request import Request
from pilothouse.errors import ClusterDenied, HelmError, InvalidChart, InvalidRequest
from pilothouse.kubernetes.capabilities import Capabilities, ResourceAccess
from pilothouse.kubernetes.client import ClusterClient, ObjectKind
from pilothouse.kubernetes.resources import manifest_objects
from pilothouse.metrics import PREFLIGHT_REFUSALS
from pilothouse.services.releases.findings import Findings, describe_findings, describe_size, named
from pilothouse.services.releases.helm_error_hints import describe_owner, explain, is_owned_by
from pilothouse.services.releases.own_namespace import describe_dropped, holds_namespace
from pilothouse.settings import Settings

OutcomeT = TypeVar("OutcomeT")

_LARGEST_MANIFEST = 32 * 1024 * 1024
_LARGEST_OBJECT = 4 * 1024 * 1024
_REMEMBER_SECONDS = 300.0
_REMEMBERED_CLIENTS = 64

#: Helm looks whether an object is there, and applies it; an apply that makes the object needs both of the last.
_OBJECT_VERBS = ("get", "create", "patch")
_WAIT_VERBS = ("list", "watch")
#: Of a hook, what an earlier run left is deleted first, and every one is watched.
_HOOK_VERBS = (*_OBJECT_VERBS, *_WAIT_VERBS, "delete")
#: A role that names the objects that it is for can allow these; a new object has no name yet, a list has many.
_NAMED_VERBS = frozenset({"get", "patch", "delete"})
#: Helm's record of the release.
_RECORD = tuple(ResourceAccess(verb, "", "secrets", "") for verb in ("get", "list", "create", "update"))

_NOT_SEEN = re.compile(r'could not get information about the resource ([A-Za-z0-9]+) "([^"]+)"')
_NOT_SERVED = re.compile(r'no matches for kind "([^"]*)" in version "([^"]*)"')


@dataclass(frozen=True)
class ExpectedRevision:
    """What a request is expected to make: the revision's number, and the values that an upgrade's are merged into.

    ``owns_namespace``: the release has the Namespace that it is in.
    """

    number: int = 1
    merged_values: dict[str, Any] = field(default_factory=dict, repr=False)
    owns_namespace: bool = False


class Ask(Protocol):
    """Sends a request to an engine; raises what ``EnginePool.run`` raises."""

    async def __call__(self, request: Request[OutcomeT], /) -> OutcomeT:
        """Return the outcome."""
        ...


class Preflight:
    """Check what is about to be written to a cluster; caches for minutes what clusters serve and allow."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._capabilities: OrderedDict[ClusterClient, Capabilities] = OrderedDict()

    def capabilities(self, client: ClusterClient) -> Capabilities:
        """Return the cached capabilities of the client's cluster and account."""
        known = self._capabilities.setdefault(client, Capabilities(client, seconds=_REMEMBER_SECONDS))
        self._capabilities.move_to_end(client)
        if len(self._capabilities) > _REMEMBERED_CLIENTS:
            self._capabilities.popitem(last=False)
        return known

    async def explain(self, client: ClusterClient, error: HelmError, layers: Sequence[ValuesLayer] = ()) -> str:
        """Return Helm's text with hints, some of them from the ``layers`` of the request."""
        return await explain(error, client=client, capabilities=self.capabilities(client), layers=layers)

    async def find_problem(
        self,
        ask: Ask,
        client: ClusterClient,
        request: InstallRequest | UpgradeRequest,
        expected: ExpectedRevision,
    ) -> str | None:
        """Return why the request must not be carried out, for people; None if there is no problem.

        Raises what ``ask`` raises, including HelmError with Helm's text if its dry run fails, and ClusterUnavailable or
        ClusterDenied.
        """
        problem = await self._find_problem(ask, client, request, expected)
        if problem is not None:
            PREFLIGHT_REFUSALS.inc()
        return problem

    async def _find_problem(
        self,
        ask: Ask,
        client: ClusterClient,
        request: InstallRequest | UpgradeRequest,
        expected: ExpectedRevision,
    ) -> str | None:
        try:
            inspection = await ask(_inspect(request, expected))
        except HelmError:
            # An upgrade renders before it writes anything. An install has installed what lies in crds/ by then.
            if isinstance(request, InstallRequest):
                await ask(_trial(request))
            return None
        if too_large := describe_size(inspection):
            return too_large
        own = frozenset(inspection.crd_kinds) if request.crds != "skip" else frozenset()
        objects = [obj for obj in inspection.objects if not obj.hook or _runs(obj, request)]
        drops = expected.owns_namespace and isinstance(request, UpgradeRequest) and not request.remove_namespace
        if drops and not holds_namespace(objects, request.namespace):
            return describe_dropped(request.namespace)
        findings = await self._examine(
            client,
            objects,
            namespace=request.namespace,
            is_brought=_brought(objects, request, own=own),
            waits=request.wait in {"ready", "jobs"},
        )
        if findings and (not values_are_known(request) or await self._asks_cluster(request)):
            findings = await self._confirm(ask, request, findings, own=own)
        if findings:
            return describe_findings(findings, later=frozenset(inspection.crd_kinds) - own)
        if own and await _dry_run(ask, request, own=own) is None and not request.take_ownership:
            return await _find_clash(client, request, findings)
        return None

    async def find_rollback_problem(
        self, client: ClusterClient, *, goal: str, namespace: str, owns_namespace: bool = False
    ) -> str | None:
        """Return why a rollback to the manifest ``goal`` must not be carried out; None if there is no problem."""
        objects = await _objects_of(goal, namespace=namespace)
        if owns_namespace and not holds_namespace(objects, namespace):
            return describe_dropped(namespace)
        findings = await self._examine(client, objects, namespace=namespace)
        return describe_findings(findings) if findings else None

    async def _examine(
        self,
        client: ClusterClient,
        objects: Sequence[RenderedObject],
        *,
        namespace: str,
        is_brought: Callable[[RenderedObject], bool] = lambda _: False,
        waits: bool = False,
    ) -> Findings:
        capabilities = self.capabilities(client)
        unserved, served = [], []
        needs: dict[ResourceAccess, list[RenderedObject]] = {
            replace(access, namespace=namespace): [] for access in _RECORD
        }
        wanted = dict.fromkeys((obj.api_version, obj.kind) for obj in objects)
        kinds = {(version, kind): await capabilities.kinds.find(version, kind) for version, kind in wanted}
        for obj in objects:
            kind = kinds[obj.api_version, obj.kind]
            if kind is not None:
                served.append((obj, kind))
                for access in _accesses(obj, kind, waits=waits):
                    needs.setdefault(access, []).append(obj)
            elif not is_brought(obj):
                unserved.append(obj)
        missing = await capabilities.find_missing(needs)
        left = await self._still_needed(client, missing, served)
        return Findings(
            tuple(unserved), tuple((access, tuple(needs[access])) for access in left), tuple(served), client.acts_as
        )

    async def _still_needed(
        self, client: ClusterClient, missing: list[ResourceAccess], served: list[tuple[RenderedObject, ObjectKind]]
    ) -> list[ResourceAccess]:
        """Drop the right to create objects that exist already."""
        left = []
        for access in missing:
            of_kind = [(obj, kind) for obj, kind in served if access in _accesses(obj, kind, waits=False)]
            if access.verb == "create" and of_kind and await self._all_exist(client, of_kind):
                continue
            left.append(access)
        return left

    async def _all_exist(self, client: ClusterClient, objects: list[tuple[RenderedObject, ObjectKind]]) -> bool:
        for obj, kind in objects:
            try:
                if not obj.name or await _find(client, obj, kind) is None:
                    return False
            except ClusterDenied:
                return False
        return True

    async def _asks_cluster(self, request: InstallRequest | UpgradeRequest) -> bool:
        return await asyncio.to_thread(asks_cluster, request.chart, limits=self._settings.charts)

    async def _confirm(
        self,
        ask: Ask,
        request: InstallRequest | UpgradeRequest,
        findings: Findings,
        *,
        own: frozenset[tuple[str, str]],
    ) -> Findings:
        """Return the findings that remain when Helm renders with the cluster."""
        if any(obj.hook for obj in findings.objects):
            try:
                outcome = await ask(replace(_trial(request), show_hooks=True))
            except HelmError as error:
                named = _named_by(error)
                if named is None:
                    raise
                # Hooks that would not run are among what it looked at: only what was found before counts.
                if left := findings.about(named):
                    return left
            else:
                return findings.about(await _is_in(outcome.manifest, namespace=request.namespace))
        tried = await _dry_run(ask, request, own=own)
        return findings.about(await _is_in(tried.manifest if tried is not None else "", namespace=request.namespace))


async def _objects_of(manifest: str, *, namespace: str) -> list[RenderedObject]:
    """Return the objects of a manifest; none if it cannot be parsed, which Helm will report."""
    try:
        documents = await asyncio.to_thread(
            read_objects, manifest.encode(), file="manifest", max_bytes=_LARGEST_MANIFEST
        )
    except (InvalidChart, UnicodeEncodeError):
        return []
    return [
        RenderedObject(api_version=obj.api_version, kind=obj.kind, namespace=obj.namespace, name=obj.name)
        for obj in manifest_objects(documents, namespace=namespace)
    ]


async def _is_in(manifest: str, *, namespace: str) -> Callable[[RenderedObject], bool]:
    objects = {(obj.api_version, obj.kind, obj.name) for obj in await _objects_of(manifest, namespace=namespace)}
    return lambda obj: (obj.api_version, obj.kind, obj.name) in objects


def _named_by(error: HelmError) -> Callable[[RenderedObject], bool] | None:
    """Return a filter for the objects of Helm's error, if it is about unserved kinds or an unreadable object."""
    if error.kind == "HelmManifestError":
        kinds = set(_NOT_SERVED.findall(str(error)))
        return lambda obj: (obj.kind, obj.api_version) in kinds
    if error.kind == "HelmForbiddenError":
        objects = set(_NOT_SEEN.findall(str(error)))
        return lambda obj: (obj.kind, obj.name) in objects
    return None


def _inspect(request: InstallRequest | UpgradeRequest, expected: ExpectedRevision) -> InspectRequest:
    known = values_are_known(request)
    return InspectRequest(
        namespace=request.namespace,
        release_name=request.release_name,
        chart=request.chart,
        values=request.values if known else expected.merged_values,
        layers=request.layers if known else (),
        revision=expected.number,
        is_upgrade=isinstance(request, UpgradeRequest),
        skip_schema_validation=request.skip_schema_validation,
    )


def values_are_known(request: InstallRequest | UpgradeRequest) -> bool:
    """Return True if the request alone determines the values; else they are merged over the release's."""
    if isinstance(request, InstallRequest):
        return True
    keeps = request.reuse_values or request.reset_then_reuse_values
    return request.reset_values or (bool(request.values or request.layers) and not keeps)


def _runs(obj: RenderedObject, request: InstallRequest | UpgradeRequest) -> bool:
    action = "install" if isinstance(request, InstallRequest) else "upgrade"
    return not request.disable_hooks and obj.runs_at(f"pre-{action}", f"post-{action}")


def _brought(
    objects: Sequence[RenderedObject], request: InstallRequest | UpgradeRequest, *, own: frozenset[tuple[str, str]]
) -> Callable[[RenderedObject], bool]:
    """Return a predicate for objects whose kind the release itself defines before it creates them.

    Helm looks up the objects of the manifest before it creates the first of them, so only ``own``, the kinds in
    ``crds/``, exist for them. Hooks before the manifest find what such hooks define, those after it find all.
    """
    before = "pre-install" if isinstance(request, InstallRequest) else "pre-upgrade"
    early = own.union(*(obj.defines for obj in objects if obj.runs_at(before)))
    every = own.union(*(obj.defines for obj in objects))

    def is_brought(obj: RenderedObject) -> bool:
        kinds = every if obj.hook else own
        return (obj.api_version, obj.kind) in (early if obj.runs_at(before) else kinds)

    return is_brought


def _trial(request: InstallRequest | UpgradeRequest) -> InstallRequest | UpgradeRequest:
    return replace(request, dry_run="server", wait="none")


async def _dry_run(
    ask: Ask, request: InstallRequest | UpgradeRequest, *, own: frozenset[tuple[str, str]]
) -> ReleaseOutcome | None:
    """Return Helm's dry run, with Helm's own checks; None if only the chart's own CRDs stop it."""
    try:
        return await ask(_trial(request))
    except HelmError as error:
        lacking = {(version, kind) for kind, version in _NOT_SERVED.findall(str(error))}
        if not lacking or not lacking <= own:
            raise
        return None


async def _find(client: ClusterClient, obj: RenderedObject, kind: ObjectKind) -> dict[str, Any] | None:
    try:
        return await client.find_object(kind, namespace=obj.namespace, name=obj.name, largest=_LARGEST_OBJECT)
    except InvalidRequest:
        return None  # there is no object with such a name


async def _find_clash(
    client: ClusterClient, request: InstallRequest | UpgradeRequest, findings: Findings
) -> str | None:
    """Return the first object that exists with another owner, where Helm cannot look before it installs CRDs."""
    for obj, kind in findings.served:
        if obj.hook or not obj.name:
            continue
        live = await _find(client, obj, kind)
        if live is not None and not is_owned_by(live, name=request.release_name, namespace=request.namespace):
            owner = await describe_owner(live, client=client)
            return f"{named(obj)} exists and does not belong to this release; {owner}"
    return None


def _accesses(obj: RenderedObject, kind: ObjectKind, *, waits: bool) -> list[ResourceAccess]:
    group = obj.api_version.rpartition("/")[0]
    namespace = obj.namespace if kind.namespaced else ""
    verbs = _HOOK_VERBS if obj.hook else (*_OBJECT_VERBS, *(_WAIT_VERBS if waits else ()))
    return [
        ResourceAccess(verb, group, kind.plural, namespace, obj.name if verb in _NAMED_VERBS else "") for verb in verbs
    ]
