"""A registry that somebody adds as a source costs little, and learns nothing that is meant for another host."""

import base64
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from pilothouse.chart_sources.fetch import Fetch, Origin, fetching
from pilothouse.chart_sources.registry import INDEX
from pilothouse.chart_sources.registry import Repository as OfRegistry
from pilothouse.errors import InvalidSource
from pilothouse.settings import SourceSettings
from tests.support.chart_sources import Reply, Repository, Request, repository

PASSWORD = "only for its own host"


@pytest.fixture
def registry() -> Iterator[Repository]:
    with repository(tls=False) as serving:
        yield serving


@asynccontextmanager
async def asking(registry: Repository) -> AsyncIterator[Fetch]:
    async def look_up(_: str) -> list[str]:
        return ["127.0.0.1"]

    origin = Origin(url=f"{registry.url}/team", username="puller", password=PASSWORD)
    settings = SourceSettings(allow_http=True, allow_loopback=True)
    async with fetching(origin, settings, look_up) as fetch:
        yield fetch


def json_reply(document: object, **headers: str) -> Reply:
    return Reply(json.dumps(document).encode(), headers={"Content-Type": "application/json", **headers})


async def test_a_password_is_not_sent_to_the_mirror_whose_list_goes_on(registry: Repository):
    with repository(tls=False) as mirror:
        mirror.answers = lambda _: json_reply({"tags": ["1.0.0"]}, Link=f'<{mirror.url}/more>; rel="next"')
        registry.answers = lambda one: Reply(status=307, headers={"Location": f"{mirror.url}{one.path}"})
        async with asking(registry) as fetch:
            with pytest.raises(InvalidSource, match="its next page is on another host"):
                await OfRegistry(fetch, fetch.origin.url, "web").list_versions()
        told = [value for one in mirror.requests for value in one.headers.values()]
    assert len(mirror.requests) == 1
    secret = base64.b64encode(f"puller:{PASSWORD}".encode()).decode()
    assert not [value for value in told if PASSWORD in value or secret in value]


async def test_a_catalogue_without_end_is_asked_for_no_longer_than_names_are_used(registry: Repository):
    def page(_: Request) -> Reply:
        names = [f"team/chart-{len(registry.requests)}-{number}" for number in range(300)]
        return json_reply({"repositories": [*names, "team/no chart", "other/web"]}, Link='</v2/_catalog?x>; rel="next"')

    registry.answers = page
    async with asking(registry) as fetch:
        names = await OfRegistry(fetch, fetch.origin.url, "").list_names(most=500)
    assert (len(names), len(registry.requests)) == (500, 2)
    assert names[0] == "chart-1-0"


async def test_more_that_belongs_to_a_chart_than_anybody_signs_is_refused_before_all_is_read(registry: Repository):
    listed = [{"digest": f"sha256:{number:064x}", "artifactType": "x"} for number in range(600)]
    more = {"Content-Type": INDEX, "Link": '</v2/more>; rel="next"'}
    registry.answers = lambda _: Reply(json.dumps({"manifests": listed}).encode(), headers=more)
    async with asking(registry) as fetch:
        with pytest.raises(InvalidSource, match="more than 1000 things"):
            await OfRegistry(fetch, fetch.origin.url, "web").list_referrers(f"sha256:{0:064x}")
    assert len(registry.requests) == 2


@pytest.mark.parametrize("size", [10, 5_000_000])
async def test_the_text_of_a_refusal_is_not_kept(registry: Repository, size: int):
    registry.answers = lambda _: Reply(b"x" * size, status=404)
    async with asking(registry) as fetch:
        answer = await fetch.get(f"{registry.url}/team/web.tgz", most_bytes=64 * 1024 * 1024)
    assert (answer.status, answer.body) == (404, b"")
    assert answer.size < 300_000
