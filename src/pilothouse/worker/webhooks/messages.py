"""What a webhook is told, as JSON or as a line for Slack. Texts are masked, and hold no values in the first place."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pilothouse.redaction import redact
from pilothouse.states import OperationState, WebhookEvent, WebhookFormat
from pilothouse.store.webhook_outbox import DueMessage, EndedFacts

_LONGEST_TEXT: Final = 4000
_LONGEST_LINE: Final = 500


@dataclass(frozen=True)
class DriftFacts:
    """What is told of a change of drift: numbers of objects by change, with the names of what it belongs to."""

    found: dict[str, Any]
    cluster_name: str
    project_id: str
    project_name: str


Facts = EndedFacts | DriftFacts | None


def message(due: DueMessage, facts: Facts, *, form: str) -> dict[str, Any]:
    """Return the message; ``facts`` None: a ping."""
    if form == WebhookFormat.SLACK:
        return {"text": _line(facts)}
    head = {"id": str(due.id), "event": due.event, "at": _time(due.created_at)}
    if isinstance(facts, EndedFacts):
        return {**head, **_place(facts, facts.cluster_id, facts.namespace, facts.release_name), **_operation(facts)}
    if isinstance(facts, DriftFacts):
        found = facts.found
        place = _place(facts, found["cluster_id"], found["namespace"], found["name"])
        numbers = ("drifted", "revision", "added", "changed", "removed", "unknown")
        return {**head, **place, "drift": {name: found[name] for name in numbers}}
    return {**head, "event": WebhookEvent.PING}


def _place(facts: EndedFacts | DriftFacts, cluster_id: str, namespace: str, release: str) -> dict[str, Any]:
    return {
        "project": {"id": facts.project_id, "name": facts.project_name},
        "cluster": {"id": cluster_id, "name": facts.cluster_name},
        "namespace": namespace,
        "release": release,
    }


def _operation(facts: EndedFacts) -> dict[str, Any]:
    return {
        "operation": {
            "id": facts.id,
            "action": facts.action,
            "state": facts.state,
            "description": redact(facts.status_description)[:_LONGEST_TEXT],
            "revision": facts.revision,
            "chart": {"name": facts.chart_name, "version": facts.chart_version},
            "user": {"id": facts.user_id, "name": facts.user_name},
            "request_id": facts.request_id,
            "accepted_at": _time(facts.created_at),
            "finished_at": _time(facts.finished_at) if facts.finished_at is not None else None,
        }
    }


def _line(facts: Facts) -> str:
    if isinstance(facts, EndedFacts):
        name, where = facts.release_name, f"{facts.namespace}, cluster {facts.cluster_name or facts.cluster_id}"
        text = f"{facts.action} of {name} ({where}) {_HOW.get(facts.state, facts.state)}"
        if facts.state != OperationState.SUCCEEDED and facts.status_description:
            text += f": {redact(facts.status_description)[:_LONGEST_LINE]}"
    elif isinstance(facts, DriftFacts):
        found = facts.found
        where = f"{found['namespace']}, cluster {facts.cluster_name or found['cluster_id']}"
        how = "has drifted" if found["drifted"] else "has drifted no longer"
        numbers = f"{found['changed']} changed, {found['added']} added, {found['removed']} removed"
        text = f"{found['name']} ({where}) {how}" + (f": {numbers}" if found["drifted"] else "")
    else:
        text = "Pilothouse can send messages here."
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")  # all that Slack asks for


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")


_HOW: Final[dict[str, str]] = {
    OperationState.SUCCEEDED: "succeeded",
    OperationState.FAILED: "failed",
    OperationState.CANCELLED: "was cancelled",
}
