"""Measure plans of a chart with 150 objects, all of which change: against helm's dry run, and apply against upgrade.

One after the other in every round: a plan and its apply, the same upgrade without a plan, ``helm upgrade
--dry-run=server``, ``helm upgrade``, and the difference of the last two revisions. Every other round begins with the
upgrade without a plan, for the first after helm's own upgrade is not as fast as the second.
A rest of 1 s is before each, because the cluster's controllers go on with 50 Deployments that have just changed.
"""

import asyncio
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure
from benchmarks.http import Answer, Connections, connections
from benchmarks.large import large_chart
from benchmarks.place import Place

ROUNDS = 8
OF_A_KIND = 50
REST_SECONDS = 1.0
_WAIT = {"Prefer": "wait=60"}


async def plans(place: Place) -> list[Figure]:
    archive = large_chart(OF_A_KIND)
    chart, file = place.upload(archive, again=True), place.folder / "bench-plans.tgz"
    file.write_bytes(archive)
    async with connections(place.server, warm=1) as http, place.namespace() as namespace:
        path = f"/api/v1/clusters/{place.server.cluster_id}/namespaces/{namespace}/releases/bench"
        rounds = _Rounds(place, http, namespace, path, chart, file)
        await _sent(http, "PUT", path, rounds.body("first"))
        for number in range(-1, ROUNDS):
            await rounds.run(number)
    return _figures(rounds.times)


@dataclass
class _Rounds:
    """Run the rounds over one release; ``times`` are in milliseconds, by what was done."""

    place: Place
    http: Connections
    namespace: str
    path: str
    chart: str
    file: Path
    times: dict[str, list[float]] = field(default_factory=dict)

    async def run(self, number: int) -> None:
        """Run one round; the first warms up and does not count."""
        steps = [self._planned, self._upgraded] if number % 2 else [self._upgraded, self._planned]
        for step in (*steps, self._tried, self._by_helm, self._compared):
            for name, milliseconds in (await step(number)).items():
                if number >= 0:
                    self.times.setdefault(name, []).append(milliseconds)

    def body(self, message: str) -> dict[str, Any]:
        return {"chart": {"id": self.chart}, "values": [{"object": {"message": message}}]}

    async def _planned(self, number: int) -> dict[str, float]:
        await asyncio.sleep(REST_SECONDS)
        plan = await _sent(self.http, "POST", f"{self.path}/plan", {"deploy": self.body(f"planned {number}")})
        assert plan.body["text"] == "+0 ~150 -0 =0", plan.body["text"]
        await asyncio.sleep(REST_SECONDS)
        where, digest = f"/api/v1/plans/{plan.body['id']}/apply", {"digest": plan.body["digest"]}
        applied = await _sent(self.http, "POST", where, digest)
        return {"plan": plan.seconds * 1000, "apply": applied.seconds * 1000}

    async def _upgraded(self, number: int) -> dict[str, float]:
        await asyncio.sleep(REST_SECONDS)
        upgraded = await _sent(self.http, "PUT", self.path, self.body(f"upgraded {number}"))
        return {"put": upgraded.seconds * 1000}

    async def _tried(self, number: int) -> dict[str, float]:
        return {"dry run": await self._helm("--dry-run=server", "--set", f"message=tried {number}")}

    async def _by_helm(self, number: int) -> dict[str, float]:
        return {"helm": await self._helm("--set", f"message=helm {number}")}

    async def _compared(self, _: int) -> dict[str, float]:
        await asyncio.sleep(REST_SECONDS)
        compared = await _sent(self.http, "GET", f"{self.path}/diff")
        assert compared.body["summary"]["changed"] == 3 * OF_A_KIND
        return {"diff": compared.seconds * 1000}

    async def _helm(self, *flags: str) -> float:
        await asyncio.sleep(REST_SECONDS)
        started = time.perf_counter()
        command = ("upgrade", "bench", str(self.file), *flags)
        await asyncio.to_thread(self.place.run_helm, *command, namespace=self.namespace)
        return (time.perf_counter() - started) * 1000


def _figures(times: dict[str, list[float]]) -> list[Figure]:
    def ratio(one: str, other: str, target: float, name: str) -> list[Figure]:
        return [
            Figure(f"{name}, {what}", (of(times[one]) / of(times[other]),), unit="", target=target)
            for what, of in (("medians", statistics.median), ("best", min))
        ]

    return [
        Figure("helm upgrade --dry-run=server, 150 objects", tuple(times["dry run"])),
        Figure("plan of the same", tuple(times["plan"])),
        *ratio("plan", "dry run", 1.5, "plan / helm's dry run"),
        Figure("helm upgrade of the same", tuple(times["helm"])),
        Figure("upgrade of the same, PUT to its end", tuple(times["put"])),
        Figure("apply of a plan of the same", tuple(times["apply"])),
        *ratio("apply", "helm", 1.05, "apply / helm upgrade"),
        *ratio("apply", "put", 1.05, "apply / PUT"),
        Figure("diff of two revisions of 150 objects", tuple(times["diff"]), target=150),
    ]


async def _sent(http: Connections, method: str, path: str, body: Any = None) -> Answer:
    answer = await http.send(method, path, body, headers=_WAIT if method != "GET" else None)
    assert answer.status in {200, 201}, answer.body
    assert answer.body.get("state", "succeeded") == "succeeded", answer.body
    return answer
