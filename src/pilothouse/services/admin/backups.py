"""Backups: the database and its keys in one file.

A backup is a ZIP file: ``database/NNN-TABLE.copy`` per table, ``master.key``, ``tls/…``, and finally ``manifest.json``,
which lists every other entry with its digest, so that a truncated file is not a backup. Invariant: data and key match,
both when the backup is made and before a restore is committed.
"""

import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Final, Self

from pilothouse import __version__
from pilothouse.auth.key_file import KeyRing, format_keys, parse_keys, read_keys, write_keys
from pilothouse.auth.sealing import HEAD_BYTES, MasterKeys
from pilothouse.errors import InvalidBackup
from pilothouse.store.database import Database
from pilothouse.store.database_dump import Contents, CopiedTable, replacement, snapshot

_FORMAT: Final = 1
_MANIFEST: Final = "manifest.json"
_KEY: Final = "master.key"
_TLS: Final = ("ca.pem", "ca.key", "server.pem", "server.key")
_PIECE: Final = 1024 * 1024


@dataclass(frozen=True)
class Backup:
    """The manifest of a backup file."""

    created_at: datetime
    version: str
    revision: str
    tables: int
    sealed_values: int
    has_key: bool
    size: int


def make_backup(
    file: Path, database: Database, *, data_dir: Path, key_file: Path, with_key: bool, clock: Callable[[], datetime]
) -> Backup:
    """Write a consistent backup (0600) while servers run; the file is created atomically.

    Raises InvalidBackup if the file exists, and DecryptionFailed if the key file does not open the data.
    """
    if file.exists():
        raise InvalidBackup(f"{file} exists; a backup never replaces a file")
    with (
        snapshot(database) as shot,
        _appearing(file) as appearing,
        zipfile.ZipFile(appearing, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):
        # Read inside the snapshot: every key that its values need is in the file now.
        ring = read_keys(key_file)
        number = shot.check_sealed(HEAD_BYTES, _opens_with(ring))
        digests: dict[str, str] = {}
        names: dict[str, str] = {}
        for position, table in enumerate(shot.contents.tables):
            names[table.name] = entry = f"database/{position:03d}-{table.name}.copy"
            with _Entry(archive, entry) as out:
                shot.read_rows(table, out.write)
            digests[entry] = out.digest
        if with_key:
            files = {_KEY: format_keys(ring)}
            files |= {f"tls/{name}": path.read_bytes() for name in _TLS if (path := data_dir / "tls" / name).is_file()}
            for entry, content in files.items():
                archive.writestr(entry, content)
                digests[entry] = hashlib.sha256(content).hexdigest()
        now = clock()
        manifest = {
            "format": _FORMAT,
            "created_at": now.isoformat(),
            "version": __version__,
            "revision": shot.contents.revision,
            "tables": [{**asdict(table), "entry": names[table.name]} for table in shot.contents.tables],
            "sequences": shot.contents.sequences,
            "sealed_values": number,
            "sha256": digests,
        }
        archive.writestr(_MANIFEST, json.dumps(manifest, indent=2))
    return Backup(now, __version__, shot.contents.revision, len(names), number, with_key, file.stat().st_size)


class BackupFile:
    """A backup that can be restored; every read verifies the digest."""

    def __init__(self, archive: zipfile.ZipFile, path: Path) -> None:
        """Read the manifest; raise InvalidBackup for any other file, and for an unknown format."""
        self._archive = archive
        self._path = path
        try:
            manifest: dict[str, Any] = json.loads(archive.read(_MANIFEST))
            if manifest["format"] != _FORMAT:
                raise InvalidBackup(f"{path} has format {manifest['format']!r}; this Pilothouse reads {_FORMAT}")
            self._digests: dict[str, str] = manifest["sha256"]
            self._entries = {table["name"]: str(table["entry"]) for table in manifest["tables"]}
            tables = [CopiedTable(table["name"], list(table["columns"])) for table in manifest["tables"]]
            self.contents = Contents(manifest["revision"], tables, dict(manifest["sequences"]))
            self.facts = Backup(
                created_at=datetime.fromisoformat(manifest["created_at"]),
                version=manifest["version"],
                revision=manifest["revision"],
                tables=len(tables),
                sealed_values=manifest["sealed_values"],
                has_key=_KEY in self._digests,
                size=path.stat().st_size,
            )
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise InvalidBackup(f"{path} is not a backup, or is damaged: {error}") from error

    def rows(self, table: CopiedTable) -> Iterator[bytes]:
        """Yield the rows of a table; raise InvalidBackup at their end if the digest does not match."""
        return self._read(self._entries[table.name])

    def keys(self) -> KeyRing | None:
        """Return the master keys, if the backup has them."""
        if _KEY not in self._digests:
            return None
        return parse_keys(b"".join(self._read(_KEY)), self._path)

    def tls_files(self) -> dict[str, bytes]:
        """Return the local authority and its certificate, by file name."""
        return {name: b"".join(self._read(f"tls/{name}")) for name in _TLS if f"tls/{name}" in self._digests}

    def _read(self, entry: str) -> Iterator[bytes]:
        digest = hashlib.sha256()
        try:
            with self._archive.open(entry) as content:
                while piece := content.read(_PIECE):
                    digest.update(piece)
                    yield piece
        except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, OSError) as error:
            raise InvalidBackup(f"{self._path} is damaged at {entry}: {error}") from error
        if digest.hexdigest() != self._digests[entry]:
            raise InvalidBackup(f"{self._path} is damaged at {entry}: the digest does not match")


@contextmanager
def open_backup(path: Path) -> Iterator[BackupFile]:
    """Open the backup in this file; raise InvalidBackup if it is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield BackupFile(archive, path)
    except OSError as error:
        raise InvalidBackup(f"{path} cannot be read: {error.strerror}") from error
    except zipfile.BadZipFile as error:
        raise InvalidBackup(f"{path} is not a backup, or is truncated: {error}") from error


def restore_backup(backup: BackupFile, database: Database, ring: KeyRing, *, replace: bool) -> int:
    """Replace the database with the backup's, in one transaction, and return the number of sealed values checked.

    Raises InvalidBackup, or DecryptionFailed for keys that do not match; then the database is unchanged.
    """
    with replacement(database, backup.contents, replace=replace) as target:
        for table in backup.contents.tables:
            target.load(table, backup.rows(table))
        target.set_sequences()
        number = target.check_sealed(HEAD_BYTES, _opens_with(ring))
        if number != backup.facts.sealed_values:
            raise InvalidBackup(
                f"{number} sealed values arrived of {backup.facts.sealed_values}: the backup is damaged"
            )
    return number


def refuse_other_keys(key_file: Path, ring: KeyRing) -> None:
    """Raise InvalidBackup if there is a key file that lacks a key of the ring: what it opens would be lost."""
    if not key_file.exists():
        return
    present = {(key.id, key.secret) for key in read_keys(key_file).keys}
    if not {(key.id, key.secret) for key in ring.keys} <= present:
        raise InvalidBackup(
            f"{key_file} contains other keys than the backup: this is another installation's data folder. Use an empty "
            "one (PILOTHOUSE_DATA_DIR), or --replace, which keeps the old file aside"
        )


def install_files(backup: BackupFile, ring: KeyRing, *, data_dir: Path, key_file: Path) -> list[Path]:
    """Install the master keys and the backup's authority; return the names of files moved aside.

    A key file that already has all the keys is left unchanged. Raises DecryptionFailed or InvalidBackup.
    """
    aside: list[Path] = []
    try:
        try:
            refuse_other_keys(key_file, ring)
        except InvalidBackup:
            aside.append(_quarantine(key_file))
        if not key_file.exists():
            write_keys(key_file, format_keys(ring))
        folder = data_dir / "tls"
        authority = backup.tls_files()
        present = folder / "ca.pem"
        if authority and (not present.exists() or present.read_bytes() != authority["ca.pem"]):
            if folder.exists():
                aside.append(_quarantine(folder))
            folder.mkdir()
            for name, content in authority.items():
                with os.fdopen(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
                    out.write(content)
            for name in ("ca.pem", "server.pem"):
                (folder / name).chmod(0o644)
    except OSError as error:
        raise InvalidBackup(
            f"the database is restored, but its files are not: {error}. They are in the backup: unzip it by hand"
        ) from error
    return aside


def _quarantine(path: Path) -> Path:
    number = 1
    while (target := path.with_name(f"{path.name}.before-restore-{number}")).exists():
        number += 1
    return path.rename(target)


def _opens_with(ring: KeyRing) -> Callable[[str, bytes], None]:
    keys = MasterKeys.of_ring(ring)
    return lambda name, head: keys.check_head(head, what=f"a value of {name}")


class _Entry:
    """An entry of the archive while it is written; its digest at the end."""

    def __init__(self, archive: zipfile.ZipFile, name: str) -> None:
        self._out = archive.open(name, "w", force_zip64=True)
        self._digest = hashlib.sha256()
        self.digest = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._out.close()
        self.digest = self._digest.hexdigest()

    def write(self, piece: bytes) -> None:
        self._digest.update(piece)
        self._out.write(piece)


@contextmanager
def _appearing(file: Path) -> Iterator[IO[bytes]]:
    temporary = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as out:
                yield out
                out.flush()
                os.fsync(descriptor)
            os.link(temporary, file)  # unlike a rename, never replaces a file
        finally:
            temporary.unlink()
    except OSError as error:
        raise InvalidBackup(f"{file} cannot be written: {error.strerror}") from error
