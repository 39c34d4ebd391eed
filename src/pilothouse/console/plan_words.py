"""What a plan says in words: what it is compared with and why, the options chosen, and options by the form's names."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from pilothouse.services.releases.plan_changes import PlannedChanges
from pilothouse.services.releases.plan_records import Comparison, PlanRecord
from pilothouse.states import Action, ReleaseStatus

OPTIONS: Final = {
    "create_namespace": "Create the namespace if it is missing",
    "rollback_on_failure": "If it fails, undo it",
    "no_hooks": "Run no hooks",
    "take_ownership": "Take over objects that exist already, whosever they are",
    "force_conflicts": "Take over fields that other programs manage",
    "skip_schema_validation": "Do not judge the values by the chart's schema",
}
WAITS: Final = {
    "none": "not: only for hooks",
    "ready": "until objects are ready",
    "jobs": "until Jobs are complete, too",
}
CRDS: Final = {"skip": "skip", "create": "create", "replace": "replace"}
_NAMES: Final = "|".join(OPTIONS)
_NAMED: Final = re.compile(rf"(?P<order>\bset )?(?<![\w./'\"-])(?:options\.)?(?P<name>{_NAMES})\b")


def name_options(text: str) -> str:
    """Return a text of the services with options as the forms name them instead of the API's fields."""
    return _NAMED.sub(_name, text)


def _name(found: re.Match[str]) -> str:
    return ("choose the option " if found["order"] else "") + f"“{OPTIONS[found['name']]}”"


def tell_base(record: PlanRecord, comparison: Comparison) -> str:
    """Return why the plan is compared with another revision than the newest; empty if it is with that one."""
    newest, deployed = record.base.revision, comparison.base.deployed_revision
    if not newest or newest == deployed:
        return ""
    what = "is not deployed" if record.action is Action.UNINSTALL else ReleaseStatus.FAILED.value
    return f"Revision {newest} {what}; compared with revision {deployed}, the last that was deployed."


def count_live(record: PlanRecord, changes: PlannedChanges) -> dict[str, int]:
    """Return how many objects an apply changes in the cluster, where that is not what it changes of the revision."""
    counted = Counter(str(one.live_change) for one in changes.objects)
    if record.action not in {Action.UPGRADE, Action.ROLLBACK}:
        return {}
    differs = any(counted[name] != changes.summary.get(name, 0) for name in ("added", "changed", "removed"))
    return {name: counted[name] for name in (*changes.summary, "unknown")} if differs else {}


def list_options(record: PlanRecord) -> list[tuple[str, str]]:
    """Return the options of the plan as its form names them, each with what was chosen."""
    order, options = record.order, record.order.get("options") or {}
    seconds = record.operation.get("timeout_seconds")
    found = [
        ("Wait", WAITS.get(str(order.get("wait", "")), "")),
        ("Time limit", f"{seconds} s" if seconds else "the server's"),
    ]
    if record.action in {Action.INSTALL, Action.UPGRADE}:
        found.append(("CRDs of the chart", CRDS.get(str(order.get("crds", "")), "")))
    found += [(OPTIONS[name], "yes") for name in OPTIONS if read_checks(order).get(name)]
    found.append(("Description", str(options.get("description") or order.get("description") or "")))
    return [(name, said) for name, said in found if said]


def read_checks(order: Mapping[str, Any]) -> dict[str, Any]:
    """Return an order with its options in one mapping, by the names of the form."""
    return {"no_hooks": order.get("disable_hooks"), **order, **(order.get("options") or {})}
