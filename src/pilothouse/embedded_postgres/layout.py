"""Locations of the embedded PostgreSQL: folders, socket, and the note that finds them again.

Pilothouse's data folder contains the passwords of the roles and ``postgres.json``, the note, all private to us. The
database has a separate folder, by default ``postgres`` in the data folder:

    lock        held by the one Pilothouse that owns the server
    start.log   what PostgreSQL printed before its log files opened
    data        the database, 0700, of PostgreSQL's account
    log         its log files, one per weekday, 0700, of PostgreSQL's account

Root's data folder may be closed to PostgreSQL's account (below a private home, or 0700 itself). Then the database's
folder is ``/var/lib/pilothouse-postgres/<digest of the data folder's path>``, which is recorded in the note and used
from then on. A configured folder is never replaced like this; it is refused. If the data folder was deleted and
recreated, the contents of the system folder belong to the previous one, and nobody has their password any more. They
are moved to another name, not deleted.

The socket is in a short private folder elsewhere, because a socket's path holds at most 107 bytes and data folders are
often longer. The note keeps its path, so that clients with the old address find a new server.
"""

import contextlib
import hashlib
import json
import os
import secrets
import stat
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pilothouse.embedded_postgres.account import Account
from pilothouse.errors import DatabaseUnavailable
from pilothouse.files import write_file

SYSTEM_DIR = Path("/var/lib/pilothouse-postgres")
SOCKET_NAME = ".s.PGSQL.5432"
_SOCKET_PATH_BYTES = 107
_PRIVATE = 0o700


@dataclass(frozen=True)
class Layout:
    """The folder of one embedded database, and the paths in it."""

    root: Path

    @property
    def data(self) -> Path:
        """The database itself; it exists only if initdb finished."""
        return self.root / "data"

    @property
    def logs(self) -> Path:
        """The folder of the log files that PostgreSQL itself writes."""
        return self.root / "log"

    @property
    def start_log(self) -> Path:
        """The file with what PostgreSQL printed before it opened its log files."""
        return self.root / "start.log"

    def owner_uid(self) -> int | None:
        """Return the owner of the database; None if there is none yet."""
        try:
            return self.data.stat().st_uid
        except FileNotFoundError:
            return None

    def major(self) -> int | None:
        """Return the major version that created the database; None if there is none yet."""
        try:
            return int((self.data / "PG_VERSION").read_text().strip())
        except FileNotFoundError:
            if self.data.exists():
                raise DatabaseUnavailable(
                    f"{self.data} has no PG_VERSION, so it is not a database, or is damaged: "
                    "restore it from a backup, or move it away to begin with an empty database"
                ) from None
            return None

    def log_tail(self, lines: int = 25) -> str:
        """Return the last lines that PostgreSQL logged, for an error message."""
        written: list[str] = []
        for path in sorted([*self.logs.glob("*.log"), *self.root.glob("start.log")], key=_changed)[-2:]:
            try:
                handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            except OSError:
                continue
            with os.fdopen(handle, "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - 16_384))
                written += file.read(16_384).decode(errors="replace").splitlines()
        return "\n".join(written[-lines:])


def _changed(path: Path) -> int:
    return path.lstat().st_mtime_ns


@dataclass(frozen=True)
class StateFile:
    """State for later starts: the database's folder, the socket's, and whether initdb ever finished."""

    root: Path | None = None
    socket_dir: Path | None = None
    initialized: bool = False


def read_state_file(data_dir: Path) -> StateFile:
    """Return the note of an earlier start, empty if there is none; raise DatabaseUnavailable if it is damaged."""
    path = data_dir / "postgres.json"
    try:
        fields = json.loads(path.read_text())
        root, socket_dir = fields["root"], fields["socket_dir"]
        return StateFile(
            # Relative to the data folder where it can be, so that the folder can be moved.
            root=None if root is None else data_dir / root,
            socket_dir=None if socket_dir is None else Path(socket_dir),
            initialized=bool(fields["initialized"]),
        )
    except FileNotFoundError:
        return StateFile()
    except (ValueError, KeyError, TypeError) as error:
        raise DatabaseUnavailable(
            f"{path}, which says where the database is, does not read ({error!r}): restore it, or remove it when the "
            f"database lies in {data_dir / 'postgres'}"
        ) from error


def write_state_file(data_dir: Path, state: StateFile) -> None:
    """Replace the note atomically."""
    root = state.root
    if root is not None and root.is_relative_to(data_dir):
        root = root.relative_to(data_dir)
    fields = {
        "root": None if root is None else str(root),
        "socket_dir": None if state.socket_dir is None else str(state.socket_dir),
        "initialized": state.initialized,
    }
    write_file(data_dir / "postgres.json", json.dumps(fields, indent=1).encode() + b"\n")


def find_layout(
    data_dir: Path, state: StateFile, *, configured: Path | None, account: Account, system_dir: Path
) -> Layout:
    """Return the database's folder, which exists and which the account can enter.

    Raises DatabaseUnavailable if it is closed to the account, or if an existing database is gone.
    """
    if configured is not None:
        root = configured.absolute()
        # A configured folder that moved is a decision of the operator; the old note does not bind it.
        state = state if state.root == root else replace(state, initialized=False)
    else:
        root = state.root or data_dir / "postgres"
    if state.initialized and not (root / "data").exists():
        raise DatabaseUnavailable(
            f"the database {root / 'data'} is gone: restore it from a backup (or mount its disk); "
            f"to begin with an empty one, remove {data_dir / 'postgres.json'}"
        )
    if (root / "PG_VERSION").exists():
        raise DatabaseUnavailable(
            f"{root} is a database itself, and Pilothouse keeps its own one in a subfolder: set "
            "PILOTHOUSE_POSTGRES__DATA_DIR to an empty folder, or PILOTHOUSE_DATABASE_URL to that database's server"
        )
    make_folder(root)
    closed = account.closed_folder(root)
    if closed is not None and configured is None and not (root / "data").exists():
        with contextlib.suppress(OSError):
            root.rmdir()
        root = system_dir / hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
        system_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        make_folder(root)
        (root / "belongs-to").write_text(f"{data_dir}\n")
        closed = account.closed_folder(root)
    if closed is not None:
        raise DatabaseUnavailable(
            f"PostgreSQL would run as {account.name}, and {account.name} may not enter {closed}, which lies on the way "
            f"to the database in {root}: choose a folder outside (PILOTHOUSE_POSTGRES__DATA_DIR), let the account pass "
            f"(chmod o+x {closed}), or name another account (PILOTHOUSE_POSTGRES__USER)"
        )
    return Layout(root)


def is_abandoned(layout: Layout, data_dir: Path, state: StateFile, *, system_dir: Path) -> bool:
    """Return True for a database in the system folder whose data folder, with note and password, was deleted."""
    return (
        layout.root.parent == system_dir
        and layout.data.exists()
        and state.root is None
        and not (data_dir / "postgres.password").exists()
    )


def quarantine(layout: Layout) -> Path:
    """Move the folder of an abandoned database away, leave an empty one, and return its new path."""
    aside = Path(tempfile.mkdtemp(prefix=f"{layout.root.name}.abandoned-", dir=layout.root.parent))
    layout.root.rename(aside)
    make_folder(layout.root)
    return aside


def socket_bases() -> list[Path]:
    """Return short system folders that may hold the socket's folder, best first."""
    uid = os.geteuid()
    return [Path("/run") if uid == 0 else Path(f"/run/user/{uid}"), Path("/tmp"), Path("/var/tmp")]  # noqa: S108 (checked below)


def make_socket_folder(remembered: Path | None, *, account: Account, bases: Sequence[Path]) -> Path:
    """Create a folder that only the account (and root) can use, at the remembered path if possible.

    Raises DatabaseUnavailable if no base is safe, writable and short enough.
    """
    if remembered is not None and remembered.parent in bases and _safe_base(remembered.parent):
        with contextlib.suppress(OSError):  # there already, or no longer possible: the check decides
            remembered.mkdir(mode=_PRIVATE)
            account.own(remembered)
        if is_private_folder(remembered, account.uid):
            return remembered
    for base in bases:
        if len(os.fsencode(base / "pilothouse-xxxxxxxx" / SOCKET_NAME)) > _SOCKET_PATH_BYTES or not _safe_base(base):
            continue
        try:
            folder = Path(tempfile.mkdtemp(prefix="pilothouse-", dir=base))
        except OSError:
            continue
        account.own(folder)
        if account.closed_folder(folder) is None:
            return folder
        folder.rmdir()
    raise DatabaseUnavailable(
        f"no folder for PostgreSQL's socket: none of {', '.join(map(str, bases))} is writable for us, safe from other "
        "accounts (owned by root or us, and sticky if others may write) and short "
        f"(a socket's path has at most {_SOCKET_PATH_BYTES} bytes)"
    )


def is_private_folder(folder: Path, uid: int) -> bool:
    """Return True for a real folder of the user id that is closed to everyone else, and whose parent keeps it so."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return (
        stat.S_ISDIR(found.st_mode)
        and stat.S_IMODE(found.st_mode) == _PRIVATE
        and found.st_uid == uid
        and _safe_base(folder.parent)
    )


def remove_socket_folder(folder: Path) -> None:
    """Remove the folder with the socket of a stopped server; a folder with other files is kept."""
    clear_socket_folder(folder)
    with contextlib.suppress(OSError):
        folder.rmdir()


def clear_socket_folder(folder: Path) -> None:
    """Remove what a stopped server left: a lock file whose number is in use again would block the next one."""
    for name in (SOCKET_NAME, f"{SOCKET_NAME}.lock"):
        (folder / name).unlink(missing_ok=True)


def read_or_make_password(path: Path, *, may_make: bool) -> str:
    """Return a password from a file that only we can read; generate it if allowed and missing."""
    try:
        password = path.read_text().strip()
    except FileNotFoundError:
        password = ""
    if not password and not may_make:
        raise DatabaseUnavailable(
            f"{path} is missing or empty, and the database opens with no other password: restore the file from a backup"
        )
    if not password:
        password = secrets.token_hex(32)
        write_file(path, f"{password}\n".encode())
    return password


def make_folder(path: Path) -> None:
    """Create the folder and its missing parents: owned by us and, if we are root, traversable by others."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    path.chmod(0o711 if os.geteuid() == 0 else 0o700)


def _safe_base(base: Path) -> bool:
    try:
        found = base.stat()
    except OSError:
        return False
    others_write = bool(found.st_mode & 0o022)
    return (
        stat.S_ISDIR(found.st_mode)
        and found.st_uid in {0, os.geteuid()}
        and (not others_write or bool(found.st_mode & stat.S_ISVTX))
    )
