"""The cluster and chart that a write of a release refers to, read in one round trip."""

from dataclasses import fields

from sqlalchemy import BindParameter, and_, bindparam, select

from pilothouse.errors import Forbidden
from pilothouse.store.charts import ChartRow
from pilothouse.store.clusters import ClusterRow
from pilothouse.store.database import Transaction
from pilothouse.store.tables import charts, clusters
from pilothouse.store.verifications import find, is_refused

_CLUSTER = [field.name for field in fields(ClusterRow)]
_CHART = [field.name for field in fields(ChartRow)]
_OF_PROJECT: BindParameter[str] = bindparam("of_project")
_FIND = (
    select(
        *(clusters.c[name].label(f"cluster_{name}") for name in _CLUSTER),
        *(charts.c[name].label(f"chart_{name}") for name in _CHART),
        is_refused(charts.c.digest, charts.c.project_id).label("is_refused"),
    )
    .select_from(
        clusters.outerjoin(charts, and_(charts.c.id == bindparam("chart_id"), charts.c.project_id == _OF_PROJECT))
    )
    .where(clusters.c.id == bindparam("cluster_id"), clusters.c.project_id == _OF_PROJECT)
)
_IS_REFUSED = select(
    is_refused(bindparam("of_digest", type_=charts.c.digest.type), bindparam("of_project", type_=charts.c.digest.type))
)


async def find_cluster_and_chart(
    tx: Transaction, *, cluster_id: str, chart_id: str, project_id: str
) -> tuple[ClusterRow | None, ChartRow | None]:
    """Return both, as far as they belong to that project; the chart is not looked up if there is no cluster.

    Raises Forbidden for a chart that is not verified, if the project takes verified ones only.
    """
    params = {"cluster_id": cluster_id, "chart_id": chart_id, "of_project": project_id}
    row = (await tx.execute(_FIND, params)).mappings().one_or_none()
    if row is None:
        return None, None
    cluster = ClusterRow(**{name: row[f"cluster_{name}"] for name in _CLUSTER})
    if row["chart_id"] is None:
        return cluster, None
    chart = ChartRow(**{name: row[f"chart_{name}"] for name in _CHART})
    if row["is_refused"]:
        raise await _not_verified(tx, chart)
    return cluster, chart


async def require_verified(tx: Transaction, chart: ChartRow) -> None:
    """Raise Forbidden for a chart that is not verified, if its project takes verified ones only."""
    params = {"of_digest": chart.digest, "of_project": chart.project_id}
    if (await tx.execute(_IS_REFUSED, params)).scalar_one():
        raise await _not_verified(tx, chart)


async def _not_verified(tx: Transaction, chart: ChartRow) -> Forbidden:
    way = "upload it with its provenance, or name it by a source that verifies charts"
    signed = await find(tx, project_id=chart.project_id, digest=chart.digest)
    if signed is not None and not signed.of_revision:
        way = (
            f"it was signed by {signed.signed_by or 'the key'} ({signed.fingerprint}), which is not trusted any more: "
            "take one that another key has signed"
        )
    return Forbidden(
        f"chart {chart.name} {chart.version} is not verified by a key that this project trusts, and the project "
        f"takes verified charts only; {way}"
    )
