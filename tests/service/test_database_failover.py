"""A PostgreSQL that fails over to its synchronous standby, under load: what was accepted is there and goes on."""

import asyncio

from tests.support.charts import config_map_chart
from tests.support.fleet_load import Load, judge
from tests.support.fleets import fleet
from tests.support.postgres_pairs import postgres_pair
from tests.support.releases import HelmCommand


async def test_nothing_that_was_accepted_is_lost_with_the_primary(
    kubeconfig: str, namespace: str, helm_cli: HelmCommand
):
    with postgres_pair() as pair, fleet(apis=1, workers=2, observers=1, database_url=pair.url) as running:
        running.register(kubeconfig)
        chart = running.apis[0].upload(config_map_chart("failover")).json()["id"]
        load, stop = Load(lambda: running.apis, chart_id=chart, namespace=namespace), asyncio.Event()
        working = asyncio.create_task(load.run(stop, writers=3, reads_per_second=5))
        await _accepted(load, working, more=4)

        await asyncio.to_thread(pair.kill_primary)
        await asyncio.sleep(1)
        before = [process.process.pid for process in running.processes.values()]
        await asyncio.to_thread(pair.promote)
        await _accepted(load, working, more=4)
        stop.set()
        await working

        verdict = await asyncio.to_thread(judge, running.database_url, load.accepted, helm_cli, namespace=namespace)
        assert (verdict.lost, verdict.doubled) == ([], [])
        assert [process.process.pid for process in running.processes.values()] == before
        for process in running.processes.values():
            assert process.process.poll() is None, f"{process.name} did not outlive it"
            await asyncio.to_thread(process.wait_until_ready)


async def _accepted(load: Load, working: "asyncio.Task[None]", *, more: int) -> None:
    """Return when so many more operations were accepted."""

    def count() -> int:
        return sum(len(one.operations) for one in load.accepted)

    wanted = count() + more
    async with asyncio.timeout(90):
        while count() < wanted:
            done, _ = await asyncio.wait([working], timeout=0.05)
            for task in done:
                task.result()
