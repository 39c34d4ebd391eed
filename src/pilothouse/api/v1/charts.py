"""Lists of uploaded charts, by name, version and digest; the compatible API uploads, changes and sends them."""

from typing import Annotated

from fastapi import Query

from pilothouse.api.v1.dependencies import CurrentCaller, service
from pilothouse.api.v1.models import Limit, Seconds, View
from pilothouse.api.v1.routing import native_router
from pilothouse.services.charts.archives import Charts

_LONGEST = 256

router = native_router("/api/v1/charts", tag="charts")


class ChartView(View):
    """A chart version without its values; ``digest`` is the SHA-256 of its archive in hex.

    ``signed_by``: who signed it by a key that the project trusts: the name in the key, or its fingerprint; else empty.
    """

    id: str
    name: str
    version: str
    digest: str
    description: str
    source: str
    visible: bool
    signed_by: str
    created_at: Seconds
    updated_at: Seconds


@router.get("", response_model=list[ChartView])
async def list_charts(
    *,
    caller: CurrentCaller,
    charts: Annotated[Charts, service(Charts)],
    name: Annotated[str, Query(max_length=_LONGEST, description="only of this name")] = "",
    version: Annotated[str, Query(max_length=_LONGEST, description="only of this version")] = "",
    digest: Annotated[
        str, Query(max_length=_LONGEST, description="only with this archive: its SHA-256 in lower-case hex")
    ] = "",
    limit: Limit = 100,
) -> list[dict[str, object]]:
    """List the project's charts, newest first, the first `limit` of those that the filters allow."""
    found = await charts.list_versions(caller, name=name, version=version, digest=digest, limit=limit)
    signers = await charts.list_signers(caller, [version.digest for version in found])
    return [{**vars(version), "signed_by": signers.get(version.digest, "")} for version in found]
