"""Chart management of the CCE API: upload, list, show.

The upload form differs by client: parts in any order, a path as file name, with or without part types.
Name and version come from Chart.yaml, never from the file name.
"""

from fastapi import APIRouter, Request, Response
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException

from pilothouse.cce.models import ChartParameters, chart_resp
from pilothouse.errors import InvalidRequest, UnsupportedContentType
from pilothouse.services.charts import Charts, UploadOptions
from pilothouse.web.requests import caller_of, json_response, parse_json, request_id_of


def routes(charts: Charts) -> APIRouter:
    """The chart routes."""
    router = APIRouter(prefix="/v2/charts")

    @router.post("")
    async def upload_chart(request: Request) -> Response:
        archive, options = await _read_form(request)
        row = await charts.upload(
            caller_of(request), archive=archive, options=options, request_id=request_id_of(request)
        )
        return json_response(chart_resp(row), status_code=201)

    @router.get("")
    async def list_charts(request: Request) -> Response:
        return json_response([chart_resp(row) for row in await charts.list_charts(caller_of(request))])

    @router.get("/{chart_id}")
    async def show_chart(request: Request, chart_id: str) -> Response:
        return json_response(chart_resp(await charts.show(caller_of(request), chart_id)))

    return router


async def _read_form(request: Request) -> tuple[bytes, UploadOptions]:
    content_type = request.headers.get("content-type", "")
    if content_type.split(";")[0].strip().lower() != "multipart/form-data":
        raise UnsupportedContentType(
            "Content-Type: a chart is uploaded as multipart/form-data with the parts 'content' (the .tgz) and, "
            "optionally, 'parameters' (JSON text)"
        )
    try:
        form = await request.form(max_files=4, max_fields=16, max_part_size=64 * 1024)
    except (HTTPException, MultiPartException, KeyError, UnicodeDecodeError, ValueError) as error:
        reason = getattr(error, "detail", None) or getattr(error, "message", None) or str(error)
        raise InvalidRequest(f"the multipart form cannot be read: {reason}") from error
    try:
        content, parameters = form.get("content"), form.get("parameters")
        if content is None:
            raise InvalidRequest("content: missing; send the chart archive (.tgz) as the form's part 'content'")
        archive = await content.read() if isinstance(content, UploadFile) else content.encode("utf-8", "replace")
        if isinstance(parameters, UploadFile):
            parameters = (await parameters.read()).decode("utf-8", "replace")
    finally:
        await form.close()
    wanted = ChartParameters()
    if parameters is not None and parameters.strip():
        wanted = parse_json(parameters, ChartParameters, where="parameters")
    return archive, UploadOptions(
        override=wanted.override, visible=wanted.visible, skip_lint=wanted.skip_lint, source=wanted.source
    )
