"""A migration that processes of the version before cannot stand says so: docs/decisions/0023-rolling-upgrades.md."""

import re
from pathlib import Path

from pilothouse.store import migration
from pilothouse.store.schema_revision import Schema, needed_revision

FILES = sorted((Path(migration.__file__).parent / "migrations" / "versions").glob("v*_*.py"))
#: Before this one nothing was promised.
FIRST = "0035"
#: What an old program still uses may be gone, or be asked for what it does not write.
CONTRACTS = re.compile(
    r"\b(DROP|RENAME)\b|\bSET NOT NULL\b|\bALTER (COLUMN )?\w+ (SET DATA )?TYPE\b"
    r"|\bALTER TABLE \w+[^;]*\bADD (CONSTRAINT|CHECK|FOREIGN KEY|UNIQUE)\b"
    r"|\bADD COLUMN (?![^,;]*\bDEFAULT\b)[^,;]*\bNOT NULL\b",
    re.IGNORECASE,
)
SAYS_SINCE_WHEN = re.compile(r"UPDATE schema_compatibility\s+SET oldest_program = '\d{4}'")


def test_a_migration_that_takes_something_away_says_which_programs_stand_it():
    silent = [
        file.name
        for file in FILES
        if file.name[1:5] > FIRST
        and CONTRACTS.search(file.read_text())
        and not SAYS_SINCE_WHEN.search(file.read_text())
    ]
    assert silent == []


def test_the_rule_tells_both_kinds_apart():
    """Of those before the rule: what they did is known."""
    contracting = {file.name[1:5] for file in FILES if file.name[1:5] <= FIRST and CONTRACTS.search(file.read_text())}
    assert {"0018", "0021", "0024", "0027", "0030"} <= contracting
    assert contracting.isdisjoint({"0001", "0009", "0010", "0028", "0029", "0031", "0032", "0034", "0035"})
    for text in (
        "ALTER TABLE a ADD COLUMN b text NOT NULL",
        "ALTER TABLE a ALTER COLUMN b TYPE bigint",
        "ALTER TABLE a ADD COLUMN b text, ADD CONSTRAINT ck_a_b CHECK (b <> '')",
    ):
        assert CONTRACTS.search(text), text
    for text in (
        "ALTER TABLE a ADD COLUMN b text, ADD COLUMN c integer NOT NULL DEFAULT 0",
        "CREATE TABLE a (b text NOT NULL CONSTRAINT pk_a PRIMARY KEY)",
    ):
        assert not CONTRACTS.search(text), text


def test_a_program_runs_on_its_own_schema_and_on_newer_ones_that_say_so():
    needed = needed_revision()
    assert Schema(needed).problem == ""
    assert Schema("9999", needed).problem == ""
    assert Schema("9999", FIRST).problem == ""
    for other in (Schema(""), Schema("0001"), Schema("0001", FIRST), Schema("9999"), Schema("9999", "9998")):
        assert other.problem == f"the database has schema {other.revision or 'none'} and this program needs {needed}"
