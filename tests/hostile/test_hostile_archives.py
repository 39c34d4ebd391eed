"""Chart archives of every hostile kind sent to the running server, and 200 that hypothesis makes.

None is answered with 5xx, none costs more than the budget, and every refusal names the file or the limit.
``PILOTHOUSE_TEST_ARCHIVES`` is how many are made.
"""

import gzip
import json
import os
import re
import tarfile
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.archives import BOMBS, HOSTILE_HEADERS, NEVER_IN_A_CHART, NO_WHOLE_ARCHIVES, named, raw_tar
from tests.support.charts import build_chart, config_map_template
from tests.support.servers import RunningServer, part

MADE = int(os.environ.get("PILOTHOUSE_TEST_ARCHIVES") or 200)
MIB = 1024 * 1024
#: Processor time of the API for one upload: a second of work on the archive, and the request around it.
MOST_SECONDS = 2.0
#: More than any archive may take: its files are held one at a time, each of at most 5 MiB, at four levels.
MOST_MEMORY = 96 * MIB

TABLE: dict[str, Callable[[], bytes]] = {
    **{f"no whole archive {n}": partial(bytes, data) for n, (data, _) in enumerate(NO_WHOLE_ARCHIVES)},
    **{f"entry {n}": partial(gzip.compress, raw_tar(entry)) for n, (entry, _) in enumerate(NEVER_IN_A_CHART)},
    **{
        f"header {n}": partial(gzip.compress, raw_tar()[:1024] + block + bytes(1024))
        for n, (block, _) in enumerate(HOSTILE_HEADERS)
    },
    **BOMBS,
}
SAID = [said for table in (NO_WHOLE_ARCHIVES, NEVER_IN_A_CHART, HOSTILE_HEADERS) for _, said in table]
#: A file, the archive, a limit, or the tool that found it.
_NAMED = re.compile(r"\barchive\b|\blimit\b|\blint\b|\bcontent\b|\.(yaml|yml|tgz|json|tpl)\b|'[^']+'")


@dataclass(frozen=True)
class Cost:
    """What the API process has used since its start."""

    seconds: float
    peak: int

    @classmethod
    def of(cls, pid: int) -> "Cost":
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])  # utime and stime: fields 14 and 15 of proc(5)
        peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        assert peak is not None
        return cls(ticks / os.sysconf("SC_CLK_TCK"), int(peak[1]) * 1024)


@pytest.fixture(scope="module")
def api(attacked: RunningServer) -> int:
    """Return the pid of the API process, warm: it has taken a chart of the largest size that is allowed."""
    large = build_chart(files={f"f{i}": os.urandom(512) + bytes(2 * MIB) for i in range(40)})
    assert attacked.upload(large, parameters='{"override": true, "skip_lint": true}').status_code == 201
    return part(attacked, "api")


def judge(answer: httpx2.Response, cost: Callable[[], Cost], before: Cost) -> None:
    """Fail unless the answer is a chart or a refusal that names something, within the budget."""
    assert answer.status_code in {201, 400}, (answer.status_code, answer.text)
    body = answer.json()
    assert isinstance(body, dict)
    if answer.status_code == 400:
        assert _NAMED.search(body["error_msg"]), body
    spent = cost()
    assert spent.seconds - before.seconds < MOST_SECONDS, (spent, before, answer.text)
    assert spent.peak - before.peak < MOST_MEMORY, (spent, before, answer.text)


def test_every_archive_of_the_table_is_refused_and_named(attacked: RunningServer, api: int):
    first = Cost.of(api)
    for number, (name, make) in enumerate(TABLE.items()):
        before = Cost.of(api)
        answer = attacked.upload(make(), parameters='{"skip_lint": true}')
        assert answer.status_code == 400, (name, answer.text)
        judge(answer, lambda: Cost.of(api), before)
        if number < len(SAID):
            assert re.search(SAID[number], json.loads(answer.text)["error_msg"]), (name, answer.text)
    grown = Cost.of(api).peak - first.peak
    print(f"{len(TABLE)} archives of the table refused; the API's peak grew by {grown / MIB:.0f} MiB")  # noqa: T201
    assert grown < MOST_MEMORY


NAMES = [
    "demo/Chart.yaml", "demo/values.yaml", "demo/values.schema.json", "demo/templates/a.yaml", "demo/templates/_h.tpl",
    "demo/charts/sub.tgz", "demo/charts/sub/Chart.yaml", "demo/charts/sub/charts/in.tgz", "demo/crds/x.yaml",
    "demo/README.md", "demo/.helmignore", "demo/Chart.lock", "demo/requirements.yaml", "demo/", "demo", "x", "/x",
    "../x", "demo/../x", "demo/a/../../x", "demo\\..\\x", "demo\\templates\\x", "demo/c:/x", "demo//x", "./demo/x",
    "demo/" + "d/" * 120 + "x", "demo/" + "n" * 3000, "demo/\x01", "demo/a\nb", "demo/\u202eyaml.x", "demo/._x", "o/x",
]  # fmt: skip
KINDS = [tarfile.REGTYPE] * 12 + [
    tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE,
    tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE, b"V", b"\0", b"M",
]  # fmt: skip
CONTENTS = [
    b"", b"a: 1\n", b"a: " + b"[" * 20_000, b"a: &a [" + b"*a," * 500 + b"]\n", b"\xff\xfe", b"{{", b"{}", b"null",
    b"apiVersion: v2\nname: demo\nversion: 1.2.3\n", b"apiVersion: v9\nname: ../x\nversion: x\n", bytes(MIB),
    bytes(6 * MIB), b'{"$ref": "http://127.0.0.1/x"}', config_map_template().encode(), b'{{ repeat 2000000000 "x" }}',
]  # fmt: skip

contents = st.sampled_from(CONTENTS) | st.binary(max_size=200)
entries = st.builds(
    lambda name, kind, content, link: (named(name, kind, linkname=link), content if kind == tarfile.REGTYPE else b""),
    st.sampled_from(NAMES),
    st.sampled_from(KINDS),
    contents,
    st.sampled_from(["", "/etc/passwd", "../../x", "demo/Chart.yaml", "x" * 300]),
)
forms = st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])


@st.composite
def archives(draw: st.DrawFn) -> bytes:
    """Return an archive of hostile entries, perhaps nested, then damaged in its headers, its tar or its gzip."""
    tar = bytearray(raw_tar(*draw(st.lists(entries, max_size=6)), form=draw(forms)))
    for _ in range(draw(st.integers(0, 2))):
        start = 512 * draw(st.integers(0, len(tar) // 512 - 1))
        where = draw(st.sampled_from([0, 100, 124, 156, 257, 345]))
        tar[start + where : start + where + 8] = draw(st.binary(min_size=8, max_size=8) | st.just(b"77777777"))
        if draw(st.booleans()):
            tar[start + 148 : start + 156] = b" " * 8
            tar[start + 148 : start + 156] = b"%06o\0 " % sum(tar[start : start + 512])
    packed = gzip.compress(bytes(tar), draw(st.sampled_from([0, 1, 9])))
    for _ in range(draw(st.sampled_from([0, 0, 1, 2, 6]))):
        packed = build_chart(subcharts={"inner.tgz": packed})
    return draw(damages)(packed)


damages: st.SearchStrategy[Callable[[bytes], bytes]] = st.one_of(
    st.just(lambda data: data),
    st.just(lambda data: data),
    st.integers(1, 400).map(lambda count: lambda data: data[:-count]),
    st.binary(min_size=1, max_size=40).map(lambda more: lambda data: data + more),
    st.just(lambda data: data + zlib.compress(bytes(MIB), wbits=31)),
    st.tuples(st.integers(0, 10**6), st.integers(1, 255)).map(
        lambda at: lambda data: data[: at[0] % len(data)] + bytes([at[1]]) + data[at[0] % len(data) + 1 :]
    ),
)


def test_archives_that_hypothesis_makes_are_stored_or_refused_by_name(attacked: RunningServer, api: int):
    seen: dict[int, int] = {}
    first = Cost.of(api)

    @settings(max_examples=MADE, suppress_health_check=list(HealthCheck), database=None)
    @given(archives(), st.booleans())
    def upload(archive: bytes, skip_lint: bool):  # noqa: FBT001 - hypothesis gives it
        before = Cost.of(api)
        answer = attacked.upload(archive, parameters=json.dumps({"override": True, "skip_lint": skip_lint}))
        judge(answer, lambda: Cost.of(api), before)
        seen[answer.status_code] = seen.get(answer.status_code, 0) + 1

    began = time.monotonic()
    upload()
    seconds, grown = time.monotonic() - began, Cost.of(api).peak - first.peak
    print(f"archives {seen}; {seconds:.0f} s; the API's peak grew by {grown / MIB:.0f} MiB")  # noqa: T201 - a figure
    assert set(seen) == {201, 400}, seen
    assert attacked.send("GET", "/v2/charts").status_code == 200
