"""Plans: what a change of a release would do, and the change, exactly as it was planned."""

import asyncio
from typing import Annotated, Any, ClassVar, Literal

from fastapi import Request, Response
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from pilothouse import errors
from pilothouse.api.v1.chart_references import Choosing, ChosenCharts
from pilothouse.api.v1.dependencies import Check, CurrentCaller, RequestId, allowed, service
from pilothouse.api.v1.models import Body, Limit, Milliseconds, View
from pilothouse.api.v1.operations import OperationView
from pilothouse.api.v1.release_bodies import DeleteReleaseBody, DeployReleaseBody, RollbackReleaseBody
from pilothouse.api.v1.release_models import FieldDifferenceView, HookView
from pilothouse.api.v1.release_reads import OfRelease
from pilothouse.api.v1.release_writes import ACCEPTED, Accepting
from pilothouse.api.v1.routing import error_responses, native_router
from pilothouse.api.v1.verification import VerificationView
from pilothouse.auth.policy import READ_VALUES
from pilothouse.http.audit import note_read
from pilothouse.http.json_bodies import RELEASE, JsonLimits
from pilothouse.http.requests import caller_of, service_of
from pilothouse.services.identity.standing import Standing
from pilothouse.services.releases.plans import PERMISSIONS, Change, Plan, Plans
from pilothouse.states import Action
from pilothouse.store.operations import release_key
from pilothouse.store.plans import ListedPlanRow

making = native_router("/api/v1/clusters/{cluster}/namespaces/{namespace}/releases/{name}", tag="releases")
listing = native_router("/api/v1/plans", tag="releases")
router = native_router("/api/v1/plans/{plan_id}", tag="releases")
PlansService = Annotated[Plans, service(Plans)]
_READ = "cce:release:get"


class PlanBody(Body):
    """What is to be planned: exactly one of the three, each the body of that request itself."""

    limits: ClassVar[JsonLimits] = RELEASE

    deploy: DeployReleaseBody | None = None
    rollback: RollbackReleaseBody | None = None
    delete: DeleteReleaseBody | None = None

    @model_validator(mode="after")
    def _check(self) -> "PlanBody":
        if sum(part is not None for part in (self.deploy, self.rollback, self.delete)) != 1:
            raise PydanticCustomError("one_change", "must have exactly one of deploy, rollback, delete")
        return self

    async def as_change(self, charts: ChosenCharts) -> Change:
        """Return the request that it is."""
        if self.deploy is not None:
            return self.deploy.as_request(await charts.choose(self.deploy.chart))
        return (self.rollback or self.delete or DeleteReleaseBody()).as_request()


class PlannedObjectView(View):
    """An object of the plan, or of the deployed revision.

    `change` and `fields` are against the deployed revision; `live_change` and `live_fields` against what the cluster
    has now, as a server-side apply that was only tried would leave it. `unknown`: `problem` says why.
    """

    api_version: str
    kind: str
    namespace: str
    name: str
    change: Literal["added", "changed", "removed", "unchanged"]
    fields: list[FieldDifferenceView]
    live_change: Literal["added", "changed", "removed", "unchanged", "unknown"]
    live_fields: list[FieldDifferenceView]
    problem: str


class ValueOriginView(View):
    """Where a value comes from: `chart`, `previous` (what the release had), or the name of a layer."""

    path: str
    origin: str


class PlanSummaryView(View):
    """How many objects there are of each change against the deployed revision."""

    added: int
    changed: int
    removed: int
    unchanged: int


class PlanView(View):
    """A plan.

    `digest` is what `apply` takes. `base_revision`: the newest revision that it was made over, 0 for none;
    `deployed_revision`: what its changes are against; `to_revision`: the one that a rollback goes back to, else 0.
    `text`: the summary as `+3 ~2 -1 =14`. `hooks`: those that will run, in their order. `findings`: why it cannot be
    applied. `warnings`: what would be destroyed or taken over, or fail; `refusals`: those that the cluster's dry run
    said. `operation_id`: of the operation that applies it; empty for none. `lacks`: the right that the caller needs
    to apply it and does not have; empty if it may. `chart_digest`: SHA-256 of the chart's
    archive; `source`, which callers who may see sources are told, and `verification`: where it came from and who
    signed it.
    """

    id: str
    digest: str
    action: Action
    cluster_id: str
    cluster_name: str
    namespace: str
    name: str
    chart_name: str
    chart_version: str
    chart_digest: str
    source: str
    verification: VerificationView | None
    base_revision: int
    deployed_revision: int
    to_revision: int
    created_at: Milliseconds
    expires_at: Milliseconds
    operation_id: str
    summary: PlanSummaryView
    text: str
    objects: list[PlannedObjectView]
    values: dict[str, Any]
    origins: list[ValueOriginView]
    manifest: str
    notes: str
    hooks: list[HookView]
    findings: list[str]
    warnings: list[str]
    refusals: list[str]
    lacks: str


class ListedPlanView(View):
    """A plan that can be applied until it expires; `action`: of the operation that applies it."""

    id: str
    action: Action
    cluster_id: str
    namespace: str
    name: Annotated[str, Field(validation_alias="release_name")]
    user_id: str
    created_at: Milliseconds
    expires_at: Milliseconds


class ApplyPlan(Body):
    """The digest of the plan that was reviewed."""

    digest: Annotated[str, Field(max_length=100)]


@making.post(
    "/plan",
    response_model=PlanView,
    status_code=201,
    dependencies=[allowed(_READ)],
    responses=error_responses(errors.AlreadyExists, errors.PlanMoved, errors.ReleaseMoved, errors.SourceUnavailable),
)
async def plan_release(
    *,
    request: Request,
    place: OfRelease,
    body: PlanBody,
    caller: CurrentCaller,
    plans: PlansService,
    charts: Choosing,
) -> Response:
    """Plan an install or upgrade, a rollback, or an uninstall; nothing is written to the cluster.

    The chart is rendered against the cluster, with the whole preflight, and compared with the deployed revision and
    with the live objects. The plan is kept for an hour (a setting), for whoever may make the change. A chart whose
    templates may read objects of the cluster needs the right to update. Data of Secrets is masked in differences; for
    callers without `pilothouse:values:read`, all values are masked.
    """
    plan = await plans.make(caller, place, await body.as_change(charts))
    caller = await service_of(request, Standing).require(caller_of(request), _READ)
    return await _shown(request, plans, caller, plan, status=201)


@listing.get("", response_model=list[ListedPlanView])
async def list_plans(caller: CurrentCaller, plans: PlansService, limit: Limit = 100) -> list[ListedPlanRow]:
    """List the project's plans that have neither expired nor been applied, newest first.

    Those whose release an operation has changed since are left out: an apply of them is refused.
    """
    return await plans.list_open(caller, limit=limit)


@router.get("", response_model=PlanView, responses=error_responses(errors.PlanMoved))
async def show_plan(request: Request, plan_id: str, caller: CurrentCaller, plans: PlansService) -> Response:
    """Show a plan of the project."""
    return await _shown(request, plans, caller, await plans.read(caller, plan_id), status=200)


async def _may_apply(request: Request) -> None:
    await service_of(request, Plans).require_apply(caller_of(request), request.path_params["plan_id"])


@router.post(
    "/apply",
    response_model=OperationView,
    status_code=202,
    dependencies=[Check(_may_apply)],
    responses={**ACCEPTED, **error_responses(errors.AlreadyExists, errors.PlanMoved)},
)
async def apply_plan(  # what FastAPI gives
    *,
    plan_id: str,
    body: ApplyPlan,
    caller: CurrentCaller,
    plans: PlansService,
    accepting: Accepting,
    request_id: RequestId,
) -> dict[str, object]:
    """Apply a plan: the manifest, hooks and notes that were planned, and nothing else.

    Refused with 409 and what moved, if the release, its chart or its cluster is not as it was when the plan was made,
    if the plan has expired or was applied, or if the digest is not its own. The answer is the operation.
    """
    return await accepting.once(
        lambda key: plans.apply(caller, plan_id, digest=body.digest, request_id=request_id, key=key)
    )


async def _shown(request: Request, plans: Plans, caller: Any, plan: Plan, *, status: int) -> Response:
    changes, record = await plans.show(caller, plan), plan.record
    chart = await plans.find_chart(caller, plan)
    if caller.may(READ_VALUES):  # who is shown masked ones has read none
        key = release_key(record.cluster_id, record.namespace, record.release_name)
        note_read(request, READ_VALUES, target=key, target_name=record.release_name, detail=f"plan {plan.row.id}")
    permission = PERMISSIONS[record.action]
    fields = {
        **vars(plan.row),
        **vars(changes),
        "operation_id": plan.row.operation_id or "",
        "cluster_name": record.cluster_name,
        "namespace": record.namespace,
        "name": record.release_name,
        "chart_name": record.operation["chart_name"],
        "chart_version": record.operation["chart_version"],
        "chart_digest": chart.digest,
        "source": chart.source,
        "verification": chart.verification,
        "base_revision": record.base.revision,
        "deployed_revision": plan.comparison.base.deployed_revision,
        "to_revision": record.order.get("to_revision", 0),
        # its address does not say where it is, which is how it will be judged
        "lacks": "" if caller.at(None).may(permission) else permission,
    }
    text = await asyncio.to_thread(lambda: PlanView.model_validate(fields).model_dump_json())
    return Response(text, status_code=status, media_type="application/json")
