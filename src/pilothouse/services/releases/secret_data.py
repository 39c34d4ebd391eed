"""The data of a cluster's Secrets is masked in what a chart says when it fails.

A chart acts with the rights of its cluster's account: ``lookup`` reads any Secret that account may read, and ``fail``
prints it. Nobody but the cluster knows what that was, so it is asked, after such a failure only. What cannot be
compared is not shown. A template that transforms the data first is beyond this.

The Secrets are a stranger's: how much of them is looked at is limited, and it is done in portions, beside the event
loop.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from pilothouse.chart_archive.charts import uses_lookup
from pilothouse.errors import PilothouseError
from pilothouse.kubernetes.client import ClusterClient
from pilothouse.masking_thread import in_masking_thread
from pilothouse.redaction import Compared
from pilothouse.settings import ChartLimits

_SECONDS: Final = 5.0
_SECRETS: Final = 2000
_MOST_VALUES: Final = 20_000
#: Of base64, over all Secrets; the worst of it, with every line in the text, takes 1.5 s of a processor.
_MOST_BYTES: Final = 8 * 1024 * 1024
_PORTION_BYTES: Final = 128 * 1024


async def without_secret_data(text: str, *, chart: bytes, client: ClusterClient, limits: ChartLimits) -> str:
    """The text of a failed rendering without the data of any Secret that the chart could have looked up."""
    if not await asyncio.to_thread(uses_lookup, chart, limits=limits):
        return text
    try:
        async with asyncio.timeout(_SECONDS):
            return await _compare(text, client)
    except TimeoutError:
        return _withheld(text, f"reading them took more than {_SECONDS:g} s")
    except _TooMuch as reason:
        return _withheld(text, str(reason))
    except PilothouseError as error:
        return _withheld(text, str(error))


class _TooMuch(Exception):
    """More than is compared."""


async def _compare(text: str, client: ClusterClient) -> str:
    compared = await in_masking_thread(Compared, text)
    secrets = values = size = waiting = 0
    portion: list[Mapping[str, Any]] = []
    async for data in client.list_secret_data():
        secrets, values = secrets + 1, values + len(data)
        if secrets > _SECRETS:
            raise _TooMuch(f"it has more than {_SECRETS} Secrets")
        if values > _MOST_VALUES:
            raise _TooMuch(f"they have more than {_MOST_VALUES} values")
        length = sum(len(value) for value in data.values() if isinstance(value, str))
        size, waiting = size + length, waiting + length
        if size > _MOST_BYTES:
            raise _TooMuch(f"they have more than {_MOST_BYTES // 1024**2} MiB")
        portion.append(data)
        if waiting >= _PORTION_BYTES:
            await in_masking_thread(_hide, compared, portion)
            portion, waiting = [], 0
    await in_masking_thread(_hide, compared, portion)
    return compared.text()


def _hide(compared: Compared, portion: list[Mapping[str, Any]]) -> None:
    if not compared.hide(*portion):
        raise _TooMuch("they have too much that begins as a part of the message does")


def _withheld(text: str, reason: str) -> str:
    """Where it failed, without what the chart said: Helm writes the place, a colon, and the message."""
    place = text.split("): ", 1)[0] + ")" if text.startswith("execution error at (") and "): " in text else "rendering"
    return (
        f"{place}: the chart's own message is withheld: the chart looks up objects of the cluster, and the message "
        f"could not be compared with the cluster's Secrets ({reason})"
    )
