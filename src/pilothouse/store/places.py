"""Places: the clusters and namespaces that a caller may see, when their policies limit a list to some of them."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, FromClause, func, select, tuple_
from sqlalchemy.dialects.postgresql import ARRAY, TEXT
from sqlalchemy.sql.expression import bindparam

#: The id of a cluster, and a namespace.
Place = tuple[str, str]


def among(table: FromClause, places: Sequence[Place]) -> ColumnElement[bool]:
    """Return the condition that a row is of one of these places: two arrays, however many there are."""
    clusters, namespaces = [place[0] for place in places], [place[1] for place in places]
    arrays = (bindparam(None, ids, type_=ARRAY(TEXT)) for ids in (clusters, namespaces))
    allowed = func.unnest(*arrays).table_valued("cluster_id", "namespace").render_derived()
    return tuple_(table.c.cluster_id, table.c.namespace).in_(select(allowed.c.cluster_id, allowed.c.namespace))
