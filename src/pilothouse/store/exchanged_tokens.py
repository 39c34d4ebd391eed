"""Tokens of identity providers that were exchanged for one of ours: each counts once, at every replica."""

from datetime import datetime
from typing import Final

from sqlalchemy import DateTime, Integer, Text, bindparam, delete, func, select
from sqlalchemy.dialects import postgresql

from pilothouse.store.database import Transaction
from pilothouse.store.tables import exchanged_tokens

#: Clocks of replicas differ: a row is kept for longer than any of them takes its token.
_LONGER: Final = 3600.0

_CLAIM = (
    postgresql.insert(exchanged_tokens)
    .values(digest=bindparam("of_token", type_=Text), until=bindparam("good_until", type_=DateTime(timezone=True)))
    .on_conflict_do_nothing()
    .returning(exchanged_tokens.c.digest)
)
_SOME = (
    select(exchanged_tokens.c.digest)
    .where(exchanged_tokens.c.until < func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 0, 0, _LONGER))
    .limit(bindparam("most", type_=Integer))
    .with_for_update(skip_locked=True)
    .cte("some")  # which runs once, so the limit holds
)
_EXPIRE = delete(exchanged_tokens).where(exchanged_tokens.c.digest.in_(select(_SOME.c.digest)))


async def claim(tx: Transaction, digest: str, *, until: datetime) -> bool:
    """Remember the token, which is good until then; return False if it was claimed before."""
    return (await tx.execute(_CLAIM, {"of_token": digest, "good_until": until})).first() is not None


async def expire(tx: Transaction, *, limit: int) -> int:
    """Forget at most so many that are too old to be taken again; return how many."""
    return (await tx.execute(_EXPIRE, {"most": limit})).rowcount
