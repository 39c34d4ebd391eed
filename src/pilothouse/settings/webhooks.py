"""Where and how long webhooks are told what happened."""

from pathlib import Path

from pydantic import Field

from pilothouse.settings.group import Group

_DAY = 24 * 3600.0


class WebhookSettings(Group):
    """Messages to webhooks about ends of operations and changes of drift."""

    allow_loopback: bool = Field(False, description="allow targets on this machine")
    allowed: str = Field(
        "",
        description="allowed networks, addresses and names of targets, each optionally with :PORT, comma-separated, as "
        "in cluster.allowed; empty: every address but this machine's, link-local ones and metadata services",
    )
    plain_http: bool = Field(
        False, description="allow http:// targets: anybody on the way can read messages, and answer in their place"
    )
    ca: Path | None = Field(None, description="PEM file of authorities that are trusted beside the system's")
    per_project: int = Field(
        10, ge=1, description="webhooks of a project; each adds a row to the end of every operation of it"
    )
    answer_seconds: float = Field(
        10.0, gt=0, le=20, description="how long a target may take to answer, the connection included"
    )
    give_up_seconds: float = Field(
        _DAY, ge=60, le=30 * _DAY, description="how long a message is tried again, at intervals that grow to an hour"
    )
    targets: int = Field(
        8, ge=1, description="targets that a worker sends to at a time, at most half of them of one project"
    )
    poll_seconds: float = Field(1.0, gt=0, description="how often a worker looks for messages that are due")
