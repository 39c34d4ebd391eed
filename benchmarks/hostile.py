"""How long other requests take while hostile charts are uploaded, one right after the other."""

import asyncio
import itertools
import time
import uuid
from collections.abc import Callable

from benchmarks.figures import Figure, percentile
from benchmarks.http import Connections, connections
from benchmarks.place import Place
from tests.support.charts import build_chart, config_map_chart, pack_archive

CHARTS = 20
ROUNDS = 3
RATE = 20
_CHART = b"apiVersion: v2\nname: bomb\nversion: 1.0.0\n"


def _name() -> str:
    return f"hostile-{uuid.uuid4().hex[:10]}"


def _zeros() -> bytes:
    """95 MB in a few KiB."""
    return pack_archive({"z/Chart.yaml": _CHART} | {f"z/{n}": bytes(5_000_000) for n in range(19)}, level=9)


def _cycle() -> dict[str, str]:
    links = (f'{{{{ define "a{n}" }}}}{{{{ include "a{(n + 1) % 200}" . }}}}{{{{ end }}}}' for n in range(200))
    return {"_h.tpl": "".join(links), "a.yaml": '{{ include "a0" . }}'}


HOSTILE: list[Callable[[], bytes]] = [
    lambda: build_chart(_name(), subcharts={f"b{n}.tgz": _zeros() for n in range(8)}),
    lambda: pack_archive({"z/Chart.yaml": _CHART} | {f"z/{n}": b"" for n in range(100_000)}, level=1),
    lambda: build_chart(_name(), values="a: [" + "1," * 500_000 + "]"),
    lambda: build_chart(_name(), values={"x": "{{ tpl .Values.x . }}"}, templates={"a.yaml": "{{ tpl .Values.x . }}"}),
    lambda: build_chart(_name(), templates=_cycle()),
    lambda: build_chart(_name(), templates={"a.yaml": "{{ until 1000000000 }}"}),
    lambda: build_chart(_name(), templates={"a.yaml": '{{ repeat 2000000000 "ab" }}'}),
    lambda: build_chart(_name(), templates={"a.yaml": "{{ randAlphaNum 2000000000 }}"}),
]


async def hostile(place: Place) -> list[Figure]:
    archives = [make() for make in HOSTILE]
    chart = place.upload(config_map_chart("bench-victim"))
    async with connections(place.server) as http:
        await _requests(place, http, chart, until=asyncio.create_task(asyncio.sleep(2)))
        quiet = [
            await _requests(place, http, chart, until=asyncio.create_task(asyncio.sleep(10))) for _ in range(ROUNDS)
        ]
        rounds = []
        for _ in range(ROUNDS):
            attack = asyncio.create_task(asyncio.to_thread(_attack, place, archives))
            rounds.append(await _requests(place, http, chart, until=attack))
            await attack
    return [
        Figure(f"GET at {RATE}/s, nothing else: p99", tuple(percentile(one, 0.99) for one in quiet)),
        Figure(f"GET at {RATE}/s during {CHARTS} hostile uploads: p50", tuple(percentile(one, 0.5) for one in rounds)),
        Figure("the same: p99", tuple(percentile(one, 0.99) for one in rounds), target=250),
    ]


def _attack(place: Place, archives: list[bytes]) -> None:
    for archive in itertools.islice(itertools.cycle(archives), CHARTS):
        answer = place.server.upload(archive)
        assert answer.status_code == 400, (answer.status_code, answer.text)
        assert "limit" in answer.text, answer.text


async def _requests(place: Place, http: Connections, chart: str, *, until: "asyncio.Task[None]") -> list[float]:
    """Seconds from each request's due time to its answer, of charts and releases in turn; none may fail."""
    started = time.perf_counter()
    paths = itertools.cycle([f"/v2/charts/{chart}", place.releases, f"/v2/charts/{chart}/values"])
    running = []

    async def one(path: str, due: float) -> float:
        answer = await http.send("GET", path)
        assert answer.status == 200, answer.body
        return time.perf_counter() - due

    for number in itertools.count():
        due = started + number / RATE
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        running.append(asyncio.create_task(one(next(paths), due)))
        if until.done():
            return list(await asyncio.gather(*running))
    raise AssertionError
