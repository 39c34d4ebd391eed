"""The audit log of an account: who did what, from where, and the outcome. For the account's administrators."""

from typing import Annotated, Any, Final

from fastapi import Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from pilothouse.api.v1.dependencies import CurrentCaller, service
from pilothouse.api.v1.models import GOES_ON, PAGED, Limit, Milliseconds, OptionalBlank, Time, View
from pilothouse.api.v1.routing import native_router
from pilothouse.http.audit import LINES, lines_of, note_read, read_place, write_place
from pilothouse.http.release_queries import MARKER
from pilothouse.services.admin.audit import Audit
from pilothouse.services.admin.audit_export import AuditExport
from pilothouse.store.audit import AuditFilter, AuditRow, Outcome

router = native_router("/api/v1/audit", tag="audit")


class AuditView(View):
    """An action: done, denied for lack of a role, or failed; ``times``: repeats since ``at``.

    What is sent to another server is ``started`` first; a second row of the same request says how it ended.
    """

    id: int
    at: Milliseconds
    user_id: str
    user: Annotated[str, Field(validation_alias="user_name")]
    project_id: str
    project: Annotated[str, Field(validation_alias="project_name")]
    address: Annotated[str, Field(validation_alias="source")]
    action: str
    target: str
    target_name: str
    outcome: Outcome
    detail: str
    times: int
    request_id: str
    operation_id: str


#: Besides the list.
_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {**PAGED[200], "content": {LINES: {"schema": {"type": "string"}}}}
}


@router.get("", response_model=list[AuditView], responses=_ANSWERS)
async def list_rows(
    *,
    request: Request,
    response: Response,
    caller: CurrentCaller,
    audit: Annotated[Audit, service(Audit)],
    export: Annotated[AuditExport, service(AuditExport)],
    since: Annotated[Time | None, Query(description="only from this time on (RFC 3339, with a zone)")] = None,
    until: Annotated[Time | None, Query(description="only before this time")] = None,
    user: Annotated[str, Query(description="only of the user of this id or name")] = "",
    project: Annotated[str, Query(description="only in the project of this id or name")] = "",
    action: Annotated[str, Query(description="only this action; `iam:*` for all that begin so")] = "",
    target: Annotated[str, Query(description="only what was done to this id or name")] = "",
    outcome: Annotated[Outcome | None, Query(description="only with this outcome"), OptionalBlank] = None,
    address: Annotated[str, Query(description="only from this address")] = "",
    cluster: Annotated[str, Query(description="only in the cluster of this id or name")] = "",
    namespace: Annotated[str, Query(description="only what was done to releases of this namespace")] = "",
    limit: Limit = 100,
    marker: Annotated[str, Query(description=GOES_ON)] = "",
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> list[AuditRow] | Response:
    """List the account's audit rows, newest first. For administrators of the account.

    With `Accept: application/x-ndjson` all of them as JSON lines, whatever the `limit`, in the same form; after 100,000
    rows the last line is `{"marker": …}`, which goes on from there.

    Rows of events that change nothing appear some seconds late, and repeats within a minute (reads of values,
    downloads: ten) are one row with a counter, `times`, and the time of the first. Requests that name no user
    of the account are not shown.
    """
    place = read_place(marker)
    words = {"user": user, "project": project, "action": action, "target": target, "source": address}
    where = {"cluster": cluster, "namespace": namespace}
    given: dict[str, Any] = {name: text or None for name, text in (words | where).items()}
    filters = AuditFilter(since=since, until=until, outcome=outcome, **given)
    if LINES in accept.lower():
        caller.require_in_account("pilothouse:audit:read")
        note_read(
            request, "pilothouse:audit:read", target=caller.domain_id, target_name=caller.domain_name, detail="export"
        )
        return StreamingResponse(lines_of(export.pages(caller, filters, after=place)), media_type=LINES)
    page = await audit.list_rows(caller, filters, after=place, limit=limit)
    if page.next is not None:
        response.headers[MARKER] = write_place(page.next)
    return page.rows
