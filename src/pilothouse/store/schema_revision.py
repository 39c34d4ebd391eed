"""Whether this program can run on the schema of the database, without what it takes to migrate it.

A program runs on the schema that its newest migration makes, and on a newer one that says so: while an installation is
upgraded, processes of the version before go on beside new ones (docs/decisions/0023-rolling-upgrades.md).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from pilothouse.store.database import Transaction

_MIGRATIONS: Final = Path(__file__).parent / "migrations" / "versions"
FIND_REVISION: Final = text("SELECT max(version_num) FROM alembic_version")
FIND_OLDEST: Final = text("SELECT max(oldest_program) FROM schema_compatibility")


@dataclass(frozen=True)
class Schema:
    """The schema of a database: its revision, empty if nothing migrated it, and of which the oldest program is for it.

    ``oldest_program`` is empty where only the program of that very revision is.
    """

    revision: str
    oldest_program: str = ""

    @property
    def is_newer(self) -> bool:
        """True if a newer program made it."""
        return self.revision > needed_revision()

    @property
    def problem(self) -> str:
        """The reason why this program cannot run on it; empty if it can."""
        needed = needed_revision()
        if self.revision == needed or (self.is_newer and self.oldest_program and self.oldest_program <= needed):
            return ""
        return f"the database has schema {self.revision or 'none'} and this program needs {needed}"


def needed_revision() -> str:
    """Return the revision that the newest migration makes; the files are named after it."""
    return max(path.stem.removeprefix("v").partition("_")[0] for path in _MIGRATIONS.glob("v*_*.py"))


async def find_schema(tx: Transaction) -> Schema:
    """Return the schema that the database has."""
    try:
        found = Schema((await tx.execute(FIND_REVISION)).scalar_one() or "")
        if found.is_newer:
            return Schema(found.revision, (await tx.execute(FIND_OLDEST)).scalar_one() or "")
    except ProgrammingError:
        return Schema("")
    return found
