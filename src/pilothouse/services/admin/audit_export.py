"""All audit rows that match, page by page, for whoever keeps them elsewhere."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from pilothouse.services.admin.audit import Audit
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.standing import Standing
from pilothouse.store.audit import AuditFilter, AuditPlace, AuditRow

_PAGE: Final = 500
#: Of one export; a year of a busy account is read in parts, each of which begins where the one before ended.
MOST_ROWS: Final = 100_000


@dataclass(frozen=True)
class ExportPage:
    """Rows, newest first; ``cut``: the place after which an export goes on that has reached its limit, else None."""

    rows: list[AuditRow]
    cut: AuditPlace | None = None


class AuditExport:
    """Read the rows of an account in pages, so that neither the database nor this process holds many."""

    def __init__(self, audit: Audit, standing: Standing, *, most: int = MOST_ROWS) -> None:
        self._audit = audit
        self._standing = standing
        self._most = most

    async def pages(
        self, caller: Caller, filters: AuditFilter, *, after: AuditPlace | None
    ) -> AsyncIterator[ExportPage]:
        """Yield the matching rows, newest first; the caller's rights are checked again every few seconds."""
        caller.require_in_account("pilothouse:audit:read")
        left = self._most
        while True:
            caller = await self._standing.ask(caller, after_seconds=self._standing.again_seconds)
            page = await self._audit.list_rows(caller, filters, after=after, limit=min(_PAGE, left))
            left -= len(page.rows)
            after = page.next
            yield ExportPage(page.rows, after if not left else None)
            if after is None or not left:
                return
