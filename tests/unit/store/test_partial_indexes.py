"""Statements of workers, whose plans are generic: PostgreSQL compares the text of a partial index with theirs."""

import pytest
from sqlalchemy import Select, select
from sqlalchemy.dialects import postgresql

from pilothouse.states import HELD_STATES, LIVING_STATES
from pilothouse.store.tables import in_states, one_writer, operations

LEASES = next(index for index in operations.indexes if index.name == "ix_operations_leases")


@pytest.mark.parametrize(("states", "index"), [(HELD_STATES, LEASES), (LIVING_STATES, one_writer)])
def test_the_states_that_are_sought_are_those_of_the_index_and_no_parameters(states, index):
    sought = text_of(select(operations.c.id).where(in_states(states)), render_postcompile=True)
    covered = text_of(select(operations.c.id).where(index.dialect_options["postgresql"]["where"]), literal_binds=True)

    assert sought == covered
    assert "'cancelling'" in sought


def text_of(statement: Select[tuple[str]], **options: bool) -> str:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy declares no types here
    return str(statement.compile(dialect=dialect, compile_kwargs=options))
