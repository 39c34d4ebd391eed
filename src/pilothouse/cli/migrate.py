"""``pilothouse migrate``."""

from pilothouse.cli.configuration import read_settings
from pilothouse.cli.databases import reachable_database
from pilothouse.cli.terminal import echo
from pilothouse.store.database import Database
from pilothouse.store.migration import migrate


def migrate_database() -> None:
    """The database has this version's schema, which is said; an embedded one that does not run is started for it."""
    with reachable_database(read_settings(), may_create=True) as url:
        before, after = migrate(Database(url))
    if before == after:
        echo(f"the database is at schema {after} already")
    else:
        echo(f"the database went from schema {before or 'nothing'} to {after}")
