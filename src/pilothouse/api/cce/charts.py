"""Chart management of the CCE API.

The upload form differs by client: parts in any order, a path as file name, with or without part types. Name and version
come from Chart.yaml, never from the file name. The Autopilot API has the same routes under another prefix.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
from fastapi import APIRouter, Request, Response
from starlette.responses import StreamingResponse

from pilothouse.api.cce.models import ChartParameters, chart_file_name, chart_to_wire
from pilothouse.http.audit import note_read
from pilothouse.http.json_arrays import ArrayPart, array_response
from pilothouse.http.json_bodies import parse_json
from pilothouse.http.multipart import read_form
from pilothouse.http.requests import caller_of, json_response, request_id_of, service_of
from pilothouse.off_loop import off_loop
from pilothouse.services.charts.archives import Charts, Upload
from pilothouse.services.charts.signatures import MOST_BYTES
from pilothouse.store.charts import ChartCursor

router = APIRouter()
PREFIXES = ("/v2/charts", "/autopilot/v2/charts")

#: The texts of a form, with their limits; the provenance is not the vendor's.
_TEXTS = {"parameters": 64 * 1024, "provenance": MOST_BYTES}
#: Clients and proxies take 8 KiB of headers in all, often no more.
_LINT_BYTES = 4 * 1024


@router.post("")
async def upload_chart(request: Request) -> Response:
    """Store a chart."""
    caller_of(request).require("cce:chart:upload")  # before a large form is looked into
    async with _read_upload(request) as upload:
        row = await service_of(request, Charts).upload(caller_of(request), upload, request_id=request_id_of(request))
    return json_response(chart_to_wire(row), status_code=201, headers=_upload_headers(upload))


@router.get("")
async def list_charts(request: Request) -> Response:
    """Return the charts that the caller may see, page by page."""
    caller, charts = caller_of(request), service_of(request, Charts)

    async def read(after: ChartCursor | None) -> ArrayPart[ChartCursor]:
        async with charts.listed(caller, after=after) as page:
            return ArrayPart(orjson.dumps([chart_to_wire(row) for row in page.charts]), page.rest)

    return array_response(await read(None), read)


@router.get("/{chart_id}")
async def show_chart(request: Request, chart_id: str) -> Response:
    """Return a chart."""
    return json_response(chart_to_wire(await service_of(request, Charts).show(caller_of(request), chart_id)))


@router.put("/{chart_id}")
async def update_chart(request: Request, chart_id: str) -> Response:
    """Replace a chart's archive."""
    caller_of(request).require("cce:chart:update")  # before a large form is looked into
    async with _read_upload(request) as upload:
        row = await service_of(request, Charts).update(
            caller_of(request), chart_id, upload, request_id=request_id_of(request)
        )
    return json_response(chart_to_wire(row), headers=_upload_headers(upload))


@router.delete("/{chart_id}")
async def delete_chart(request: Request, chart_id: str) -> Response:
    """Delete a chart."""
    row = await service_of(request, Charts).delete(caller_of(request), chart_id, request_id=request_id_of(request))
    return json_response(chart_to_wire(row))


@router.get("/{chart_id}/archive")
async def download_chart(request: Request, chart_id: str) -> Response:
    """Return the archive of a chart."""
    download = await service_of(request, Charts).download(caller_of(request), chart_id)
    note_read(request, "cce:chart:download", target=chart_id, target_name=chart_file_name(download.chart))
    return StreamingResponse(
        download.pieces,
        media_type="application/octet-stream",
        headers={
            "Content-Length": str(download.size),
            "Content-Disposition": f'attachment; filename="{chart_file_name(download.chart)}"',
        },
    )


@router.get("/{chart_id}/values")
async def show_chart_values(request: Request, chart_id: str) -> Response:
    """Return the default values of a chart."""
    row = await service_of(request, Charts).show(caller_of(request), chart_id)
    await off_loop(row.check_values, size=len(row.values_json))
    return json_response({"values": orjson.Fragment(row.values_json)})


@router.get("/{project_id}/quotas")
async def show_user_charts_quotas(request: Request, project_id: str) -> Response:
    """Return how many charts the project has and may have."""
    quota = await service_of(request, Charts).quota(caller_of(request), project_id)
    return json_response({"quotas": {"resources": [{"type": "Charts", "quota": quota.limit, "used": quota.used}]}})


def _upload_headers(upload: Upload) -> dict[str, str]:
    """Return what became of the provenance, and the warnings of Helm's lint.

    These as an ASCII JSON array, as many as fit into a header; none if no warnings.
    """
    warnings = upload.warnings
    while len(text := json.dumps(warnings, separators=(",", ":"))) > _LINT_BYTES:
        warnings = warnings[: len(warnings) // 2]
    ends = {f"X-Pilothouse-Provenance-{end.capitalize()}": told for end, told in upload.provenance_ends.items()}
    return {"X-Pilothouse-Lint": text, **ends} if warnings else ends


@asynccontextmanager
async def _read_upload(request: Request) -> AsyncIterator[Upload]:
    """Yield the form of an upload or update; its archive is deleted when the block ends."""
    async with read_form(request, file="content", texts=_TEXTS) as form:
        text = form.texts.get("parameters", "")
        parameters = parse_json(text, ChartParameters, where="parameters") if text.strip() else ChartParameters()
        yield Upload(
            archive=form.file,
            override=parameters.override,
            skip_lint=parameters.skip_lint,
            visible=parameters.visible,
            source=parameters.source,
            provenance=form.texts.get("provenance", ""),
        )
