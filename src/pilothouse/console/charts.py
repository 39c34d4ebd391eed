"""Charts: what is uploaded, and uploading more."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pilothouse.chart_archive.yaml_text import dump_yaml
from pilothouse.console import csrf
from pilothouse.console.rendering import HEADERS, page, refusal
from pilothouse.console.requests import caller_of, here, see_other, wrong
from pilothouse.console.session import session_of
from pilothouse.console.texts import gettext
from pilothouse.errors import PilothouseError
from pilothouse.http.errors import Refusal
from pilothouse.http.multipart import read_form as read_multipart
from pilothouse.http.requests import request_id_of, service_of
from pilothouse.off_loop import off_loop
from pilothouse.services.charts.archives import Charts, Upload
from pilothouse.services.charts.signatures import MOST_BYTES
from pilothouse.store.charts import ChartCursor, ChartRow

_TEXTS: Final = {csrf.FIELD: 200, "override": 10, "skip_lint": 10, "provenance": MOST_BYTES}


async def list_charts(request: Request, *, refused: Refusal | None = None) -> Response:
    """List the project's charts, newest first."""
    caller, charts = caller_of(request), service_of(request, Charts)
    after = _read_place(request.query_params.get("marker", ""))
    async with charts.listed(caller, after=after) as found:
        rows, rest = list(found.charts), found.rest
    quota = await charts.quota(caller, caller.project_id)
    signers = await charts.list_signers(caller, [row.digest for row in rows])
    return await page(
        request,
        "charts.html",
        refused=refused,
        rows=rows,
        signers=signers,
        after=_write_place(rest) if rest is not None else "",
        is_first=after is None,
        quota=quota,
    )


def _write_place(place: ChartCursor) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([place.created_at, place.id])).decode()


def _read_place(text: str) -> ChartCursor | None:
    if not text:
        return None
    try:
        moment, chart_id = orjson.loads(base64.b64decode(text, altchars=b"-_", validate=True))
        at, known = datetime.fromisoformat(moment), str(chart_id)
    except (binascii.Error, ValueError, TypeError):
        at, known = None, ""
    if at is None or at.tzinfo is None or at.year not in range(1970, 9999) or "\0" in known:
        raise wrong("marker", gettext("it is none of this list; begin at its first page"))
    return ChartCursor(at, known)


async def upload(request: Request) -> Response:
    """Store the archive of the form; what Helm's lint warns about is shown."""
    caller = caller_of(request)
    try:
        caller.require("cce:chart:upload")  # before a large form is looked into
        async with read_multipart(request, file="content", texts=_TEXTS) as form:
            csrf.check(request, session_of(request), form.texts.get(csrf.FIELD, ""))
            sent = Upload(
                archive=form.file,
                override=bool(form.texts.get("override")),
                skip_lint=bool(form.texts.get("skip_lint")),
                provenance=form.texts.get("provenance", ""),
            )
            row = await service_of(request, Charts).upload(caller, sent, request_id=request_id_of(request))
    except PilothouseError as error:
        return await list_charts(request, refused=refusal(request, error))
    if sent.warnings or sent.provenance_ends:
        return await _page_of(request, row, warnings=sent.warnings, ends=sent.provenance_ends)
    return see_other(f"{here(caller)}/charts/{row.id}")


async def show_chart(request: Request) -> Response:
    """Show a chart with its default values."""
    row = await service_of(request, Charts).show(caller_of(request), request.path_params["chart_id"])
    await off_loop(row.check_values, size=len(row.values_json))
    return await _page_of(request, row)


async def _page_of(
    request: Request, row: ChartRow, *, warnings: Sequence[str] = (), ends: Mapping[Any, str] | None = None
) -> Response:
    caller, signers = caller_of(request), None
    if caller.may("cce:chart:list"):
        signers = await service_of(request, Charts).list_signers(caller, [row.digest])
    return await page(
        request,
        "chart.html",
        row=row,
        values=await _values(row.values_json),
        readme=await service_of(request, Charts).read_readme(caller, row),
        warnings=warnings,
        ends=ends or {},
        signers=signers,
    )


async def send_schema(request: Request) -> Response:
    """Send the schema of the chart's values as it is in the archive."""
    schema = await service_of(request, Charts).read_schema(caller_of(request), request.path_params["chart_id"])
    return Response(schema, media_type="application/json", headers=HEADERS)


async def _values(text: str) -> str:
    values = await off_loop(lambda: orjson.loads(text), size=len(text))
    return await off_loop(lambda: dump_yaml(values), size=len(text) * 8) if values else ""


ROUTES: Final = [
    Route("/charts", list_charts, methods=["GET"]),
    Route("/charts", upload, methods=["POST"]),
    Route("/charts/{chart_id}", show_chart, methods=["GET"]),
    Route("/charts/{chart_id}/schema", send_schema, methods=["GET"]),
]
