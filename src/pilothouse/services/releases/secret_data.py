"""Masking of the cluster's Secret data in messages of failing charts.

A chart acts with the rights of its cluster's account: ``lookup`` reads any Secret that account can read, and ``fail``
prints it. Only the cluster knows the data, so it is read, but only after such a failure. What cannot be compared is
withheld. Data that a template transforms first is not found.

The Secrets are untrusted: the amount that is compared is limited, and it is done in portions, off the event loop.
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
    """Return the message of a failed rendering without data of any Secret that the chart could have looked up."""
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
    """There is more data than is compared."""


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
        raise _TooMuch("too many of their lines begin like a part of the message")


def _withheld(text: str, reason: str) -> str:
    """Return where it failed, without the chart's message: Helm writes the place, a colon, and the message."""
    place = text.split("): ", 1)[0] + ")" if text.startswith("execution error at (") and "): " in text else "rendering"
    return (
        f"{place}: the chart's own message is withheld: the chart reads objects of the cluster, and the message "
        f"could not be compared with the cluster's Secrets ({reason})"
    )
