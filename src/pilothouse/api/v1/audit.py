"""The audit of an account: who did what, from where, and how it went. For the account's administrators."""

import re

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from pilothouse.errors import InvalidRequest
from pilothouse.http.openapi import asks
from pilothouse.http.requests import caller_of, json_response, parse_time
from pilothouse.services.admin.audit import Audit
from pilothouse.store.audit import AuditRow, Outcome, Wanted

_MARKER = "X-Pilothouse-Marker"
_MOST = 500


class AuditView(BaseModel):
    """Something that was done, denied for lack of a role, or failed for lack of a proof; ``times``: from ``at`` on."""

    id: int
    at: str
    user_id: str
    user: str
    project_id: str
    project: str
    address: str
    action: str
    target: str
    target_name: str
    outcome: str
    detail: str
    times: int
    request_id: str
    operation_id: str


def routes(audit: Audit) -> APIRouter:
    """The route about the audit."""
    router = APIRouter(prefix="/api/v1/audit", tags=["audit"])

    @router.get(
        "",
        response_model=list[AuditView],
        openapi_extra=asks(
            since="only from this time on (RFC 3339, with a zone)",
            until="only before this time",
            user="only of the user of this id or name",
            project="only in the project of this id or name",
            action="only this action; `iam:*` for all that begin so",
            target="only what was done to this id or name",
            outcome=f"only with this outcome: {', '.join(Outcome)}",
            address="only from this address",
            limit=f"1 to {_MOST}, else 100",
            marker=f"goes on where {_MARKER} of the part before says",
        ),
    )
    async def list_rows(request: Request) -> Response:
        """The account's rows, newest first. For administrators of the account.

        What changes nothing comes seconds late, and the same again within a minute (reads of values, downloads: ten) is
        one row with its number of `times`. Of strangers who name no user of the account nothing is shown.
        """
        query = request.query_params
        outcome = query.get("outcome") or None
        if outcome is not None and outcome not in tuple(Outcome):
            raise InvalidRequest(f"outcome: {outcome[:100]!r} is not one of {', '.join(Outcome)}")
        page = await audit.list_rows(
            caller_of(request),
            Wanted(
                since=parse_time("since", query.get("since")),
                until=parse_time("until", query.get("until")),
                user=query.get("user") or None,
                project=query.get("project") or None,
                action=query.get("action") or None,
                target=query.get("target") or None,
                outcome=outcome,
                source=query.get("address") or None,
            ),
            before=_number("marker", query.get("marker"), most=2**63 - 1),
            limit=_number("limit", query.get("limit"), most=_MOST) or 100,
        )
        headers = {_MARKER: str(page.next)} if page.next is not None else None
        return json_response([_view(row) for row in page.rows], headers=headers)

    return router


def _view(row: AuditRow) -> dict[str, object]:
    return AuditView(
        id=row.id,
        at=row.at.isoformat(timespec="milliseconds"),
        user_id=row.user_id,
        user=row.user_name,
        project_id=row.project_id,
        project=row.project_name,
        address=row.source,
        action=row.action,
        target=row.target,
        target_name=row.target_name,
        outcome=row.outcome,
        detail=row.detail,
        times=row.times,
        request_id=row.request_id,
        operation_id=row.operation_id,
    ).model_dump()


def _number(name: str, text: str | None, *, most: int) -> int | None:
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,19}", text, re.ASCII) or not 1 <= int(text) <= most:
        raise InvalidRequest(f"{name}: {text[:100]!r} is not a whole number from 1 to {most}")
    return int(text)
