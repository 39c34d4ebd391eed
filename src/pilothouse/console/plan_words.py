"""What a plan says in words: what it is compared with and why, the options chosen, and options by the form's names."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from pilothouse.console.texts import Texts, gettext, gettext_noop
from pilothouse.services.releases.plan_changes import PlannedChange, PlannedChanges
from pilothouse.services.releases.plan_records import Comparison, PlanRecord
from pilothouse.states import Action

OPTIONS: Final = Texts({
    "create_namespace": gettext_noop("Create the namespace if it is missing"),
    "rollback_on_failure": gettext_noop("If it fails, undo it"),
    "no_hooks": gettext_noop("Run no hooks"),
    "take_ownership": gettext_noop("Take over objects that exist already, whosever they are"),
    "force_conflicts": gettext_noop("Take over fields that other programs manage"),
    "keep_history": gettext_noop("Keep the history"),
    "skip_schema_validation": gettext_noop("Do not judge the values by the chart's schema"),
})  # fmt: skip
#: What becomes of the values that a release has.
MODES: Final = Texts({
    "replace": gettext_noop("the text is all"),
    "reset_then_reuse": gettext_noop("what was given is kept, and the text laid over it"),
    "reuse": gettext_noop("everything is kept as it is now, and the text laid over it"),
})  # fmt: skip
WAITS: Final = Texts({
    "none": gettext_noop("not: only for hooks"),
    "ready": gettext_noop("until objects are ready"),
    "jobs": gettext_noop("until Jobs are complete, too"),
})  # fmt: skip
CRDS: Final = Texts({
    "skip": gettext_noop("skip"),
    "create": gettext_noop("create"),
    "replace": gettext_noop("replace"),
})  # fmt: skip
_NAMES: Final = "|".join(OPTIONS)
_NAMED: Final = re.compile(rf"(?P<order>\bset )?(?<![\w./'\"-])(?:options\.)?(?P<name>{_NAMES})\b")


def name_options(text: str) -> str:
    """Return a text of the services with options as the forms name them instead of the API's fields."""
    return _NAMED.sub(_name, text)


def _name(found: re.Match[str]) -> str:
    option = OPTIONS[found["name"]]
    return gettext("choose the option “%(option)s”", option=option) if found["order"] else f"“{option}”"


def tell_order(record: PlanRecord) -> str:
    """Return what applying the plan does, as its button says it."""
    name = record.release_name
    if record.action is Action.INSTALL:
        return gettext("Install %(name)s", name=name)
    if record.action is Action.UPGRADE:
        return gettext("Upgrade %(name)s", name=name)
    if record.action is Action.ROLLBACK:
        number = record.order.get("to_revision", "")
        return gettext("Roll %(name)s back to revision %(number)s", name=name, number=number)
    return gettext("Uninstall %(name)s", name=name)


def count_hooks_left_out(record: PlanRecord) -> int:
    """Return how many hooks of an uninstall are not run because the plan runs none."""
    if record.action is not Action.UNINSTALL or not record.order.get("disable_hooks"):
        return 0
    return int(record.order.get("hooks") or 0)


def tell_base(record: PlanRecord, comparison: Comparison) -> str:
    """Return why the plan is compared with another revision than the newest; empty if it is with that one."""
    newest, deployed = record.base.revision, comparison.base.deployed_revision
    if not newest or newest == deployed:
        return ""
    if record.action is Action.UNINSTALL:
        said = gettext_noop(
            "Revision %(newest)s is not deployed; compared with revision %(deployed)s, the last that was deployed."
        )
    else:
        said = gettext_noop(
            "Revision %(newest)s failed; compared with revision %(deployed)s, the last that was deployed."
        )
    return gettext(said, newest=newest, deployed=deployed)


def name_change(change: PlannedChange) -> str:
    """Return what an apply does to an object: one that the revision has and the cluster lost or changed is mended."""
    mended = {"added": "created again", "changed": "put back"} if change.change == "unchanged" else {}
    return mended.get(str(change.live_change), change.change)


def count_live(record: PlanRecord, changes: PlannedChanges) -> dict[str, int]:
    """Return how many objects an apply changes in the cluster, where that is not what it changes of the revision."""
    counted = Counter(str(obj.live_change) for obj in changes.objects)
    if record.action not in {Action.UPGRADE, Action.ROLLBACK}:
        return {}
    differs = any(counted[name] != changes.summary.get(name, 0) for name in ("added", "changed", "removed"))
    return {name: counted[name] for name in (*changes.summary, "unknown")} if differs else {}


def list_options(record: PlanRecord, *, limit_seconds: float) -> list[tuple[str, str]]:
    """Return the options of the plan as its form names them, each with what was chosen.

    ``limit_seconds``: the server's own limit, which counts where none was chosen.
    """
    order, options = record.order, record.order.get("options") or {}
    seconds = record.operation.get("timeout_seconds")
    limit = gettext("%(number)s s, the server's", number=int(limit_seconds))
    found = [
        (gettext("Wait"), WAITS.get(str(order.get("wait", "")), "")),
        (gettext("Time limit"), gettext("%(number)s s", number=seconds) if seconds else limit),
    ]
    if record.action in {Action.INSTALL, Action.UPGRADE}:
        found.append((gettext("CRDs of the chart"), CRDS.get(str(order.get("crds", "")), "")))
    checks = read_checks(order)
    if checks.get("no_hooks"):
        found.append((gettext("Hooks"), gettext("none is run")))
    found += [(OPTIONS[name], gettext("yes")) for name in OPTIONS if name != "no_hooks" and checks.get(name)]
    found.append((gettext("Description"), str(options.get("description") or order.get("description") or "")))
    return [(name, said) for name, said in found if said]


def read_checks(order: Mapping[str, Any]) -> dict[str, Any]:
    """Return an order with its options in one mapping, by the names of the form."""
    return {"no_hooks": order.get("disable_hooks"), **order, **(order.get("options") or {})}
