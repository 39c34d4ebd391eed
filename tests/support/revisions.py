"""Revisions of a release as an attempt finds them, operations as their rows tell, and the sentences about both."""

import re
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from pilothouse.kubernetes.helm_secrets import LOCKED, OPERATION_LABEL, StoredRelease
from pilothouse.kubernetes.release_labels import ReleaseLabels
from pilothouse.store.operations import OperationRow
from pilothouse.worker.state import FINAL, ReleaseSnapshot

OURS, HELM = "operation-1", ""
#: The target of a rollback of a Helm that does not store it.
NONE = 0
NOW = datetime(2026, 1, 1, tzinfo=UTC)
CUT_OFF = 'Upgrade "web" failed: Get "https://10.0.0.1": dial tcp 10.0.0.1:443: connect: connection refused'
DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("operations.md", "decisions/0007-updates-and-deletes.md", "decisions/0010-cancel.md")
PROMISES = re.sub(r"\s+", " ", " ".join((DOCS / page).read_text() for page in PAGES))
#: Said of every action and of every cancel.
FOREIGN = "If ownership is uncertain, the revision is treated as foreign and left untouched."
OVERTAKEN = "If another program wrote a newer revision meanwhile, nothing is done again"
RECREATED = "one that others recreated is left untouched"
REFUSED = 'Upgrade "web" failed: resource Job/shop/migrate not ready. status: Failed, message: Job Failed'


@dataclass(frozen=True)
class Revision:
    """One revision, and who made it: the operation of the rows below, or another program (``HELM``)."""

    number: int
    status: str
    by: str = HELM
    description: str = "Upgrade complete"
    unlocked: bool = False
    version: str = "1"
    remade: bool = False
    target: int | None = None

    @property
    def uid(self) -> str:
        return f"uid-{self.number}" + ("-anew" if self.remade else "")

    def labels(self) -> ReleaseLabels:
        labels = {OPERATION_LABEL: self.by} if self.by else {}
        return ReleaseLabels(self.number, self.status, labels, self.uid, self.version)

    def stored(self) -> StoredRelease:
        seen = self.labels()
        return StoredRelease(
            namespace="shop",
            name="web",
            chart_name="web",
            chart_version="1.0.0",
            manifest="",
            target_namespace="shop",
            first_deployed=NOW,
            last_deployed=NOW,
            created_at=NOW,
            acted_at=NOW,
            values={},
            chart_values={},
            config={},
            revision=seen.revision,
            status=seen.status,
            description=self.description,
            labels=seen.labels,
            uid=seen.uid,
            resource_version=seen.resource_version,
            unlocked=self.unlocked,
            rollback_revision=self.description.startswith("Rollback ") if self.target is None else self.target,
        )


def operation(action: str, **facts: Any) -> OperationRow:
    """Return the row of ``OURS``; what is not named is empty."""
    empty: dict[str, Any] = {one.name: None for one in fields(OperationRow)}
    return OperationRow(
        **(empty | {"id": OURS, "action": action, "attempt": 1, "base_uid": "", "base_version": ""} | facts)
    )


def begun(action: str, *, number: int, base: Revision | None) -> OperationRow:
    """Return the same after an attempt that committed ``base`` as the newest revision, and the number to write."""
    facts = {} if base is None else {"base_revision": base.number, "base_uid": base.uid, "base_version": base.version}
    return operation(action, attempt=2, last_writing_attempt=1, revision=number, **facts)


def seen(*revisions: Revision) -> ReleaseSnapshot:
    return ReleaseSnapshot(tuple(one.labels() for one in revisions))


FIRST = Revision(1, "deployed")
BEFORE = replace(FIRST, status="superseded")
SECOND = Revision(2, "deployed")
BROKEN = Revision(1, "failed", description=REFUSED)


STATUSES = st.sampled_from(sorted(FINAL | LOCKED | {"uninstalled", "unknown"}))
DESCRIPTIONS = st.sampled_from(["Upgrade complete", "Rollback to 1", REFUSED, CUT_OFF])
REVISIONS = st.builds(
    Revision,
    number=st.integers(1, 4),
    status=STATUSES,
    by=st.sampled_from([OURS, HELM, "operation-2"]),
    description=DESCRIPTIONS,
    unlocked=st.booleans(),
    version=st.sampled_from(["1", "2"]),
    remade=st.booleans(),
)
HISTORIES = st.lists(REVISIONS, max_size=4, unique_by=lambda one: one.number).map(
    lambda found: sorted(found, key=lambda one: one.number)
)
ACTIONS = st.sampled_from(["install", "upgrade", "rollback", "uninstall"])
ROWS = st.builds(
    lambda action, number, base: operation(action) if number is None else begun(action, number=number, base=base),
    ACTIONS,
    st.none() | st.integers(1, 4),
    st.none() | REVISIONS,
)
