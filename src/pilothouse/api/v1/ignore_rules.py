"""What is no drift of a release."""

from typing import Annotated

from pydantic import FailFast

from pilothouse.api.v1.dependencies import CurrentCaller, RequestId, allowed, service
from pilothouse.api.v1.models import Body
from pilothouse.api.v1.release_models import IgnoreRulesView
from pilothouse.api.v1.release_reads import OfRelease
from pilothouse.api.v1.routing import native_router
from pilothouse.services.releases.drift_reads import ReleaseDrifts
from pilothouse.services.releases.ignore_rules import IgnoreRule

router = native_router("/api/v1/clusters/{cluster}/namespaces/{namespace}/releases/{name}/ignore-rules", tag="releases")
DriftsService = Annotated[ReleaseDrifts, service(ReleaseDrifts)]


class NewIgnoreRule(Body):
    """The field of a JSON pointer (RFC 6901) such as `/spec/replicas`, and what is below it.

    `*` stands for any member or item, and the item of a list can be named by its `name`; the empty pointer is the whole
    object. `group`, `kind` and `name` limit it to some objects.
    """

    pointer: str
    group: str = ""
    kind: str = ""
    name: str = ""


class ReplaceIgnoreRules(Body):
    """All rules of the release; those before are dropped."""

    rules: Annotated[list[NewIgnoreRule], FailFast()]


@router.get("", response_model=IgnoreRulesView)
async def list_ignore_rules(place: OfRelease, caller: CurrentCaller, drifts: DriftsService) -> dict[str, object]:
    """List the rules about what is no drift of the release."""
    return {"rules": await drifts.list_rules(caller, place)}


@router.put("", response_model=IgnoreRulesView, dependencies=[allowed("cce:release:update")])
async def replace_ignore_rules(
    place: OfRelease, body: ReplaceIgnoreRules, caller: CurrentCaller, drifts: DriftsService, request_id: RequestId
) -> dict[str, object]:
    """Replace the rules about what is no drift of the release, at most 100; an empty list removes them.

    They count for looks on request and for the periodic ones. The release has to exist.
    """
    rules = [IgnoreRule(**dict(rule)) for rule in body.rules]
    return {"rules": await drifts.replace_rules(caller, place, rules, request_id=request_id)}
