"""How many plans a project can keep, and for how long, on a real PostgreSQL."""

import uuid

import psycopg
import pytest

from pilothouse.errors import QuotaExceeded
from pilothouse.store import plans
from pilothouse.store.database import Database
from pilothouse.store.plans import NewPlan, PlanRow

HOUR = 3600.0
DAY = 24 * HOUR


def new(project: str, *, size: int = 100, user: str = "") -> NewPlan:
    """A plan of that size, a quarter of it in what an apply needs; of a user of its own unless one is named."""
    part = size // 4
    return NewPlan(
        str(uuid.uuid4()),
        project,
        user or str(uuid.uuid4()),
        "cluster",
        "shop",
        "web",
        "upgrade",
        "sha256:x",
        b"x" * part,
        b"y" * (size - part),
    )


async def kept(database: Database, plan: NewPlan, *, most: int = 3, most_bytes: int = 10**6) -> PlanRow:
    async with database.autocommit() as connection:
        return await plans.keep(connection, plan, life_seconds=HOUR, most=most, most_bytes=most_bytes)


async def found(database: Database, plan: NewPlan, project: str, *, whole: bool = False) -> PlanRow | None:
    async with database.autocommit() as connection:
        return await plans.find(connection, plan.id, project_id=project, whole=whole)


async def expire(database: Database, *, limit: int = 100) -> int:
    async with database.transaction() as tx:
        return await plans.expire(tx, limit=limit)


def age(database: Database, project: str, *, seconds: float) -> None:
    """Make all plans of the project as if they had expired so long ago."""
    with psycopg.connect(database.dsn(), autocommit=True) as connection:
        connection.execute(
            "UPDATE plans SET expires_at = clock_timestamp() - make_interval(secs => %s) WHERE project_id = %s",
            [seconds, project],
        )


async def test_a_project_keeps_so_many_and_another_its_own(database: Database, projects: tuple[str, str]):
    for _ in range(3):
        await kept(database, new(projects[0]))
    with pytest.raises(QuotaExceeded, match=r"3 unexpired plans.*PILOTHOUSE_PLANS__PER_PROJECT"):
        await kept(database, new(projects[0]))
    await kept(database, new(projects[1]))


async def test_one_user_leaves_half_of_it_to_the_others(database: Database, projects: tuple[str, str]):
    for _ in range(2):
        await kept(database, new(projects[0], user="greedy"), most=4)
    with pytest.raises(QuotaExceeded, match=r"you have 2 unexpired plans.*half.*PILOTHOUSE_PLANS__PER_PROJECT"):
        await kept(database, new(projects[0], user="greedy"), most=4)
    await kept(database, new(projects[1], user="greedy"), most=4)
    await kept(database, new(projects[0], user="other"), most=4)


async def test_one_user_leaves_half_of_the_bytes_to_the_others(database: Database, projects: tuple[str, str]):
    await kept(database, new(projects[0], size=400, user="greedy"), most_bytes=1000)
    with pytest.raises(QuotaExceeded, match=r"larger than 500 bytes.*half"):
        await kept(database, new(projects[0], size=104, user="greedy"), most_bytes=1000)
    await kept(database, new(projects[0], size=500, user="other"), most_bytes=1000)


async def test_what_has_expired_makes_room_at_once(database: Database, projects: tuple[str, str]):
    for _ in range(3):
        await kept(database, new(projects[0], size=300))
    age(database, projects[0], seconds=0)
    await kept(database, new(projects[0], size=300), most_bytes=300)


async def test_what_has_expired_is_kept_as_long_as_there_is_room(database: Database, projects: tuple[str, str]):
    expired, other = new(projects[0], size=300), new(projects[1], size=300)
    await kept(database, expired, most_bytes=600)
    await kept(database, other, most_bytes=600)
    age(database, projects[0], seconds=0)
    age(database, projects[1], seconds=0)
    await kept(database, new(projects[0], size=300), most_bytes=600)
    assert await found(database, expired, projects[0]) is not None
    await kept(database, new(projects[0], size=1), most_bytes=600)
    assert await found(database, expired, projects[0]) is None
    assert await found(database, other, projects[1]) is not None


async def test_both_parts_count_to_the_size(database: Database, projects: tuple[str, str]):
    await kept(database, new(projects[0], size=600), most_bytes=1000)
    with pytest.raises(QuotaExceeded, match=r"larger than 1000 bytes.*PILOTHOUSE_PLANS__BYTES_PER_PROJECT"):
        await kept(database, new(projects[0], size=401), most_bytes=1000)
    await kept(database, new(projects[0], size=400), most_bytes=1000)


async def test_a_plan_is_of_its_project_and_read_in_parts(database: Database, projects: tuple[str, str]):
    one, other = projects
    plan = new(one)
    made = await kept(database, plan)
    assert await found(database, plan, one, whole=True) == made
    row = await found(database, plan, one)
    assert row is not None
    assert (row.plan_sealed, row.comparison_sealed) == (plan.plan_sealed, None)
    assert await found(database, plan, other) is None
    async with database.autocommit() as connection:
        planned = await plans.find_action(connection, plan.id, project_id=one)
        assert planned is not None
        assert (planned.action, planned.name) == ("upgrade", plan.release_name)
        assert await plans.find_action(connection, plan.id, project_id=other) is None


async def test_an_expired_plan_is_told_apart_for_a_day_and_then_collected(
    database: Database, projects: tuple[str, str]
):
    old = [new(projects[0]) for _ in range(3)]
    young = new(projects[1])
    for plan in (*old, young):
        await kept(database, plan)
    for project, seconds in ((projects[0], DAY + 60), (projects[1], DAY - 60)):
        age(database, project, seconds=seconds)
    row = await found(database, young, projects[1])
    assert row is not None
    assert row.is_expired
    collected = 0
    while (some := await expire(database, limit=2)) > 0:
        assert some <= 2
        collected += some
    assert collected >= 3
    assert [await found(database, plan, projects[0]) for plan in old] == [None] * 3
    assert await found(database, young, projects[1]) is not None
