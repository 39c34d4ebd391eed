"""Processes of two versions on one schema, while operations are under way: docs/decisions/0023-rolling-upgrades.md.

The next version is this one with a further migration, which only adds. The version before is not at hand in a checkout
without history; that its migrations only add is what ``tests/rules/test_migrations.py`` holds.
"""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import pilothouse
from pilothouse.store.schema_revision import needed_revision
from tests.support.charts import config_map_chart
from tests.support.fleet_load import Load, judge
from tests.support.fleets import Fleet, fleet, run_command
from tests.support.releases import HelmCommand
from tests.support.servers import open_folder

NEXT = "9999"
_MIGRATION = """
from alembic import op

revision = "9999"
down_revision = "{before}"


def upgrade() -> None:
    op.execute(\"\"\"
ALTER TABLE operations ADD COLUMN of_the_next_version text, ADD COLUMN counted integer NOT NULL DEFAULT 0;
CREATE TABLE of_the_next_version (id text NOT NULL CONSTRAINT pk_next PRIMARY KEY, at timestamptz);
CREATE INDEX ix_next ON operations (of_the_next_version)
\"\"\")
"""


@pytest.fixture(scope="module")
def next_version() -> Iterator[dict[str, str]]:
    """Yield the variables with which a process is of the next version."""
    with open_folder() as folder:
        tree = folder / "pilothouse"
        shutil.copytree(Path(pilothouse.__file__).parent, tree)
        migration = tree / "store" / "migrations" / "versions" / f"v{NEXT}_next.py"
        migration.write_text(_MIGRATION.format(before=needed_revision()))
        yield {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture
def old() -> Iterator[Fleet]:
    with fleet(apis=1, workers=1, observers=1) as running:
        yield running


def variables(running: Fleet) -> dict[str, str]:
    return running.processes["worker-0"].environment


async def test_parts_are_replaced_one_by_one_under_load(
    old: Fleet, next_version: dict[str, str], kubeconfig: str, namespace: str, helm_cli: HelmCommand
):
    old.register(kubeconfig)
    chart = old.apis[0].upload(config_map_chart("rolling")).json()["id"]
    load, stop = Load(lambda: old.apis, chart_id=chart, namespace=namespace), asyncio.Event()
    working = asyncio.create_task(load.run(stop, writers=2, reads_per_second=5))
    said = await asyncio.to_thread(run_command, "migrate", variables(old) | next_version)
    assert said == f"migrated the database from schema {needed_revision()} to {NEXT}\n"

    for part in ("worker", "api", "observer"):
        new = old.start(part, f"{part}-new", environment=next_version)
        await asyncio.to_thread(new.wait_until_ready)
        assert old.processes[f"{part}-0"].readiness() == (200, "ok\n")
        if part == "worker":
            await _both_worked(old)
        await asyncio.to_thread(old.stop, f"{part}-0")
    stop.set()
    await working

    verdict = await asyncio.to_thread(judge, old.database_url, load.accepted, helm_cli, namespace=namespace)
    assert (verdict.lost, verdict.doubled) == ([], [])
    assert verdict.accepted > 4
    assert not {"500"} & set(load.failures), load.failures


async def _both_worked(running: Fleet) -> None:
    """Return when a worker of each version has carried out an operation since the migration."""
    pids = {process.process.pid for process in running.of("worker")}
    seen: set[int] = set()
    async with asyncio.timeout(60):
        with running.connect() as connection:
            while not pids <= seen:
                found = connection.execute("SELECT worker FROM operations WHERE worker <> ''").fetchall()
                seen |= {int(worker.split(":")[1]) for (worker,) in found}
                await asyncio.sleep(0.02)


def test_an_old_process_can_be_started_again_and_knows_when_it_can_not(old: Fleet, next_version: dict[str, str]):
    run_command("migrate", variables(old) | next_version)
    again = old.start("worker", "worker-again")
    again.wait_until_ready()
    assert run_command("migrate", variables(old)) == f"the database is already at schema {NEXT}\n"
    with old.connect() as connection:
        connection.execute("UPDATE schema_compatibility SET oldest_program = %s", [NEXT])

    status, text = again.readiness()
    assert (status, text) == (503, f"the database has schema {NEXT} and this program needs {needed_revision()}\n")
    with pytest.raises(AssertionError, match="it was migrated by a newer one; start that version"):
        run_command("migrate", variables(old))
