"""The list of releases over all clusters of a project: ``GET /api/v1/releases`` at 100 and at 10,000 releases.

The index is filled in the database, for 50 clusters that nobody watches, with five revisions of each release. The
projects are tenants of their own. ``PILOTHOUSE_BENCH_SCALE`` (1) makes the larger one smaller.
"""

import asyncio
import os

import psycopg

from benchmarks.figures import Figure, percentile
from benchmarks.http import connections
from benchmarks.place import Place
from tests.support.servers import RunningServer
from tests.support.tenants import add_tenant

SCALE = float(os.environ.get("PILOTHOUSE_BENCH_SCALE", "1"))
CLUSTERS = 50
FEW, MANY = 100, max(200, int(10_000 * SCALE))
REVISIONS = 5
ASKED = 150
QUERIES = {
    "first page": "",
    "by name": "sort=name",
    "newest first": "sort=-updated",
    "failed": "status=failed",
    "search": "name=rel-99",
    "of a chart, newest first": "chart=chart-3&sort=-updated",
    "of a cluster": "cluster=cluster-7",
    "with totals": "totals=true",
    "drifted": "drifted=true",
    "with an update": "update_available=true",
}


async def releases(place: Place) -> list[Figure]:
    # it runs an event loop of its own
    few, many = [await asyncio.to_thread(add_tenant, place.server) for _ in range(2)]
    fill(few, FEW)
    fill(many, MANY)
    figures = []
    for what, query in QUERIES.items():
        small, large = await _ask(few, query), await _ask(many, query)
        figures += [
            Figure(f"{what}, {FEW} releases: p50", (percentile(small, 0.5),)),
            Figure(f"{what}, {MANY} releases: p50", (percentile(large, 0.5),), target=30),
            Figure(f"{what}, {MANY} releases: p99", (percentile(large, 0.99),), target=100),
        ]
    return figures


async def _ask(server: RunningServer, query: str) -> list[float]:
    seconds = []
    async with connections(server, warm=1) as pool:
        for _ in range(ASKED):
            answer = await pool.send("GET", f"/api/v1/releases?limit=100&{query}")
            assert answer.status == 200, answer.body
            seconds.append(answer.seconds)
    return seconds


def fill(server: RunningServer, releases: int) -> None:
    """Write clusters under a lease that no observer has, and their releases."""
    params = {"project": server.project_id, "clusters": CLUSTERS, "releases": releases, "revisions": REVISIONS}
    with psycopg.connect(server.database_url, autocommit=True) as connection:
        connection.execute(_CLUSTERS, params)
        connection.execute(_WATCHES, params)
        connection.execute(_RELEASES, params)
        connection.execute(_LOOKS, params)
        connection.execute(_SOURCE, params)
        connection.execute(_ORIGINS, params)
        connection.execute("VACUUM (ANALYZE) release_revisions, drift_looks, chart_origins")  # as autovacuum soon would


_CLUSTERS = """
INSERT INTO clusters (id, project_id, name, server, kubeconfig_sealed)
SELECT %(project)s || '-' || i, %(project)s, 'cluster-' || i, 'https://x.test', ''
FROM generate_series(1, %(clusters)s) i
"""
_WATCHES = """
INSERT INTO cluster_watches (cluster_id, holder, lease_until, listed_at, seen_at)
SELECT %(project)s || '-' || i, 'benchmark', now() + interval '1 day', now(), now()
FROM generate_series(1, %(clusters)s) i
"""
_RELEASES = """
INSERT INTO release_revisions (
  cluster_id, namespace, secret, name, revision, epoch, resource_version, uid, status, description, chart_name,
  chart_version, first_deployed, last_deployed, values_sealed, origin_chart_id
)
SELECT %(project)s || '-' || (1 + r %% %(clusters)s), 'ns-' || (r %% 7), 'sh.helm.release.v1.rel-' || r || '.v' || v,
  'rel-' || r, v, 0, 1, 'uid',
  CASE WHEN v < %(revisions)s THEN 'superseded' WHEN r %% 97 = 0 THEN 'failed' ELSE 'deployed' END,
  'Upgrade complete', 'chart-' || (r %% 20), '1.' || v, now(), now() - make_interval(secs => (r * 7919) %% 100000),
  convert_to(repeat('x', 1000), 'UTF8'), %(project)s || '-' || (r %% 20) || '-' || v
FROM generate_series(1, %(releases)s) r, generate_series(1, %(revisions)s) v
"""
_SOURCE = """
INSERT INTO chart_sources (id, project_id, name, kind, url)
VALUES (%(project)s || '-source', %(project)s, 'source', 'http', 'https://x.test')
"""
#: Each revision's chart came from the source, which has something newer than a quarter of the newest ones.
_ORIGINS = """
INSERT INTO chart_origins (chart_id, source_id, name, version, order_key, newer_version)
SELECT %(project)s || '-' || chart || '-' || v, %(project)s || '-source', 'chart-' || chart, '1.' || v, v || '~',
  CASE WHEN v < %(revisions)s OR chart < 5 THEN '2.0' ELSE '' END
FROM generate_series(0, 19) chart, generate_series(1, %(revisions)s) v
"""
_LOOKS = """
INSERT INTO drift_looks (cluster_id, namespace, name, revision, added, changed, removed, unknown)
SELECT cluster_id, namespace, name, revision, 0, CASE WHEN name LIKE '%%7' THEN 1 ELSE 0 END, 0, 0
FROM release_revisions WHERE cluster_id LIKE %(project)s || '-%%' AND status = 'deployed'
"""
