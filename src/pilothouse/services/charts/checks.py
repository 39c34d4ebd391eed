"""Checks of a chart before it is stored: our own inspection of the archive, then Helm's lint in an engine child.

Concurrent checks are limited: each can use a CPU core for up to a second.
"""

import asyncio
from collections.abc import Sequence
from typing import BinaryIO

from pilothouse.chart_archive.charts import ChartArchive, inspect_chart, read_schema
from pilothouse.engine.inspection import LintFinding
from pilothouse.engine.pool import EnginePool
from pilothouse.engine.protocol import LintRequest
from pilothouse.errors import EngineCrashed, EngineTimeout, HelmError, InvalidChart
from pilothouse.services.charts.texts import read_texts
from pilothouse.settings import ChartLimits, EngineSettings
from pilothouse.shares import FairSlots

_SHOWN_FINDINGS = 20
_SHOWN_CHARACTERS = 400
_NO_LINT = 'parameters {"skip_lint": true} stores the chart without Helm\'s lint'


class ChartChecks:
    """Check archives for one process."""

    def __init__(self, engine: EnginePool, *, limits: ChartLimits, engine_settings: EngineSettings) -> None:
        self._engine = engine
        self._limits = limits
        self._settings = engine_settings
        self._slots = FairSlots(
            engine_settings.children,
            what="this server is checking charts at capacity",
            most_waiting=engine_settings.waiting_per_project,
        )

    async def check(
        self, archive: BinaryIO, *, lint: bool, project_id: str, warnings: list[str] | None = None
    ) -> ChartArchive:
        """Return the chart if it may be stored; raise InvalidChart with the file, limit or Helm's findings, or Busy.

        Helm's errors reject a chart, its warnings do not; they are added to ``warnings``. Projects take turns.
        """
        async with self._slots.hold(project_id, seconds=self._settings.queue_seconds):
            chart = await asyncio.to_thread(inspect_chart, archive, limits=self._limits)
            if lint:
                found = await self._lint(archive, project_id)
                if warnings is not None:
                    warnings += _lines([finding for finding in found if finding.severity == "warning"])
        return chart

    async def read_schema(self, archive: bytes, *, project_id: str) -> bytes:
        """Return the schema of the chart's values, empty without one; raise InvalidChart or Busy."""
        async with self._slots.hold(project_id, seconds=self._settings.queue_seconds):
            return await asyncio.to_thread(read_schema, archive, limits=self._limits)

    async def read_readme(self, archive: bytes, *, project_id: str) -> str:
        """Return the chart's README as it is, empty without one; raise InvalidChart or Busy."""
        async with self._slots.hold(project_id, seconds=self._settings.queue_seconds):
            readme, _, _ = await asyncio.to_thread(read_texts, archive, limits=self._limits)
        return readme

    async def _lint(self, archive: BinaryIO, project_id: str) -> Sequence[LintFinding]:
        seconds = self._settings.answer_seconds
        try:
            outcome = await self._engine.run(
                LintRequest(chart=archive),
                deadline_seconds=seconds,
                queue_seconds=self._settings.queue_seconds,
                share=project_id,
            )
        except HelmError as error:
            raise InvalidChart(f"helm lint: {error}") from error
        except EngineTimeout as error:
            raise InvalidChart(f"helm lint: stopped after {seconds:g} s, the limit; {_NO_LINT}") from error
        except EngineCrashed as error:
            raise InvalidChart(f"helm lint: {error}") from error
        if any(finding.severity == "error" for finding in outcome.findings):
            raise InvalidChart(_explain(outcome.findings))
        return outcome.findings


def _explain(findings: Sequence[LintFinding]) -> str:
    """Format errors first, then warnings, each as ``helm lint`` prints it: severity, file, message."""
    findings = sorted(
        (finding for finding in findings if finding.severity in {"error", "warning"}),
        key=lambda finding: finding.severity != "error",
    )
    return f"helm lint found errors: {'; '.join(_lines(findings))} ({_NO_LINT})"


def _lines(findings: Sequence[LintFinding]) -> list[str]:
    """Format the first of them as ``helm lint`` prints them, and the number of further ones."""
    lines = [
        f"[{finding.severity.upper()}] {finding.path or 'chart'}: {_shortened(finding.message)}"
        for finding in findings[:_SHOWN_FINDINGS]
    ]
    return [*lines, f"and {len(findings) - _SHOWN_FINDINGS} more"] if len(findings) > _SHOWN_FINDINGS else lines


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
