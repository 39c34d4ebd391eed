"""The form of an install or a change: chart, values as YAML and Helm's options; and what is wrong in it, by field."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields as names_of
from dataclasses import replace
from typing import Any, Final, get_args

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pilothouse.auth.policy import READ_VALUES
from pilothouse.chart_archive.yaml_text import dump_yaml
from pilothouse.console.faults import Faults, tell
from pilothouse.console.plan_words import OPTIONS, read_checks
from pilothouse.console.rendering import HEADERS, refusal
from pilothouse.console.requests import caller_of, not_one_of, too_long, wrong
from pilothouse.console.texts import gettext
from pilothouse.console.value_problems import LAYER, ValueProblem, locate_problems, may_tell_lines
from pilothouse.engine.protocol import ValuesLayer, Wait
from pilothouse.errors import Checks, InvalidRequest, NotFound, PilothouseError
from pilothouse.http.errors import Refusal
from pilothouse.http.requests import service_of
from pilothouse.off_loop import off_loop
from pilothouse.redaction import redact
from pilothouse.services.charts.archives import Charts
from pilothouse.services.releases.commands import Crds, HelmOptions
from pilothouse.services.releases.deploy import DeployRelease, ValuesMode
from pilothouse.services.releases.plan_records import PlanRecord
from pilothouse.services.releases.render import RenderChart, Renders
from pilothouse.services.sources.sources import Sources
from pilothouse.store.charts import ChartRow, ChartVersion

Fields = dict[str, str]
MODES: Final[tuple[ValuesMode, ...]] = get_args(ValuesMode)
#: In place of a chart's id: the chart that the release itself stores.
STORED: Final = "stored"
#: Of the choices of a form; whoever looks for an older one begins at its page.
MOST_CHARTS: Final = 200
_OPTIONS: Final = ("take_ownership", "force_conflicts", "create_namespace", "rollback_on_failure")
_LONGEST_WAIT: Final = 10**6
_LONGEST_DESCRIPTION: Final = 1000
_LARGE: Final = 64 * 1024
#: What the form shows, and how the services name a field of it in a sentence.
_SHOWN: Final = (
    *("chart", "cluster", "namespace", "name", "mode", LAYER),
    *("wait", "timeout_seconds", "crds", "description"),
)
_FIELD: Final = re.compile(rf"(?:dry run: |render: )?(cluster|namespace|name|chart|mode|{LAYER})\b")


def read_text(fields: Mapping[str, str]) -> str:
    """Return the values of the form with the line ends that were typed."""
    return fields.get("values", "").replace("\r\n", "\n")


def read_change(fields: Mapping[str, str], *, mode: ValuesMode) -> DeployRelease:
    """Return what the form asks for; raise InvalidRequest with the field that is wrong."""
    checks = Checks()
    chart = checks.read(lambda: require(fields, "chart", gettext("missing; choose one")))
    description = checks.read(lambda: _read_description(fields))
    wait = checks.read(lambda: _choose(fields, "wait", get_args(Wait)))
    seconds = checks.read(lambda: _read_seconds(fields.get("timeout_seconds", "")))
    crds = checks.read(lambda: _choose(fields, "crds", get_args(Crds)))
    checks.end()
    options: dict[str, Any] = {name: name in fields for name in _OPTIONS}
    return DeployRelease(
        chart_id=chart or "",
        layers=_layers(fields),
        values_mode=mode,
        wait=wait,
        timeout_seconds=seconds,
        no_hooks="no_hooks" in fields,
        crds=crds,
        skip_schema_validation="skip_schema_validation" in fields,
        options=HelmOptions(description=description or "", **options),
    )


def require(fields: Mapping[str, str], name: str, missing: str) -> str:
    """Return a field without blanks at its ends; raise InvalidRequest, which says it is missing, for an empty one."""
    text = fields.get(name, "").strip()
    if not text:
        raise wrong(name, missing)
    return text


def _read_description(fields: Mapping[str, str]) -> str:
    description = fields.get("description", "").strip()
    if len(description) > _LONGEST_DESCRIPTION:
        raise too_long("description", _LONGEST_DESCRIPTION)
    return description


def read_mode(fields: Mapping[str, str]) -> ValuesMode:
    """Return what is to become of the values that the release has."""
    mode: ValuesMode | None = _choose(fields, "mode", MODES)
    return mode or "replace"


def _layers(fields: Mapping[str, str]) -> tuple[ValuesLayer, ...]:
    text = read_text(fields)
    return (ValuesLayer("yaml", text, LAYER),) if text.strip() else ()


def _choose(fields: Mapping[str, str], name: str, words: tuple[Any, ...]) -> Any:
    text = fields.get(name, "")
    if text and text not in words:
        raise not_one_of(name, text, words)
    return text or None


def _read_seconds(text: str) -> int | None:
    if not text.strip():
        return None
    if not re.fullmatch(r"[0-9]{1,7}", text.strip()) or not 0 < int(text) <= _LONGEST_WAIT:
        problem = gettext("%(given)s is not a number from 1 to %(most)s", given=repr(text[:40]), most=_LONGEST_WAIT)
        raise wrong("timeout_seconds", problem)
    return int(text)


def fields_of(record: PlanRecord) -> Fields:
    """Return the fields of the form that the plan was made from, but its values."""
    order, operation = record.order, record.operation
    options: Mapping[str, Any] = order.get("options") or {}
    fields = {
        "chart": STORED if operation.get("chart_revision") is not None else str(operation["chart_id"] or ""),
        "cluster": record.cluster_name,
        "namespace": record.namespace,
        "name": record.release_name,
        "mode": _mode_of(order),
        "wait": str(order.get("wait", "")),
        "crds": str(order.get("crds", "")),
        "timeout_seconds": str(operation.get("timeout_seconds") or ""),
        "description": str(options.get("description", "")),
    }
    checks = read_checks(order)
    return fields | {name: "yes" for name in OPTIONS if checks.get(name)}


def _mode_of(order: Mapping[str, Any]) -> ValuesMode:
    if order.get("reuse_values"):
        return "reuse"
    return "reset_then_reuse" if order.get("reset_then_reuse_values") else "replace"


def values_of(record: PlanRecord) -> str:
    """Return the values of the form that the plan was made from, as they were typed."""
    return next((layer["text"] for layer in record.order.get("layers", ()) if layer["name"] == LAYER), "")


async def find_charts(request: Request, *, name: str = "", chosen: str = "") -> list[ChartVersion]:
    """Return the charts that a form offers, newest first; none without the right to list them.

    With a name, those too that were pulled from a source.
    """
    caller, charts = caller_of(request), service_of(request, Charts)
    if not caller.may("cce:chart:list"):
        return []
    found = await charts.list_versions(caller, name=name, version="", digest="", limit=MOST_CHARTS, pulled=bool(name))
    if chosen and all(version.id != chosen for version in found):
        row = await find_chart(request, chosen)
        older = (
            [ChartVersion(**{field.name: getattr(row, field.name) for field in names_of(ChartVersion)})] if row else []
        )
        found = [*older, *found]
    return found


async def name_origins(request: Request, charts: Sequence[ChartVersion]) -> dict[str, str]:
    """Return where each chart is from, by its id: archives of one name and version can differ.

    Nothing if all are uploaded.
    """
    if all(chart.source_id is None for chart in charts):
        return {}
    names, caller = {}, caller_of(request)
    if caller.may("cce:source:list"):
        names = {source.id: source.name for source in await service_of(request, Sources).list_sources(caller)}
    return {chart.id: _tell_origin(chart.source_id, names) for chart in charts}


def _tell_origin(source_id: str | None, names: Mapping[str, str]) -> str:
    if source_id is None:
        return gettext("uploaded")
    return gettext("of source %(name)s", name=names[source_id]) if source_id in names else gettext("of a source")


async def find_chart(request: Request, chart_id: str) -> ChartRow | None:
    """Return the chart that a form names, if it exists and the person may see it."""
    caller = caller_of(request)
    if chart_id in {"", STORED} or not caller.may("cce:chart:get"):
        return None
    try:
        return await service_of(request, Charts).show(caller, chart_id)
    except NotFound:
        return None


async def dump_defaults(chart: ChartRow | None) -> str:
    """Return the chart's default values as YAML; empty for none."""
    if chart is None:
        return ""

    def dump() -> str:
        values = chart.default_values()
        return dump_yaml(values) if values else ""

    return await off_loop(dump, size=len(chart.values_json) * 8)


async def end_with_values(request: Request, fields: Fields, checks: Checks) -> None:
    """Raise what was wrong in a form together with what is in its values; without that the plan will tell of them."""
    if checks.found:
        await checks.wait(service_of(request, Renders).check_layers(caller_of(request), _layers(fields)))
    checks.end()


async def tell_faults(request: Request, error: PilothouseError, fields: Fields) -> tuple[Refusal, Faults]:
    """Return the refusal of a form, and what of it is wrong."""
    refused = refusal(request, error)
    faults = tell(refused, *_SHOWN, named=_FIELD, labels={"name": gettext("Name of the release")})
    lines = await _locate(request, redact(str(error)), fields)
    if lines:
        others = {name: said for name, said in faults.fields.items() if name != LAYER}
        faults = Faults(refused.text, {**others, LAYER: refused.text}, tuple(lines), rest=faults.rest)
    return refused, faults


async def _locate(request: Request, said: str, fields: Fields) -> list[ValueProblem]:
    if not may_tell_lines(said):
        return []
    text = read_text(fields)
    chart = await find_chart(request, fields.get("chart", ""))
    name = chart.name if chart is not None else ""
    found = await off_loop(lambda: locate_problems(said, text, chart_name=name), size=max(len(text), len(said)) * 8)
    last = text.rstrip("\n").count("\n") + 1  # the end of a text is an error's place, too
    return [replace(problem, line=min(problem.line, last)) for problem in found]


async def judge_values(request: Request, fields: Fields, below: tuple[ValuesLayer, ...] | None) -> Response:
    """Return what Helm says about the values of a form, by line, for the editor; no cluster is asked.

    ``below``: the values under them; None if they are not known, and then only a plan can tell.
    """
    problems: list[ValueProblem] = []
    caller = caller_of(request)
    if below is not None and fields.get("chart", "") not in {"", STORED} and "skip_schema_validation" not in fields:
        wanted = RenderChart(chart_id=fields["chart"], layers=(*below, *_layers(fields)), name="values")
        try:
            await service_of(request, Renders).render(caller, wanted)
        except InvalidRequest as error:
            problems = await _locate(request, str(error), fields)
    if not caller.may(READ_VALUES) and below:
        problems = []  # they could tell what is below
    return JSONResponse({"problems": [vars(problem) for problem in problems]}, headers=HEADERS)
