"""Secrets full of lines, which a chart can make: comparing texts with them holds the event loop for nobody."""

import asyncio
import base64
import json
import secrets
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any

import pytest

from pilothouse.kubernetes.client import ClusterClient
from pilothouse.loop_watch import LoopWatch
from pilothouse.services.releases.secret_data import without_secret_data
from pilothouse.settings import ChartLimits, ClusterSettings
from pilothouse.worker.diagnostics.evidence import masks_of_secrets
from pilothouse.worker.diagnostics.found import Found
from tests.support.charts import build_chart
from tests.support.hostile_clusters import HostileCluster, answer

MOST_SECONDS = 0.05
#: A busy machine adds what it does else; what is really computed is in every try.
TRIES = 12
LOOKS_UP = build_chart("looks", templates={"fail.yaml": '{{ lookup "v1" "Secret" "" "" | toJson | fail }}'})
SAID = "execution error at (looks/templates/fail.yaml:1:3): "


@cache
def lines(size: int) -> tuple[str, ...]:
    return tuple(secrets.token_hex(8) for _ in range(size // 16))


def full_of_lines(size: int) -> str:
    return "\n".join(lines(size))


def page(*data: dict[str, str], more: str = "") -> bytes:
    """Return a page of a list of these Secrets, ready, because the server's thread shares the interpreter."""
    items = [{"metadata": {"name": f"s{number}"}, "data": one} for number, one in enumerate(data)]
    metadata = {"resourceVersion": "1", "continue": more}
    return json.dumps({"kind": "SecretList", "metadata": metadata, "items": items}).encode()


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


async def mask(cluster: HostileCluster, text: str, *pages: bytes) -> str:
    async def tell(target: str, writer: asyncio.StreamWriter) -> None:
        await answer(writer, pages[-1] if "continue=" in target else pages[0])

    cluster.attacks["/api/v1/secrets?"] = tell
    client = ClusterClient(cluster.kubeconfig, ClusterSettings(allow_loopback=True))
    try:
        return await without_secret_data(text, chart=LOOKS_UP, client=client, limits=ChartLimits())
    finally:
        await client.close()


async def least_hold(work: Callable[[], Awaitable[Any]]) -> float:
    """Return the longest hold of the loop while the work is done; the least of some tries, or the first good one."""
    least = float("inf")
    for _ in range(TRIES):
        watch = LoopWatch()
        watch.start()
        await asyncio.sleep(0.05)
        await work()
        await asyncio.sleep(0.05)
        least = min(least, watch.longest_seconds())
        await watch.stop()
        if least < MOST_SECONDS:
            break
    return least


async def test_a_message_is_compared_with_many_lines_beside_the_loop(cluster: HostileCluster):
    secret = lines(500_000)[-1]
    body = page(*({"k": encoded(full_of_lines(500_000))} for _ in range(11)))
    masked = []

    async def work() -> None:
        masked.append(await mask(cluster, f"{SAID}it says {secret}", body))

    assert await least_hold(work) < MOST_SECONDS
    assert set(masked) == {f"{SAID}it says ***"}


@pytest.mark.parametrize(
    ("pages", "said"),
    [
        (
            [page(*[{"k": "A" * 700_000}] * 6, more="next"), page(*[{"k": "A" * 700_000}] * 6)],
            "they have more than 8 MiB",
        ),
        ([page({f"k{number}": "YQ==" for number in range(20_001)})], "they have more than 20000 values"),
        (
            [page({"k": encoded("\n".join(f"it says {number}" for number in range(41_000)))})],
            "too many of their lines begin like a part of the message",
        ),
    ],
    ids=["bytes", "values", "lines"],
)
async def test_a_message_is_withheld_where_there_is_more_to_compare_it_with(
    cluster: HostileCluster, pages: list[bytes], said: str
):
    masked = await mask(cluster, f"{SAID}it says something", *pages)
    assert masked.startswith("execution error at (looks/templates/fail.yaml:1:3): the chart's own message is withheld")
    assert masked.endswith(f"({said})")


@pytest.mark.parametrize(("count", "is_withheld"), [(1, False), (40, True)])
async def test_the_secrets_of_a_release_are_prepared_beside_the_loop(count: int, *, is_withheld: bool):
    every = lines(480_000 * count)
    each = len(every) // count
    texts = ["\n".join(every[number * each : (number + 1) * each]) for number in range(count)]
    documents = [{"kind": "Secret", "stringData": {"k": text}} for text in texts]
    found: list[str] = []

    async def work() -> None:
        evidence = Found([await masks_of_secrets(documents)])
        found.append(evidence.clean(f"cannot log in with {every[-1]}"))

    assert await least_hold(work) < MOST_SECONDS
    assert ("withheld" in found[0]) == is_withheld
    assert every[-1] not in found[0]
