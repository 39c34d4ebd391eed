"""``pilothouse migrate``."""

from pilothouse.cli.configuration import read_settings
from pilothouse.cli.databases import reachable_database
from pilothouse.cli.terminal import echo
from pilothouse.store.database import Database
from pilothouse.store.migration import migrate
from pilothouse.store.poolers import refuse_shared_sessions


def migrate_database() -> None:
    """Migrate the database to this version's schema and report it; an embedded one is started if necessary."""
    with reachable_database(read_settings(), may_create=True) as url:
        refuse_shared_sessions(url)
        before, after = migrate(Database(url))
    if before == after:
        echo(f"the database is already at schema {after}")
    else:
        echo(f"migrated the database from schema {before or 'nothing'} to {after}")
