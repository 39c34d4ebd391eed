"""Charts: uploaded archives, stored once per digest, counted per version."""

import asyncio
import uuid
from dataclasses import dataclass

import orjson

from pilothouse.archive import ChartArchive, inspect_chart
from pilothouse.errors import AlreadyExists, InvalidChart, NotFound, QuotaExceeded
from pilothouse.services.identity import Caller
from pilothouse.settings import ChartLimits
from pilothouse.store import audit
from pilothouse.store import charts as store
from pilothouse.store.charts import ChartRow
from pilothouse.store.database import Database, Transaction


@dataclass(frozen=True)
class UploadOptions:
    """The keys of the upload form's ``parameters``; ``skip_lint`` and ``source`` have no effect yet."""

    override: bool = False
    visible: bool = True
    skip_lint: bool = False
    source: str = ""


class Charts:
    """Uploads, lists and shows the charts of a project."""

    def __init__(self, database: Database, *, limits: ChartLimits, quota: int) -> None:
        self._database = database
        self._limits = limits
        self._quota = quota

    async def upload(self, caller: Caller, *, archive: bytes, options: UploadOptions, request_id: str) -> ChartRow:
        """Stores the archive under the name and version of its Chart.yaml.

        Raises InvalidChart, AlreadyExists (that name and version, without ``override``) or QuotaExceeded.
        """
        caller.require("cce:chart:upload")
        chart = await asyncio.to_thread(inspect_chart, archive, limits=self._limits)
        values_json = compact_json(chart.values)
        if len(values_json) > self._limits.values_bytes:
            raise InvalidChart(
                f"values.yaml: {len(values_json)} bytes as JSON; the limit is {self._limits.values_bytes}"
            )
        async with self._database.transaction() as tx:
            await store.lock_charts_of(tx, caller.project_id)
            await self._check_room(tx, caller, chart, override=options.override)
            await store.add_archive(tx, digest=chart.digest, content=archive)
            row = await store.put_chart(
                tx,
                chart_id=str(uuid.uuid4()),
                project_id=caller.project_id,
                name=chart.name,
                version=chart.version,
                digest=chart.digest,
                description=chart.description,
                icon_url=chart.icon_url,
                instruction=chart.readme_name,
                values_json=values_json,
                visible=options.visible,
            )
            await audit.record(
                tx,
                project_id=caller.project_id,
                user_id=caller.user_id,
                action="cce:chart:upload",
                target=row.id,
                request_id=request_id,
            )
        return row

    async def list_charts(self, caller: Caller) -> list[ChartRow]:
        """The project's charts, newest first."""
        caller.require("cce:chart:list")
        async with self._database.transaction() as tx:
            return await store.list_charts(tx, project_id=caller.project_id)

    async def show(self, caller: Caller, chart_id: str) -> ChartRow:
        """One chart of the project, else NotFound."""
        caller.require("cce:chart:get")
        async with self._database.transaction() as tx:
            row = await store.find_chart(tx, chart_id, project_id=caller.project_id)
        if row is None:
            raise NotFound(f"chart {chart_id!r} does not exist in this project")
        return row

    async def _check_room(self, tx: Transaction, caller: Caller, chart: ChartArchive, *, override: bool) -> None:
        taken = await store.find_chart_version(tx, project_id=caller.project_id, name=chart.name, version=chart.version)
        if taken is not None and not override:
            raise AlreadyExists(
                f"chart {chart.name} {chart.version} exists already (id {taken.id}); upload it with "
                'parameters {"override": true} to replace it, or raise the version in Chart.yaml'
            )
        if taken is None and await store.count_charts(tx, caller.project_id) >= self._quota:
            raise QuotaExceeded(
                f"Insufficient chart quota: this project has {self._quota} chart versions, the most it may have; "
                "delete one first"
            )


def compact_json(values: object) -> str:
    """JSON as the wire's strings have it: compact, keys sorted, non-ASCII as it is."""
    return orjson.dumps(values, option=orjson.OPT_SORT_KEYS).decode()
