"""Rotation of master keys while servers run, and removal of old keys that nothing needs.

The order that keeps every value readable at every moment: the new key is in the file before anything is sealed with it;
then values are re-sealed in batches, each replaced only if it is unchanged since it was read; then, when no value needs
the old key and no request that began before can still write with it, the old key is removed from the file. Every step
can be interrupted and repeated.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from pilothouse.auth.key_file import KeyRing, MasterKey, RandomBytes, change_keys, new_key, read_keys
from pilothouse.auth.sealing import HEADER_BYTES, MasterKeys, key_id_of
from pilothouse.errors import DecryptionFailed
from pilothouse.store import sealed as store
from pilothouse.store.database import Database

_BATCH: Final = 20  # a value can have a megabyte
#: A request seals before it writes; none takes longer than this, its waits for cluster and database included.
SETTLE: Final = timedelta(minutes=10)


@dataclass(frozen=True)
class KeyUse:
    """One key of the file. ``role``: seals, opens (old values), staged (known, but not yet sealing)."""

    key: MasterKey
    role: str
    values: int


@dataclass
class Resealed:
    """Result of re-sealing; ``broken`` names the values that no key of the file opens."""

    values: int = 0
    broken: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Dropped:
    """Keys that were removed from the file, and why the other old keys stay."""

    ids: list[str]
    kept: dict[str, str]


def stage_key(path: Path, *, now: datetime) -> MasterKey:
    """Add a key that opens but does not seal, to be copied to other machines; an already staged one is kept."""

    def add(ring: KeyRing) -> KeyRing:
        return ring if _staged(ring) else replace(ring, keys=(*ring.keys, new_key(os.urandom, beside=ring, now=now)))

    staged = _staged(change_keys(path, add))
    if staged is None:
        raise DecryptionFailed(f"{path} was changed by another program meanwhile; check it, then retry")
    return staged


def begin_new_key(path: Path, *, now: datetime, random_bytes: RandomBytes = os.urandom) -> MasterKey:
    """Make the staged key, or a new one if none is staged, the sealing key; the previous one only opens."""

    def begin(ring: KeyRing) -> KeyRing:
        following = _staged(ring)
        kept = tuple(replace(key, retired_at=now) if key.id == ring.sealing else key for key in ring.keys)
        if following is None:
            following = new_key(random_bytes, beside=ring, now=now)
            kept = (*kept, following)
        return KeyRing(kept, following.id)

    ring = change_keys(path, begin)
    return next(key for key in ring.keys if key.id == ring.sealing)


async def list_keys(database: Database, path: Path) -> list[KeyUse]:
    """Return every key of the file with its number of values; raise DecryptionFailed for values of unknown keys."""
    ring, used = read_keys(path), await _values_by_key(database)
    unknown = sorted(used.keys() - {key.id for key in ring.keys})
    if unknown:
        raise DecryptionFailed(
            f"{sum(used[key] for key in unknown)} sealed values need the master key {', '.join(unknown)}, which "
            f"{path} does not hold; restore the key file that belongs to this database"
        )
    staged = _staged(ring)
    roles = {ring.sealing: "seals", **({staged.id: "staged"} if staged else {})}
    return [KeyUse(key, roles.get(key.id, "opens"), used.get(key.id, 0)) for key in ring.keys]


async def reseal_all(
    database: Database, keys: MasterKeys, *, on_batch: Callable[[str, int], None] = lambda _name, _count: None
) -> Resealed:
    """Re-seal all values but broken ones with the current key; a repeated run continues where it stopped."""
    done = Resealed()
    for column in store.sealed_columns():
        last = None
        while True:
            async with database.transaction() as tx:
                batch = await store.next_values(
                    tx, column, without_header=keys.sealing_header(), after=last, limit=_BATCH
                )
                for value in batch:
                    name = f"{column.name} of {'/'.join(str(part) for part in value.row)}"
                    try:
                        fresh = keys.reseal(value.sealed, what=name)
                    except DecryptionFailed as error:
                        done.broken.append(str(error))
                        continue
                    # Refused when a writer came between; what it wrote is sealed with the new key already.
                    done.values += await store.replace_value(tx, column, value, sealed=fresh)
            if not batch:
                break
            last = batch[-1]
            on_batch(column.name, done.values)
    return done


async def drop_unused_keys(database: Database, path: Path, *, now: datetime) -> Dropped:
    """Remove old keys that no value needs and that no request can still write with."""
    uses = await list_keys(database, path)
    kept: dict[str, str] = {}
    for use in uses:
        if use.role != "opens":
            continue
        if use.values:
            kept[use.key.id] = f"{use.values} values need it; run 'pilothouse key reseal'"
        elif use.key.retired_at is not None and now - use.key.retired_at < SETTLE:
            wait = SETTLE - (now - use.key.retired_at)
            kept[use.key.id] = (
                f"requests that began before {use.key.retired_at:%H:%M:%S} UTC may still write with it; "
                f"try again in {int(wait.total_seconds()) + 1} s"
            )
    going = {use.key.id for use in uses if use.role == "opens"} - kept.keys()

    def drop(ring: KeyRing) -> KeyRing:
        return replace(ring, keys=tuple(key for key in ring.keys if key.id not in going or key.id == ring.sealing))

    if going:
        change_keys(path, drop)
    return Dropped(sorted(going), kept)


async def _values_by_key(database: Database) -> dict[str, int]:
    async with database.autocommit() as connection:
        counted = await store.count_by_header(connection, header_bytes=HEADER_BYTES)
    used: dict[str, int] = {}
    for header, number in counted.items():
        used[key_id_of(header)] = used.get(key_id_of(header), 0) + number
    return used


def _staged(ring: KeyRing) -> MasterKey | None:
    """Return a key after the sealing one that never sealed."""
    ids = [key.id for key in ring.keys]
    return next((key for key in ring.keys[ids.index(ring.sealing) + 1 :] if key.retired_at is None), None)
