"""Columns and indexes of kinds that many tables have, and what names their constraints."""

from datetime import datetime

from sqlalchemy import BigInteger, Boolean, Column, DateTime, Index, Integer, MetaData, Text, TextClause, func, text
from sqlalchemy.dialects.postgresql import ARRAY

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)


def text_column(name: str, comment: str | None = None) -> Column[str]:
    """Return a column for a text that is never null, and empty unless something is written."""
    return Column(name, Text, nullable=False, server_default="", comment=comment)


def count_column(name: str, comment: str | None = None) -> Column[int]:
    """Return a column for a number that is never null, and 0 unless something is written."""
    return Column(name, Integer, nullable=False, server_default=text("0"), comment=comment)


def big_count_column(name: str, comment: str | None = None) -> Column[int]:
    """Return a column for such a number of 64 bits."""
    return Column(name, BigInteger, nullable=False, server_default=text("0"), comment=comment)


def flag_column(name: str, comment: str | None = None) -> Column[bool]:
    """Return a column that says yes or no, and no unless something is written."""
    return Column(name, Boolean, nullable=False, server_default=text("false"), comment=comment)


def time_column(name: str, comment: str | None = None) -> Column[datetime]:
    """Return a column for a moment, or none."""
    return Column(name, DateTime(timezone=True), comment=comment)


def now_column(name: str) -> Column[datetime]:
    """Return a column for the moment at which the row was written."""
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp())


def fingerprints_column(name: str, comment: str) -> Column[list[str]]:
    """Return a column for the fingerprints of keys."""
    return Column(name, ARRAY(Text), nullable=False, server_default="{}", comment=comment)


def partial_index(name: str, *columns: str | TextClause, where: str | TextClause, unique: bool = False) -> Index:
    """Return an index over the rows for which the condition holds."""
    condition = text(where) if isinstance(where, str) else where
    return Index(name, *columns, unique=unique, postgresql_where=condition)
