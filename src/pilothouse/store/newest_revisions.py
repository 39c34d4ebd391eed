"""Marks the superseded revisions that are the newest of their release.

Helm never leaves the newest revision superseded, so lists look for the newest among the others only, which are few.
When somebody deletes a Secret, or damages it, a superseded revision can become the newest: it is marked as exposed, and
lists find it, too. A mark that is no longer true does no harm: a newer revision is preferred.
"""

import re
from collections.abc import Iterable

from sqlalchemy import text

from pilothouse.store.database import Transaction

_SECRET = re.compile(r"sh\.helm\.release\.v1\.(.+)\.v([1-9][0-9]{0,9})", re.ASCII | re.DOTALL)


async def expose(tx: Transaction, cluster_id: str, changed: Iterable[tuple[str, str]]) -> None:
    """Mark revisions that are the newest now that these Secrets changed, given by namespace and name."""
    named = [(namespace, *found.groups()) for namespace, secret in changed if (found := _SECRET.fullmatch(secret))]
    if named:
        namespaces, names, numbers = map(list, zip(*named, strict=True))
        params = {"namespaces": namespaces, "names": names, "revisions": list(map(int, numbers))}
        await tx.execute(_EXPOSE, {"cluster_id": cluster_id, **params})


async def expose_all(tx: Transaction, cluster_id: str) -> None:
    """Mark what is to be marked in the whole cluster, and remove marks that are no longer true."""
    await tx.execute(_EXPOSE_ALL, {"cluster_id": cluster_id})


# ruff: noqa: S608  # conditions of our own
_SHOWN = "gone_at IS NULL AND problem = ''"
_IS_NEWEST = f"""NOT EXISTS (
    SELECT FROM release_revisions higher
    WHERE higher.cluster_id = top.cluster_id AND higher.namespace = top.namespace AND higher.name = top.name
      AND higher.revision > top.revision AND {_SHOWN}
  )"""  # conditions of our own
# One look for each release, however few rows the planner expects: of a new cluster it knows nothing. Whatever the
# newest one's status is: another transaction may be superseding it.
_EXPOSE = text(f"""
WITH newest AS MATERIALIZED (
  SELECT shown.cluster_id, shown.namespace, shown.secret
  FROM (
    SELECT namespace, name, max(revision) AS revision
    FROM unnest(CAST(:namespaces AS text[]), CAST(:names AS text[]), CAST(:revisions AS bigint[]))
      AS changed (namespace, name, revision)
    GROUP BY namespace, name
  ) changed CROSS JOIN LATERAL (
    SELECT cluster_id, namespace, secret, revision FROM release_revisions
    WHERE cluster_id = :cluster_id AND namespace = changed.namespace AND name = changed.name AND {_SHOWN}
    ORDER BY revision DESC LIMIT 1
  ) shown
  WHERE shown.revision <= changed.revision
)
UPDATE release_revisions top SET exposed = true
FROM newest
WHERE top.cluster_id = newest.cluster_id AND top.namespace = newest.namespace AND top.secret = newest.secret
  AND top.gone_at IS NULL AND top.problem = '' AND NOT top.exposed
""")
_EXPOSE_ALL = text(f"""
UPDATE release_revisions top SET exposed = NOT exposed
WHERE top.cluster_id = :cluster_id AND top.gone_at IS NULL AND top.problem = ''
  AND (top.status = 'superseded' OR top.exposed)
  AND top.exposed <> (top.status = 'superseded' AND {_IS_NEWEST})
""")
