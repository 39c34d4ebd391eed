"""Accounts of engine children if we are root: each child has a user id that nothing else on this machine uses.

The ids are from systemd's range for dynamic users (61184 to 65519): no entry in /etc/passwd, no process and no file but
the child's own folder. A child leaves nothing behind that a successor with the same id could find.
"""

import os
import pwd
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

_FIRST, _LAST = 61184, 65519
_TRIES: Final = 50
_CAPABILITIES: Final = {
    "CAP_CHOWN": 0,
    "CAP_DAC_OVERRIDE": 1,
    "CAP_KILL": 5,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
}


def obstacle() -> str:
    """Return why children cannot have their own accounts; empty if they can."""
    if os.geteuid() != 0:
        return "Pilothouse does not run as root"
    held = _effective_capabilities()
    lacking = [name for name, number in _CAPABILITIES.items() if not held >> number & 1]
    if lacking:
        return f"root lacks {', '.join(lacking)}"
    if not all(_is_mapped(Path(f"/proc/self/{name}_map")) for name in ("uid", "gid")):
        return f"this container has no user ids {_FIRST} to {_LAST}"
    return ""


def free_user_id() -> int | None:
    """Return an id for a new child; None if there is an ``obstacle``, or all ids that were tried are in use."""
    if obstacle():
        return None
    used = _user_ids_in_use()
    for _ in range(_TRIES):
        candidate = _FIRST + secrets.randbelow(_LAST - _FIRST + 1)
        if candidate not in used and not _has_name(candidate):
            return candidate
    return None


def is_open_to_others(folder: Path) -> bool:
    """Return True if any other account can traverse the folder and all its parents."""
    return all(parent.stat().st_mode & 0o001 for parent in (folder, *folder.parents))


def _user_ids_in_use() -> set[int]:
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
                found.add(entry.stat().st_uid)
    return found


def _has_name(user_id: int) -> bool:
    try:
        pwd.getpwuid(user_id)
    except KeyError:
        return False
    return True


def _effective_capabilities() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def _is_mapped(file: Path) -> bool:
    spans = [tuple(map(int, line.split())) for line in file.read_text(encoding="ascii").splitlines()]
    return any(inside <= _FIRST and inside + length > _LAST for inside, _, length in spans)
