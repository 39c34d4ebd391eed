"""Whether PostgreSQL has room to write: by sorting more than its memory may hold, which goes to disk and away again.

Nothing of it stays, in no table and in no catalogue. Its temporary files lie beside the tables unless the server has
a table space for them; a server that cannot write its log ends, and is not reached at all.
"""

from sqlalchemy import text

from pilothouse.store.database import Transaction

_LITTLE_MEMORY = text("SET LOCAL work_mem = '64kB'")
_SORT = text(
    "SELECT count(*) FROM (SELECT number FROM generate_series(1, 6000) AS number ORDER BY md5(number::text)) x"
)


async def write_and_forget(tx: Transaction) -> None:
    """Write some hundred kilobytes in the transaction, which leave nothing; raises as any statement does."""
    await tx.execute(_LITTLE_MEMORY)
    await tx.execute(_SORT)
