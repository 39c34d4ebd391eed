"""Upgrades of several releases, each to the newest version that the source of its chart offers."""

from starlette.requests import Request

from pilothouse.console.requests import caller_of
from pilothouse.console.texts import gettext
from pilothouse.errors import InvalidRequest
from pilothouse.http.requests import request_id_of, service_of
from pilothouse.services.operations.idempotency import Idempotency, Key, SubmittedOperation
from pilothouse.services.releases.details import ReleaseDetail, ReleaseDetails, ReleaseRef
from pilothouse.services.releases.locks import Seen
from pilothouse.services.releases.update import Updates
from pilothouse.services.releases.update_plans import UpdateRelease
from pilothouse.services.sources.pull import ChartPulls, SourceReference
from pilothouse.states import Action


def explain_no_update(detail: ReleaseDetail) -> str:
    """Return why no newer version of the release's chart is offered; empty if one is."""
    origin = detail.origin
    if origin.newer_version:
        return ""
    if not origin.source:
        return gettext("its chart is of no source of this project, so no newer version is known")
    if origin.removed_at is not None:
        return gettext("the source of its chart, %(source)s, was removed", source=origin.source)
    if origin.refused_version:
        return gettext(
            "version %(version)s, of source %(source)s, is not signed by a trusted key",
            version=origin.refused_version,
            source=origin.source,
        )
    if origin.unchecked_version:
        return gettext(
            "whether version %(version)s, of source %(source)s, is signed is not known yet; synchronise the source",
            version=origin.unchecked_version,
            source=origin.source,
        )
    return gettext("source %(source)s offers no newer version of its chart", source=origin.source)


async def submit_upgrade(
    request: Request, place: ReleaseRef, version: str, *, seen: Seen, key: Key | None
) -> SubmittedOperation:
    """Order the upgrade to that version, which is pulled unless it was before; what the user gave stays.

    Raises InvalidRequest if the release is not what was ``seen`` any more, and what a pull raises.
    """
    caller, details = caller_of(request), service_of(request, ReleaseDetails)
    detail, found = await details.show_head(caller, place), await details.locate(caller, place)
    seen.refuse_moved(detail.release.revision, detail.release.created_at)
    if not detail.origin.source or detail.origin.removed_at is not None:
        raise InvalidRequest(explain_no_update(detail))
    reference = SourceReference(source=detail.origin.source, name=detail.release.chart_name, version=version)
    chart = await service_of(request, ChartPulls).choose(caller, reference)
    wanted = UpdateRelease(
        action=Action.UPGRADE,
        chart_id=chart.id,
        chart_digest=chart.digest,
        include_hooks=True,
        reset_then_reuse=True,
        seen=seen,
    )
    return await service_of(request, Idempotency).once(
        caller,
        key,
        lambda: service_of(request, Updates).update(
            caller,
            found.cluster,
            namespace=place.namespace,
            name=place.name,
            request=wanted,
            request_id=request_id_of(request),
            key=key,
        ),
    )
