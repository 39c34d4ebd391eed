"""``make docs``: writes docs/reference/events.md from the code's events and the meanings here; a test compares."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from pilothouse.engine import phases
from pilothouse.states import WebhookEvent

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference" / "events.md"
SOURCE = ROOT / "src" / "pilothouse"
_HEAD = """\
# Events

This page is generated from the code by `make docs`. Events of the log have [a page of their own](log-events.md).

## Of operations

`GET /api/v1/operations/ID/events` and `pilothouse operation events` give them in their order, each with `kind`, `text`
and, where it is named here, `data` ([operations.md](../operations.md#following-an-operation)). The end is no event: it
is the state of the operation.
"""
_PROGRESS = {
    "render": "rendering",
    "apply": "applying 12 of 40 objects: Deployment web",
    "delete": "deleting Job web-migrate",
    "hook": "running hook Job web-migrate: 0 of 1 completed, pod web-migrate-x7x2q: container main: ImagePullBackOff …",
    "wait": "waiting for Deployment web: 1 of 3 ready, pod web-5d8f-abcde: Unschedulable: 0/3 nodes are available …",
}
#: Each kind that is written by name.
MEANINGS = {
    "action_resumed": "attempt 2 re-runs the upgrade",
    "cancel_requested": "who requested the cancel",
    "failure_undone": 'Upgrade "web" failed: …; what it did is being undone (`rollback_on_failure`)',
    "hooks_not_run": "post-install hooks not run",
    "hooks_removed": "objects of hooks that an interrupted attempt had started, removed: Job/web-migrate",
    "left_behind": "objects that an undo, or hooks, left; `data.objects` says what they are and why they are left",
    "object_left": 'ConfigMap shared: left alone, because it belongs to release "b" in namespace "shop"; or kept',
    "objects_not_repaired": "objects that the repair after an interrupted attempt had to leave",
    "objects_repaired": "objects that the repair after an interrupted attempt re-applied",
    "orphans_left": "objects that are no longer part of the release and could not be removed, and why",
    "orphans_removed": "objects that a success, or the repair after an interrupted attempt, removed",
    "other_manager_found": "another program that manages the release",
    "workloads_not_restarted": "workloads that `recreate` could not restart, and why",
    "workloads_restarted": "workloads that `recreate` restarted: Deployment/web",
    "tests_run": "web-connection: Succeeded, web-login: Failed; `data.tests` has `kind`, `name` and `phase` of each",
}
WEBHOOKS = {
    WebhookEvent.OPERATION_ENDED: "An operation has ended, in whatever state.",
    WebhookEvent.DRIFT_CHANGED: "A release has drifted from what was deployed, or has drifted no longer.",
    WebhookEvent.PING: "Somebody tries the webhook out.",
}


def main() -> int:
    """Write the page."""
    PAGE.write_text(page())
    print(f"wrote {PAGE}")
    return 0


def kinds() -> set[str]:
    """Return every kind of an operation's event that the source names."""
    return {kind for file in SOURCE.rglob("*.py") for kind in _kinds(ast.parse(file.read_text()))}


def _kinds(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        given = [keyword.value for keyword in node.keywords if keyword.arg == "kind"] if name == "add_event" else []
        if name in {"Event", "named_objects_event"} or (name == "record" and _is_attempt(node.func)):
            given = node.args[:1]
        for one in given:
            if isinstance(one, ast.Constant) and isinstance(one.value, str):
                yield one.value


def _is_attempt(called: ast.expr) -> bool:
    """Return True for ``attempt.record``, ``self._attempt.record`` and, in the attempt itself, ``self.record``."""
    owner = called.value if isinstance(called, ast.Attribute) else called
    return (owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")) in {
        "attempt",
        "_attempt",
        "self",
    }


def page() -> str:
    """Return the page as it belongs in docs/reference/events.md; KeyError: a phase has no meaning."""
    told = {f"{phase}_progress": _PROGRESS[phase] for phase in phases.WAITING | phases.WORKING} | MEANINGS
    lasts = "\nOf those that end in `_progress` only the latest is written, at most twice a second and if it changed."
    return "\n".join(
        [
            _HEAD,
            *_table("kind", "example or meaning", told),
            lasts,
            "\n## Of webhooks\n\n`event` of a [message](../webhooks.md#what-it-is-told):\n",
            *_table("event", "meaning", {str(event): WEBHOOKS[event] for event in WebhookEvent}),
            "",
        ]
    )


def _table(head: str, words: str, rows: dict[str, str]) -> list[str]:
    return [f"| {head} | {words} |", "|---|---|", *(f"| `{name}` | {rows[name]} |" for name in sorted(rows))]


if __name__ == "__main__":
    sys.exit(main())
