"""Plans: what a change would do, object by object, and the button that does exactly that."""

import asyncio
from typing import Any, Final
from urllib.parse import quote

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pilothouse.auth.policy import READ_VALUES
from pilothouse.console.faults import tell
from pilothouse.console.forms import require_typed_name
from pilothouse.console.plan_words import (
    count_hooks_left_out,
    count_live,
    list_options,
    name_change,
    tell_base,
    tell_order,
)
from pilothouse.console.release import MOST_LEAVES, find_leaves
from pilothouse.console.rendering import page, refusal
from pilothouse.console.requests import caller_of, here, key_of, new_once, read_form, see_other
from pilothouse.console.side_by_side import compare_planned
from pilothouse.console.texts import gettext
from pilothouse.console.unknown_values import UnknownValue, find_unknown
from pilothouse.console.value_forms import Fields, fields_of, find_chart, values_of
from pilothouse.errors import Busy, InvalidRequest, NotFound, PilothouseError
from pilothouse.http.audit import note_read
from pilothouse.http.errors import Refusal
from pilothouse.http.requests import request_id_of, service_of
from pilothouse.services.charts.archives import Charts
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.standing import Standing
from pilothouse.services.operations.idempotency import Idempotency
from pilothouse.services.releases.details import ReleaseRef
from pilothouse.services.releases.plan_changes import PlannedChange
from pilothouse.services.releases.plan_records import PlanRecord
from pilothouse.services.releases.plans import PERMISSIONS, Plan, Plans
from pilothouse.states import Action
from pilothouse.store.operations import release_key
from pilothouse.store.plans import PlanRow

#: In which objects are shown: what is lost first.
_ORDER: Final = ("removed", "changed", "put back", "added", "created again", "unknown", "unchanged")
_GET: Final = "cce:release:get"


async def show_plan(request: Request) -> Response:
    """Show what the plan would do."""
    return await _plan_page(request)


async def apply_plan(request: Request) -> Response:
    """Do what was planned, and lead to its operation."""
    fields = await read_form(request)
    caller, plan_id, key = caller_of(request), request.path_params["plan_id"], key_of(request, fields)
    try:
        await _require_name(request, fields)
        accepted = await service_of(request, Idempotency).once(
            caller,
            key,
            lambda: service_of(request, Plans).apply(
                caller, plan_id, digest=fields.get("digest", ""), request_id=request_id_of(request), key=key
            ),
        )
    except PilothouseError as error:
        return await _plan_page(request, refused=refusal(request, error), typed=fields)
    return see_other(f"{here(caller)}/operations/{accepted.operation_id}")


async def _require_name(request: Request, fields: Fields) -> None:
    """Raise InvalidRequest for an uninstall whose release was not typed by its name."""
    record = (await service_of(request, Plans).read(caller_of(request), request.path_params["plan_id"])).record
    if record.action is Action.UNINSTALL:
        name = record.release_name
        require_typed_name(fields, name, ask=gettext("type the release's name, %(name)s, to uninstall it", name=name))


async def _plan_page(request: Request, *, refused: Refusal | None = None, typed: Fields | None = None) -> Response:
    plans, plan_id = service_of(request, Plans), request.path_params["plan_id"]
    plan = await plans.read(caller_of(request), plan_id)
    row, record = plan.row, plan.record
    caller = await service_of(request, Standing).require(caller_of(request), _GET)
    changes = await plans.show(caller, plan)
    is_change = record.action in {Action.UPGRADE, Action.ROLLBACK} and record.base.revision
    values = await plans.compare_values(caller, plan) if is_change else []
    if caller.may(READ_VALUES):
        _note_read(request, row, record)
    different = sorted(filter(_differs, changes.objects), key=lambda change: _ORDER.index(name_change(change)))
    return await page(
        request,
        "plan.html",
        refused=refused,
        faults=tell(refused, "confirm"),
        typed=typed or {},
        row=row,
        record=record,
        comparison=plan.comparison,
        changes=changes,
        compared=tell_base(record, plan.comparison),
        order=tell_order(record),
        hooks_left_out=count_hooks_left_out(record),
        options=list_options(record, limit_seconds=request.app.state.settings.worker.timeout_seconds),
        live=count_live(record, changes),
        name_change=name_change,
        chart=await plans.find_chart(caller, plan),
        sides_of=await asyncio.to_thread(compare_planned, different),
        values=values,
        unknown=await _find_unknown(request, plan),
        leaves=find_leaves(changes.values, changes.origins),
        values_are_read=caller.may(READ_VALUES),
        most_values=MOST_LEAVES,
        permission=PERMISSIONS[record.action],
        may_apply=caller.may(PERMISSIONS[record.action]),
        again=again_path(caller, row, record),
        release_path=release_path(caller, record),
        command=f"pilothouse apply {row.id} --digest {row.digest}",
        call=f'POST /api/v1/plans/{row.id}/apply\nContent-Type: application/json\n\n{{"digest": "{row.digest}"}}',
        once=new_once(),
    )


async def _find_unknown(request: Request, plan: Plan) -> list[UnknownValue]:
    """Return which of the values that were given the chart seems not to know; it is asked only of its archive."""
    record = plan.record
    if record.action not in {Action.INSTALL, Action.UPGRADE} or not plan.comparison.sources:
        return []
    chart = await find_chart(request, str(record.operation["chart_id"] or ""))
    if chart is None:
        return []
    layers = [source.values for source in plan.comparison.sources]

    def find(schema: Any) -> list[UnknownValue]:
        return find_unknown(layers, chart.default_values(), record.values, schema=schema)

    found = await asyncio.to_thread(find, None)
    if not found:
        return []
    try:
        schema = orjson.loads(await service_of(request, Charts).read_schema(caller_of(request), chart.id))
    except (NotFound, Busy, InvalidRequest, ValueError):
        return found
    return await asyncio.to_thread(find, schema)


async def read_again(request: Request, plan_id: str, *, place: ReleaseRef | None = None) -> Fields:
    """Return the fields of the form that the plan was made from, as far as the person may see them.

    Raises NotFound for the plan of another release than that at the ``place``.
    """
    caller = caller_of(request)
    plan = await service_of(request, Plans).read(caller, plan_id)
    row, record = plan.row, plan.record
    planned = (record.namespace, record.release_name)
    if place is not None and (
        planned != (place.namespace, place.name) or place.cluster not in {record.cluster_id, record.cluster_name}
    ):
        raise NotFound(gettext("plan %(id)s is not one of release %(name)s", id=repr(plan_id), name=repr(place.name)))
    caller = caller.at(record.cluster_id, record.namespace)
    caller.require(_GET)
    fields = fields_of(record)
    if caller.may(READ_VALUES) and not request.app.state.settings.releases.mask_values:
        fields["values"] = values_of(record)
        _note_read(request, row, record)
    return fields


def _note_read(request: Request, row: PlanRow, record: PlanRecord) -> None:
    key = release_key(record.cluster_id, record.namespace, record.release_name)
    note_read(request, READ_VALUES, target=key, target_name=record.release_name, detail=f"plan {row.id}")


def _differs(change: PlannedChange) -> bool:
    return change.change != "unchanged" or change.live_change in {"added", "changed"} or bool(change.problem)


def plan_path(caller: Caller, row: PlanRow) -> str:
    """Return the address of the plan's page."""
    return f"{here(caller)}/plans/{row.id}"


def release_path(caller: Caller, record: PlanRecord) -> str:
    """Return the address of the release that the plan is for."""
    named = "/".join(quote(word, safe="") for word in (record.cluster_name, record.namespace, record.release_name))
    return f"{here(caller)}/releases/{named}"


def again_path(caller: Caller, row: PlanRow, record: PlanRecord) -> str:
    """Return the address of the form that such a plan is made with, filled in as it was."""
    paths: dict[str, Any] = {
        Action.INSTALL: f"{here(caller)}/install?plan={row.id}",
        Action.UPGRADE: f"{release_path(caller, record)}/change?plan={row.id}",
        Action.ROLLBACK: f"{release_path(caller, record)}/rollback?to={record.order.get('to_revision', '')}",
        Action.UNINSTALL: f"{release_path(caller, record)}/uninstall"
        + ("?keep_history=yes" if record.order.get("keep_history") else ""),
    }
    return str(paths[record.action])


ROUTES: Final = [
    Route("/plans/{plan_id}", show_plan, methods=["GET"]),
    Route("/plans/{plan_id}/apply", apply_plan, methods=["POST"]),
]
