"""What a plan would change, as it is shown: object by object, over the deployed revision and over the cluster."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from pilothouse.kubernetes.resources import ManifestObject, without_secret_data
from pilothouse.kubernetes.stored_hooks import StoredHook
from pilothouse.redaction import Masks, masks_of
from pilothouse.services.charts.archives import compact_json
from pilothouse.services.releases.differences import Parsed, read_parts
from pilothouse.services.releases.manifest_diff import (
    Change,
    FieldDifference,
    Object,
    compare_fields,
    compare_objects,
    identity,
)
from pilothouse.services.releases.masking import hide_in_manifest, hide_in_object, hide_values, mask_values
from pilothouse.services.releases.plan_records import Comparison, LiveChange, PlanRecord
from pilothouse.states import Action
from pilothouse.store.verifications import VerificationRow

_CHANGES: Final[tuple[tuple[str, Change], ...]] = (
    ("+", "added"),
    ("~", "changed"),
    ("-", "removed"),
    ("=", "unchanged"),
)
_EVENTS: Final = {
    Action.INSTALL: ("pre-install", "post-install"),
    Action.UPGRADE: ("pre-upgrade", "post-upgrade"),
    Action.ROLLBACK: ("pre-rollback", "post-rollback"),
    Action.UNINSTALL: ("pre-delete", "post-delete"),
}


@dataclass(frozen=True)
class PlannedChange:
    """An object of the plan or of the deployed revision.

    ``change`` and ``fields`` are against the deployed revision; ``live_change`` and ``live_fields`` against what the
    cluster has, which ``problem`` may prevent. ``old`` and ``new``: the whole object, unless it is unchanged.
    """

    api_version: str
    kind: str
    namespace: str
    name: str
    change: Change
    fields: list[FieldDifference] = field(repr=False)
    live_change: Change
    live_fields: list[FieldDifference] = field(repr=False)
    problem: str
    old: Object | None = field(default=None, repr=False)
    new: Object | None = field(default=None, repr=False)


@dataclass(frozen=True)
class ValueOrigin:
    """Where a value comes from, by its JSON pointer: ``chart``, ``previous``, or the name of a layer."""

    path: str
    origin: str


@dataclass(frozen=True)
class PlannedChart:
    """Which archive a plan has: its digest, and where it came from and who signed it, if that is known."""

    digest: str = ""
    source: str = ""
    verification: VerificationRow | None = None


@dataclass(frozen=True)
class PlannedChanges:
    """All of a plan that is shown; ``refusals`` and ``chosen`` are among the ``warnings``, as in a Comparison."""

    summary: dict[str, int]
    text: str
    objects: list[PlannedChange] = field(repr=False)
    values: dict[str, Any] = field(repr=False)
    origins: list[ValueOrigin] = field(repr=False)
    manifest: str = field(repr=False)
    notes: str = field(repr=False)
    hooks: list[StoredHook] = field(repr=False)
    findings: list[str]
    warnings: list[str]
    refusals: list[str] = field(default_factory=list)
    chosen: list[str] = field(default_factory=list)


def describe_changes(
    record: PlanRecord, comparison: Comparison, *, parsed: Parsed, hides: bool, masks_values: bool
) -> PlannedChanges:
    """Return what is shown of a plan; takes a while. ``parsed``: what of its manifests is parsed already.

    Data of Secrets is masked in differences for everybody; ``hides``: so are all values, for callers who may not read
    them; ``masks_values``: those under secret names are.
    """
    masks = _masks(record, comparison) if hides else None

    def show(document: Object) -> Object:
        shown = without_secret_data(document)
        return shown if masks is None else hide_in_object(shown, masks)

    def say(text: str) -> str:
        return text if masks is None else masks.apply(text)

    objects = list(_objects(record, comparison, parsed, show, say))
    counted = Counter(obj.change for obj in objects)
    runs = hooks_to_run(record)
    return PlannedChanges(
        summary={str(change): counted[change] for _, change in _CHANGES},
        text=" ".join(f"{sign}{counted[change]}" for sign, change in _CHANGES),
        objects=objects,
        values=_shown_values(record.values, hides=hides, masks_values=masks_values),
        origins=list(find_origins(record.values, [(source.name, source.values) for source in comparison.sources])),
        manifest=record.manifest if masks is None else hide_in_manifest(record.manifest, masks),
        notes=say(record.notes),
        hooks=runs if masks is None else [_hidden(hook, masks) for hook in runs],
        findings=[say(text) for text in record.findings],
        warnings=[say(text) for text in comparison.warnings],
        refusals=[say(text) for text in comparison.refusals],
        chosen=[say(text) for text in comparison.chosen],
    )


def compare_values(record: PlanRecord, deployed: Object, *, hides: bool, masks_values: bool) -> list[FieldDifference]:
    """Return what differs between the computed values, ``deployed`` and planned, as shown.

    Raises InvalidRequest for more text in pointers than an answer takes.
    """
    values = ManifestObject("", "values of", "", record.release_name)
    return compare_fields(
        values,
        deployed,
        record.values,
        show=lambda values: _shown_values(values, hides=hides, masks_values=masks_values),
    )


def _shown_values(values: Object, *, hides: bool, masks_values: bool) -> Object:
    text = compact_json(values)
    if hides:
        text = hide_values(text)
    elif masks_values:
        text = mask_values(text)
    found: Object = orjson.loads(text or "{}")
    return found


def hooks_to_run(record: PlanRecord) -> list[StoredHook]:
    """Return the hooks that the action runs, in Helm's order, and then the tests that check it."""
    checks = tuple(record.order.get("options", {}).get("checks", ()))
    events = checks if record.order.get("disable_hooks") else (*_EVENTS[record.action], *checks)
    found = [
        (events.index(event), hook.weight, hook.name, index, hook)
        for index, hook in enumerate(record.hooks)
        for event in hook.events or ()
        if event in events
    ]
    return [hook for *_, hook in sorted(found, key=lambda one: one[:4])]


def find_origins(values: Object, sources: Sequence[tuple[str, Object]]) -> Iterator[ValueOrigin]:
    """Yield where each value that is no mapping comes from: the last source that has it, else the chart."""

    def walk(value: Any, path: str, among: list[tuple[str, Any]]) -> Iterator[ValueOrigin]:
        if isinstance(value, dict) and value:
            for key, below in value.items():
                escaped = key.replace("~", "~0").replace("/", "~1")
                holding = [(name, found[key]) for name, found in among if isinstance(found, dict) and key in found]
                yield from walk(below, f"{path}/{escaped}", holding)
        elif path:
            yield ValueOrigin(path, among[0][0] if among else "chart")

    yield from walk(values, "", list(reversed(sources)))


def _masks(record: PlanRecord, comparison: Comparison) -> Masks:
    before = comparison.base
    values = {"order": record.order, "values": record.values, "before": [before.values, before.config]}
    return masks_of(values=values, public={record.release_name, record.namespace, record.cluster_name}).prepare()


def _hidden(hook: StoredHook, masks: Masks) -> StoredHook:
    return StoredHook(
        name=hook.name,
        kind=hook.kind,
        path=hook.path,
        manifest=hide_in_manifest(hook.manifest, masks),
        events=hook.events,
        weight=hook.weight,
        delete_policies=hook.delete_policies,
    )


def _objects(
    record: PlanRecord,
    comparison: Comparison,
    parsed: Parsed,
    show: Callable[[Object], Object],
    say: Callable[[str], str],
) -> Iterator[PlannedChange]:
    base = comparison.base
    old = read_parts(base.manifest, namespace=base.namespace, of=f"revision {base.deployed_revision}", parsed=parsed)
    new = read_parts(record.manifest, namespace=base.namespace or record.namespace, of="the plan", parsed=parsed)
    before, after = ({identity(obj): document for obj, document in parts} for parts in (old, new))
    live = {(change.api_version, change.kind, change.namespace, change.name): change for change in comparison.live}
    for one in compare_objects(old, new, show=show):
        found, known = live.get((one.api_version, one.kind, one.namespace, one.name)), identity(one)
        change, fields = ("removed", []) if one.change == "removed" else _against_live(found, show)
        yield PlannedChange(
            api_version=one.api_version,
            kind=one.kind,
            namespace=one.namespace,
            name=one.name,
            change=one.change,
            fields=one.fields,
            live_change=change,
            live_fields=fields,
            problem=say(found.problem) if found is not None else "",
            old=show(before[known]) if known in before and one.change != "unchanged" else None,
            new=show(after[known]) if known in after and one.change != "unchanged" else None,
        )


def _against_live(found: LiveChange | None, show: Callable[[Object], Object]) -> tuple[Change, list[FieldDifference]]:
    if found is None or found.problem or (found.applied is None and not found.unchanged):
        return "unknown", []
    if found.unchanged or found.applied is None:
        return "unchanged", []
    if found.live is None:
        return "added", []
    obj = ManifestObject(found.api_version, found.kind, found.namespace, found.name, ())
    return "changed", compare_fields(obj, found.live, found.applied, show=show)
