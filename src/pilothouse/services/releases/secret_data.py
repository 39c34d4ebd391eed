"""The data of a cluster's Secrets is masked in what a chart says when it fails.

A chart acts with the rights of its cluster's account: ``lookup`` reads any Secret that account may read, and ``fail``
prints it. Nobody but the cluster knows what that was, so it is asked, after such a failure only. What cannot be
compared is not shown. A template that transforms the data first is beyond this.
"""

import asyncio
from typing import Final

from pilothouse.chart_archive.charts import uses_lookup
from pilothouse.errors import PilothouseError
from pilothouse.kubernetes.client import ClusterClient
from pilothouse.redaction import masks_of_data
from pilothouse.settings import ChartLimits

_SECONDS: Final = 5.0
_SECRETS: Final = 2000


async def without_secret_data(text: str, *, chart: bytes, client: ClusterClient, limits: ChartLimits) -> str:
    """The text of a failed rendering without the data of any Secret that the chart could have looked up."""
    if not await asyncio.to_thread(uses_lookup, chart, limits=limits):
        return text
    number = 0
    try:
        async with asyncio.timeout(_SECONDS):
            async for data in client.list_secret_data():
                text = masks_of_data(data).apply(text)
                number += 1
                if number == _SECRETS:
                    return _withheld(text, f"it has more than {_SECRETS} Secrets")
    except TimeoutError:
        return _withheld(text, f"reading them took more than {_SECONDS:g} s")
    except PilothouseError as error:
        return _withheld(text, str(error))
    return text


def _withheld(text: str, reason: str) -> str:
    """Where it failed, without what the chart said: Helm writes the place, a colon, and the message."""
    place = text.split("): ", 1)[0] + ")" if text.startswith("execution error at (") and "): " in text else "rendering"
    return (
        f"{place}: the chart's own message is withheld: the chart looks up objects of the cluster, and the message "
        f"could not be compared with the cluster's Secrets ({reason})"
    )
