"""Samples of a running server: what each of its processes holds, and what its tables and folders do."""

import contextlib
import re
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import psycopg

from benchmarks.place import child_of, children_of, cpu_seconds, postmaster_of
from tests.support.servers import RunningServer

PARTS = ("api", "observer", "worker")
_MIB = 1024
#: What one process holds, in the order of ``Held``'s fields.
_SIZES = re.compile(r"^(Pss|Pss_Anon|Pss_Shmem): +(\d+) kB$", re.MULTILINE)
#: Rows that go away again: what is under way, and what is kept for minutes with the settings of the run.
_TABLES = (
    "operations",
    "operation_events",
    "operation_evidence",
    "idempotency_keys",
    "plans",
    "sessions",
    "tokens",
    "password_failures",
    "webhook_deliveries",
    "source_versions",
    "charts",
    "chart_archives",
    "drift_looks",
    "observers",
    "release_revisions",
    "audit",
)
_ROWS = ", ".join(f"(SELECT count(*) FROM {name})" for name in _TABLES)  # noqa: S608 - names of this file
_COUNTS = f"""
SELECT (SELECT count(*) FROM operations WHERE finished_at IS NULL),
  (SELECT count(*) FROM webhook_deliveries WHERE state = 'pending'),
  (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()),
  (SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%%'),
  {_ROWS}
"""  # noqa: S608 - names of this file
_COUNTED = ("operations under way", "messages to send", "connections of PostgreSQL", "open transactions", *_TABLES)


@dataclass
class Held:
    """What the processes of one part hold together: megabytes, and numbers of things."""

    processes: int = 0
    pss: float = 0.0
    private: float = 0.0
    shared: float = 0.0
    files: int = 0
    sockets: int = 0
    threads: int = 0

    def __iadd__(self, other: Self) -> Self:
        for name, amount in asdict(other).items():
            setattr(self, name, getattr(self, name) + amount)
        return self


@dataclass
class Sample:
    """One look at everything; ``at``: seconds since the beginning."""

    at: float
    phase: str
    held: dict[str, Held] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    processor: float = 0.0
    #: Descriptors of each part by what they lead to, for who looks for a leak.
    leads: dict[str, dict[str, int]] = field(default_factory=dict)


def take_sample(server: RunningServer, at: float, phase: str, *, temporary: Path) -> Sample:
    """Look at all processes, tables and folders of the server."""
    sample = Sample(at, phase)
    pids = processes_of(server)
    for part, found in pids.items():
        held, leads = Held(), Counter[str]()
        for pid in found:
            with contextlib.suppress(OSError):  # it ended while we looked
                held += held_by(pid, leads)
        sample.held[part], sample.leads[part] = held, dict(leads)
    postgres = pids["PostgreSQL"][0]
    everyone = [pid for found in pids.values() for pid in found]
    sample.processor = cpu_seconds(everyone) + sum(cpu_seconds([pid], ended=True) for pid in (server.pid, postgres))
    sample.processor += cpu_seconds([pids[part][0] for part in PARTS], ended=True)
    with psycopg.connect(server.database_url, autocommit=True) as rows:
        row: tuple[Any, ...] = rows.execute(_COUNTS).fetchone() or ()
    sample.counts = dict(zip(_COUNTED, row, strict=True))
    sample.counts["files in the temporary folder"] = _files(temporary)
    sample.counts["files in the data folder"] = _files(server.data_dir, without="postgres")
    return sample


def processes_of(server: RunningServer) -> dict[str, list[int]]:
    """Return the processes of each part, the longest-lived first."""
    found = {"supervisor": [server.pid], **{part: [child_of(server.pid, part)] for part in PARTS}}
    for part in PARTS:
        if engines := children_of(found[part][0]):
            found[f"engine children of the {part}"] = sorted(engines)
    postmaster = postmaster_of(server.data_dir)
    return {**found, "PostgreSQL": [postmaster, *children_of(postmaster)]}


def held_by(pid: int, leads: Counter[str]) -> Held:
    """Return what one process holds, and add where its descriptors lead to."""
    of = Path(f"/proc/{pid}")
    sizes = {name: int(size) / _MIB for name, size in _SIZES.findall((of / "smaps_rollup").read_text())}
    targets = []
    for descriptor in (of / "fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            targets.append(str(descriptor.readlink()))
    leads.update(re.sub(r":\[\d+\]|\d+", "", target) for target in targets)
    return Held(
        processes=1,
        pss=sizes["Pss"],
        private=sizes["Pss_Anon"],
        shared=sizes["Pss_Shmem"],
        files=len(targets),
        sockets=sum(target.startswith("socket:") for target in targets),
        threads=sum(1 for _ in (of / "task").iterdir()),
    )


def _files(folder: Path, *, without: str = "") -> int:
    return sum(1 for found in folder.rglob("*") if found.is_file() and without not in found.relative_to(folder).parts)
