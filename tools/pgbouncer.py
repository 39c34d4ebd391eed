"""Finds the PgBouncer that tests connect through; ``python -m tools.pgbouncer`` installs Debian's where it can."""

import os
import shutil
import sys

from tools import debian

_PACKAGE = "pgbouncer"


def find_pgbouncer() -> str | None:
    """Return the path of the program on this machine."""
    folders = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin"))  # where Debian has it, whoever asks
    return os.environ.get("PILOTHOUSE_TEST_PGBOUNCER") or shutil.which(_PACKAGE, path=folders)


def main() -> int:
    """Install it if it is missing and this is root on Debian; else say what to do, which is no failure."""
    return debian.provide(
        _PACKAGE,
        found=find_pgbouncer(),
        what_for="the tests of databases behind a pooler",
        otherwise=f"the tests of databases behind a pooler need PgBouncer: install Debian's {_PACKAGE}, or set "
        "PILOTHOUSE_TEST_PGBOUNCER to the program; without it they are skipped",
    )


if __name__ == "__main__":
    sys.exit(main())
