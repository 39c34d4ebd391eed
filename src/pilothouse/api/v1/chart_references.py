"""Charts that a body names by their source: chosen, pulled, and from then on known by id and digest."""

from typing import Annotated

from fastapi import Depends, Request

from pilothouse.api.v1.release_bodies import Chart, ReleaseChart
from pilothouse.http.requests import caller_of, service_of
from pilothouse.services.sources.pull import ChartPulls, SourceReference


class ChosenCharts:
    """Choose the chart of a request's body."""

    def __init__(self, request: Request) -> None:
        self._request = request

    async def choose(self, chart: Chart) -> Chart:
        """Return the chart by id and digest, or of a revision; one of a source is pulled unless it was before."""
        if chart.id or (isinstance(chart, ReleaseChart) and chart.revision is not None):
            return chart
        reference = SourceReference(source=chart.source, name=chart.name, version=chart.version)
        row = await service_of(self._request, ChartPulls).choose(caller_of(self._request), reference)
        return Chart(id=row.id, digest=chart.digest or row.digest)


async def _chosen(request: Request) -> ChosenCharts:
    return ChosenCharts(request)


Choosing = Annotated[ChosenCharts, Depends(_chosen)]
