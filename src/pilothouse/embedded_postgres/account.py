"""The account that the embedded PostgreSQL runs as, and which folders it can reach.

PostgreSQL refuses to run as root, so root starts it as an unprivileged account. That account must be able to enter
every folder above its data: a data folder below a private one (a checkout in root's home) fails deep inside initdb with
an unhelpful message. Reachability is therefore checked first, by a probe that runs as the account: mode bits alone
would miss access lists and mount options.
"""

import os
import pwd
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pilothouse.errors import DatabaseUnavailable

# Nothing of our own environment reaches PostgreSQL: its locale, zone and PG* variables would change what it does.
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "TZ": "UTC"}


@dataclass(frozen=True)
class Account:
    """An unprivileged account of this machine; ``switch`` is true if we are root and must become it."""

    name: str
    uid: int
    gid: int
    switch: bool

    def run(self, argv: Sequence[str | Path], *, timeout_seconds: float) -> subprocess.CompletedProcess[str]:
        """Run a program to its end as this account, in a separate session; a failure is in the return code.

        Raises OSError if the account may not execute it, and subprocess.TimeoutExpired after killing it.
        """
        return subprocess.run(  # noqa: S603 (argv is ours, and no shell reads it)
            argv,
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            cwd="/",
            env=_ENVIRONMENT,
            timeout=timeout_seconds,
            start_new_session=True,
            user=self.uid if self.switch else None,
            group=self.gid if self.switch else None,
            extra_groups=[] if self.switch else None,
        )

    def spawn(self, argv: Sequence[str | Path], *, output: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start a program that outlives us: separate session, no terminal, no inherited descriptor."""
        return subprocess.Popen(  # noqa: S603 (argv is ours, and no shell reads it)
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=_ENVIRONMENT,
            start_new_session=True,
            user=self.uid if self.switch else None,
            group=self.gid if self.switch else None,
            extra_groups=[] if self.switch else None,
        )

    def closed_folder(self, path: Path) -> Path | None:
        """Return the first folder on the way to ``path``, itself included, that the account may not enter, or None."""
        if self._enters(path):
            return None
        return next((folder for folder in [*reversed(path.parents), path] if not self._enters(folder)), path)

    def own(self, path: Path) -> None:
        """Make the account the owner of something that we have just created."""
        if self.switch:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def _enters(self, folder: Path) -> bool:
        if not self.switch:
            return os.access(folder, os.X_OK)
        return self.run(["/bin/sh", "-c", 'cd -- "$1"', "sh", folder], timeout_seconds=10).returncode == 0


def find_account(configured: str | None, *, owner_uid: int | None = None) -> Account:
    """Return the account to run PostgreSQL as: our own or, for root, an unprivileged account that exists.

    ``owner_uid`` is the owner of an existing database, which only that account can open. Raises DatabaseUnavailable if
    no account fits.
    """
    if os.geteuid() != 0:
        return _ourselves(owner_uid)
    if owner_uid is not None:
        return _owner(owner_uid, configured)
    for name in [configured] if configured else ["postgres", "nobody"]:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid == 0:
            raise DatabaseUnavailable(
                f"PILOTHOUSE_POSTGRES__USER={name} is root, and PostgreSQL refuses to run as root"
            )
        return Account(name, entry.pw_uid, entry.pw_gid, switch=True)
    raise DatabaseUnavailable(
        f"PostgreSQL does not run as root, and this machine has no account {configured or 'postgres or nobody'}: "
        "name an unprivileged one in PILOTHOUSE_POSTGRES__USER"
    )


def _ourselves(owner_uid: int | None) -> Account:
    uid = os.geteuid()
    if owner_uid is not None and owner_uid != uid:
        raise DatabaseUnavailable(
            f"the database belongs to {_name(owner_uid)} and this is {_name(uid)}: "
            "start Pilothouse as the account (or as root) that made it, or choose another PILOTHOUSE_DATA_DIR"
        )
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError as error:
        if owner_uid is None:
            raise DatabaseUnavailable(
                f"user id {uid} has no entry in /etc/passwd, and initdb refuses to run without one: "
                "add an entry, or set PILOTHOUSE_DATABASE_URL to your own PostgreSQL"
            ) from error
        name = str(uid)
    return Account(name, uid, os.getegid(), switch=False)


def _owner(uid: int, configured: str | None) -> Account:
    if uid == 0:
        raise DatabaseUnavailable(
            "the data folder of the embedded PostgreSQL belongs to root: give it back to its account"
        )
    try:
        entry = pwd.getpwuid(uid)
    except KeyError as error:
        raise DatabaseUnavailable(
            f"the database belongs to user id {uid}, which this machine does not know: add the account"
        ) from error
    if configured and entry.pw_name != configured:
        raise DatabaseUnavailable(
            f"the database belongs to {entry.pw_name} and PILOTHOUSE_POSTGRES__USER says {configured}: "
            "change the setting back, or change the owner of the folder while nothing runs"
        )
    return Account(entry.pw_name, uid, entry.pw_gid, switch=True)


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user id {uid}"
