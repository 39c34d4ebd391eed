"""One release and its parts."""

from typing import Annotated

from fastapi import Query

from pilothouse.api.v1.dependencies import CurrentCaller, service
from pilothouse.api.v1.models import OptionalBlank
from pilothouse.api.v1.release_models import ReleaseDetailView
from pilothouse.api.v1.routing import native_router
from pilothouse.services.releases.details import Place, ReleaseDetail, ReleaseDetails

router = native_router("/api/v1/clusters/{cluster}/namespaces/{namespace}/releases/{name}", tag="releases")
DetailsService = Annotated[ReleaseDetails, service(ReleaseDetails)]
Revision = Annotated[
    int | None, Query(ge=1, le=2**31 - 1, description="of this revision; without it, of the newest"), OptionalBlank
]


@router.get("", response_model=ReleaseDetailView)
async def show_release(
    *,
    cluster: str,
    namespace: str,
    name: str,
    caller: CurrentCaller,
    details: DetailsService,
    revision: Revision = None,
) -> dict[str, object]:
    """Show a release as it is now, or one of its revisions. `cluster` is an id or a name."""
    return _view(await details.show(caller, Place(cluster, namespace, name), revision=revision))


def _view(detail: ReleaseDetail) -> dict[str, object]:
    return {**vars(detail.release), **vars(detail), "operation": detail.underway}
