"""What a planned manifest would change in the cluster, and what of it deserves a warning."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import orjson

from pilothouse.chart_archive.charts import read_config, read_crds
from pilothouse.chart_archive.documents import read_objects
from pilothouse.errors import InvalidChart
from pilothouse.kubernetes.client import ClusterClient
from pilothouse.kubernetes.helm_secrets import StoredRelease
from pilothouse.kubernetes.managed_fields import HELM
from pilothouse.kubernetes.resources import manifest_objects
from pilothouse.off_loop import off_loop
from pilothouse.services.releases.differences import Parsed, read_parts
from pilothouse.services.releases.helm_error_hints import is_owned_by
from pilothouse.services.releases.live_states import LiveState, LiveStates, ReleaseOwner, comparable
from pilothouse.services.releases.plan_records import Comparison, LiveChange, PlanRecord, has_option
from pilothouse.services.releases.versions import is_older
from pilothouse.settings import ChartLimits
from pilothouse.states import Action

_SECONDS: Final = 30.0
#: Of the objects that an apply would change, before and after.
_LARGEST_TOTAL: Final = 16 * 1024 * 1024
_LARGEST_CRDS: Final = 4 * 1024 * 1024
#: What goes with an object that is deleted.
_HOLDING: Final = {
    "Namespace": ", and everything in it",
    "CustomResourceDefinition": ", and every object of its kind in the cluster",
    "PersistentVolumeClaim": ", and with it what it holds unless its volume is kept",
    "StatefulSet": "",
}
_OTHERS: Final = "it exists and is not the release's; the release would take it over"
_OTHERS_FIELDS: Final = ", and fail at fields that others manage (without force_conflicts)"
#: Helm's words for a revision that was not applied by the server; older ones say nothing.
_BY_THE_CLIENT: Final = frozenset({"", "csa"})
_MOST_FIELDS: Final = 5
#: Kinds of warnings: what the cluster itself said, and what somebody has chosen and destroys nothing.
_REFUSED: Final = "refused"
_CHOSEN: Final = "chosen"


async def read_live(
    client: ClusterClient, record: PlanRecord, *, namespace: str, parsed: Parsed, creates_namespace: bool = False
) -> list[LiveChange]:
    """Return what an apply of the record's manifest would change, object by object; its objects are in ``namespace``.

    ``creates_namespace``: that of the release is made first; those of the manifest are, too.
    Raises InvalidRequest for a manifest that is too large to be compared, and CorruptRelease for one that is no YAML.
    """
    parts = await off_loop(
        lambda: read_parts(record.manifest, namespace=namespace, of="the plan", parsed=parsed),
        size=len(record.manifest),
    )
    owner = ReleaseOwner(record.release_name, record.namespace)
    room, replaces = [_LARGEST_TOTAL], has_option(record, "force_replace")
    others = _OTHERS if replaces or has_option(record, "force_conflicts") else _OTHERS + _OTHERS_FIELDS

    def judge(state: LiveState) -> LiveChange:
        found = _unknown(state)
        if state.live is not None and not is_owned_by(state.live, name=owner.name, namespace=owner.namespace):
            found = _unknown(state, others)  # what it holds is nothing that a plan may show, nor whose its fields are
        if found.problem or state.applied is None:
            return found
        found.conflicts = state.conflicts
        live = comparable(state.live) if state.live is not None else None
        applied = comparable(state.applied)
        if live == applied:
            found.unchanged = True
            return found
        room[0] -= len(orjson.dumps([live, applied]))
        if room[0] < 0:
            found.problem = "left out: the changed objects are too large together"
        else:
            found.live, found.applied = live, applied
        return found

    created = {obj.name for obj, _ in parts if obj.kind == "Namespace"} | ({namespace} if creates_namespace else set())
    states = LiveStates(
        client,
        judge,
        owner=owner,
        seconds=_SECONDS,
        create=True,
        find_conflicts=not replaces,
        lists=True,
        new_namespaces=frozenset(created),
    )
    return await states.read(parts)


def _unknown(state: LiveState, problem: str = "") -> LiveChange:
    """Return the object without what an apply would change; with another problem than the cluster's own if given."""
    obj, refused = state.obj, state.refused and not problem
    return LiveChange(
        obj.api_version, obj.kind, obj.namespace, obj.name, problem=problem or state.problem, refused=refused
    )


def describe_conflicts(record: PlanRecord, live: Sequence[LiveChange], *, apply_method: str) -> Iterator[str]:
    """Yield which fields of others the apply would fail at, or take over with ``force_conflicts``.

    ``apply_method``: how the deployed revision was applied. Helm's own fields are none of others where Helm first makes
    them those of server-side apply: in an install, in a rollback, and over a revision that the client applied.
    """
    migrates = record.action is not Action.UPGRADE or apply_method in _BY_THE_CLIENT
    for change in live:
        managers: dict[str, list[str]] = {}
        for conflict in change.conflicts:
            if not (migrates and conflict.manager == HELM):
                managers.setdefault(conflict.manager, []).append(conflict.field)
        for manager, found in managers.items():
            more = f" and {len(found) - _MOST_FIELDS} more" if len(found) > _MOST_FIELDS else ""
            fields = f"{'field' if len(found) == 1 else 'fields'} {', '.join(found[:_MOST_FIELDS])}{more}"
            be = "is" if len(found) == 1 else "are"
            if has_option(record, "force_conflicts"):
                yield f"{change.kind} {change.name!r}: {fields} {be} taken over from {manager!r} (force_conflicts)"
            else:
                yield (
                    f"{change.kind} {change.name!r}: {fields} {be} managed by {manager!r}, so that Helm would fail "
                    "there; set options.force_conflicts to take over what others manage, or leave it out of the chart"
                )


def note_warnings(
    record: PlanRecord,
    comparison: Comparison,
    *,
    parsed: Parsed,
    archive: bytes,
    limits: ChartLimits,
    creates_namespace: bool,
) -> None:
    """Note in the comparison what the plan would destroy or take over, and what the cluster would refuse. Blocks."""
    found = dict(_warnings(record, comparison, parsed, archive, limits))
    if creates_namespace:
        found = {f"namespace {record.namespace!r} will be created": _CHOSEN, **found}
    comparison.warnings = list(found)
    comparison.refusals = [text for text, kind in found.items() if kind == _REFUSED]
    comparison.chosen = [text for text, kind in found.items() if kind == _CHOSEN]


def note_older(record: PlanRecord, comparison: Comparison, newest: StoredRelease | None) -> None:
    """Note that an upgrade goes back to an older version of the chart, which Helm does without a word."""
    name, version = record.operation["chart_name"], record.operation["chart_version"]
    if record.action != Action.UPGRADE or newest is None or newest.chart_name != name:
        return
    if is_older(version, newest.chart_version):
        had = f"revision {newest.revision} has {newest.chart_version}"
        comparison.warnings.append(f"chart {name} {version} is older than the one of now: {had}")


def note_conflicts(record: PlanRecord, comparison: Comparison, *, apply_method: str) -> None:
    """Note fields of others: as a finding, or as a warning if the plan is to take them over."""
    conflicts = list(describe_conflicts(record, comparison.live, apply_method=apply_method))
    if has_option(record, "force_conflicts"):
        comparison.warnings += conflicts
        comparison.chosen += conflicts
    else:
        record.findings += conflicts


def _warnings(
    record: PlanRecord, comparison: Comparison, parsed: Parsed, archive: bytes, limits: ChartLimits
) -> Iterator[tuple[str, str]]:
    """Yield each warning with its kind."""
    if warning := record.operation.get("warning"):
        yield str(warning), ""
    if _is_deprecated(archive, limits):
        yield "the chart is deprecated: its authors do not maintain it any more", ""
    base = comparison.base
    old = read_parts(base.manifest, namespace=base.namespace, of=f"revision {base.deployed_revision}", parsed=parsed)
    new = read_parts(record.manifest, namespace=base.namespace or record.namespace, of="the plan", parsed=parsed)
    staying = {(obj.kind, obj.namespace, obj.name) for obj, _ in new}
    for obj, document in old:
        if (obj.kind, obj.namespace, obj.name) not in staying:
            for text in _of_removed(obj.kind, obj.name, document):
                yield text, ""
    replaces = has_option(record, "force_replace")
    for live in comparison.live:
        if live.problem:
            yield f"{live.kind} {live.name!r}: {live.problem}", _REFUSED if live.refused else ""
        elif replaces and live.live is not None:
            yield f"{live.kind} {live.name!r} is replaced (force_replace)", ""
    yield from _crd_warnings(record, archive, limits)


def _of_removed(kind: str, name: str, document: dict[str, Any]) -> Iterator[str]:
    if _is_kept(document):
        yield f"{kind} {name!r} stays in the cluster: helm.sh/resource-policy is keep"
    elif kind in _HOLDING:
        yield f"{kind} {name!r} is deleted{_HOLDING[kind]}"


def _crd_warnings(record: PlanRecord, archive: bytes, limits: ChartLimits) -> Iterator[tuple[str, str]]:
    policy = record.order.get("crds", "create" if record.action is Action.INSTALL else "skip")
    if not archive or policy == "skip":
        return
    becomes, kind = ("replaced", "") if policy == "replace" else ("created if it is missing", _CHOSEN)
    for name in _crd_names(archive, limits):
        yield f"CustomResourceDefinition {name!r} of the chart's crds/ is {becomes}", kind


def _crd_names(archive: bytes, limits: ChartLimits) -> Sequence[str]:
    try:
        documents = [
            document
            for text in read_crds(archive, limits=limits)
            for document in read_objects(text, file="crds/", max_bytes=_LARGEST_CRDS)
        ]
    except InvalidChart:
        return []
    return [obj.name for obj in manifest_objects(documents, namespace="")]


def _is_deprecated(archive: bytes, limits: ChartLimits) -> bool:
    try:
        return bool(archive) and orjson.loads(read_config(archive, limits=limits)).get("deprecated") is True
    except InvalidChart:
        return False


def _is_kept(document: dict[str, Any]) -> bool:
    metadata = document.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    return isinstance(annotations, dict) and annotations.get("helm.sh/resource-policy") == "keep"
