"""A real OpenStack Keystone beside the tests, in an environment of its own: SQLite, Fernet tokens, on loopback.

The environment is ``.keystone`` beside the sources, with a database that ``keystone-manage bootstrap`` has filled; each
test gets a copy.
"""

import getpass
import grp
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from tests.support.environments import make_environment
from tests.support.servers import free_port

SITE = Path(__file__).parent / "keystone_site"
FOLDER = Path(__file__).parents[2] / ".keystone"
PASSWORD = "of Keystone's people"
_START_SECONDS = 60
_CONFIGURATION = """\
[DEFAULT]
log_file = {folder}/keystone.log
[database]
connection = sqlite:///{folder}/keystone.db
[identity]
password_hash_rounds = 4
[token]
provider = fernet
expiration = {seconds}
[fernet_tokens]
key_repository = {folder}/fernet
[credential]
key_repository = {folder}/credential
"""


def environment() -> Path:
    """Return the interpreter of Keystone's environment."""
    return make_environment(FOLDER, SITE / "requirements.txt", then=_make_template)


def _configure(folder: Path, *, seconds: int) -> dict[str, str]:
    """Write the configuration; return the environment variables that name it."""
    file = folder / "keystone.conf"
    file.write_text(_CONFIGURATION.format(folder=folder, seconds=seconds))
    return {
        **os.environ,
        "PYTHONWARNINGS": "ignore",
        "OS_KEYSTONE_CONFIG_DIR": str(folder),
        "OS_KEYSTONE_CONFIG_FILES": str(file),
    }


def _make_template(python: Path) -> None:
    folder = FOLDER / "template"
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("fernet", "credential"):
        (folder / name).mkdir(parents=True, mode=0o700)
    variables = _configure(folder, seconds=3600)
    manage: list[str | Path] = [python.parent / "keystone-manage", "--config-file", folder / "keystone.conf"]
    whose = ["--keystone-user", getpass.getuser(), "--keystone-group", grp.getgrgid(os.getgid()).gr_name]
    commands: tuple[list[str], ...] = (
        ["db_sync"],
        ["fernet_setup", *whose],
        ["credential_setup", *whose],
        ["bootstrap", "--bootstrap-password", PASSWORD],
    )
    for command in commands:
        subprocess.run([*manage, *command], env=variables, check=True, timeout=240, capture_output=True)


@dataclass
class Keystone:
    """A Keystone that can be stopped, started, halted and asked as its administrator and its people do."""

    folder: Path
    port: int
    token_seconds: int = 3600
    ids: dict[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None
    _admin: str = ""

    @property
    def url(self) -> str:
        """The address of its version 3."""
        return f"http://127.0.0.1:{self.port}/v3"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        python = environment()
        if not (self.folder / "keystone.db").exists():
            shutil.copytree(FOLDER / "template", self.folder, dirs_exist_ok=True)
        variables = _configure(self.folder, seconds=self.token_seconds)
        with (self.folder / "requests.log").open("ab") as log:
            self._process = subprocess.Popen(
                [python, "-s", "-B", SITE / "start.py", str(self.port)], env=variables, stdout=log, stderr=log
            )
        deadline = time.monotonic() + _START_SECONDS
        while True:
            assert self._process.poll() is None, (self.folder / "requests.log").read_text()
            try:
                if httpx2.get(self.url, trust_env=False, timeout=5).status_code == 200:
                    return
            except httpx2.HTTPError:
                pass
            assert time.monotonic() < deadline, "Keystone did not start"
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop it: from now on nobody answers there."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            self._process.wait(timeout=20)
            self._process = None

    @contextmanager
    def halted(self) -> Iterator[None]:
        """Let it hang: it accepts connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def asked(self, what: str = "GET /v3/auth/tokens") -> int:
        """Return how often it was asked about a token, or something else, since it was first started."""
        lines = (self.folder / "requests.log").read_text().splitlines()
        return sum(line.startswith(what) for line in lines)

    def log_in(self, name: str, password: str = PASSWORD, *, project: str | None = None, **scope: Any) -> str:
        """Return a token of somebody in the domain Default, for a project there or another ``scope``."""
        user = {"name": name, "domain": {"name": "Default"}, "password": password}
        auth: dict[str, Any] = {"identity": {"methods": ["password"], "password": {"user": user}}}
        if project is not None:
            scope = {"project": {"name": project, "domain": {"name": "Default"}}}
        if scope:
            auth["scope"] = scope
        answer = httpx2.post(f"{self.url}/auth/tokens", json={"auth": auth}, trust_env=False, timeout=60)
        assert answer.status_code == 201, answer.text
        token: str = answer.headers["x-subject-token"]
        return token

    def administer(self, method: str, path: str, body: dict[str, Any] | None = None, **headers: str) -> Any:
        """Return what Keystone answers its administrator."""
        self._admin = self._admin or self.log_in("admin", project="admin")
        sent = {"x-auth-token": self._admin, **{name.replace("_", "-"): value for name, value in headers.items()}}
        answer = httpx2.request(method, f"{self.url}{path}", json=body, headers=sent, trust_env=False, timeout=60)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def add(self, noun: str, name: str, **fields: Any) -> str:
        """Add a user, project or domain; return its id, which ``ids`` has too."""
        body = {noun: {"name": name, **({"password": PASSWORD} if noun == "user" else {}), **fields}}
        made: str = self.administer("POST", f"/{noun}s", body)[noun]["id"]
        self.ids[name] = made
        return made

    def grant(self, user: str, role: str, project: str) -> None:
        """Give somebody a role in a project, all by name."""
        found = self.administer("GET", f"/roles?name={role}")["roles"][0]["id"]
        where = self.administer("GET", f"/projects?name={project}&domain_id=default")["projects"][0]["id"]
        self.administer("PUT", f"/projects/{where}/users/{self.ids[user]}/roles/{found}")

    def revoke(self, token: str) -> None:
        """Revoke a token."""
        self.administer("DELETE", "/auth/tokens", x_subject_token=token)


@contextmanager
def run_keystone(folder: Path) -> Iterator[Keystone]:
    """Yield a running Keystone with an administrator, the roles of a new one and our service user."""
    keystone = Keystone(folder, free_port())
    keystone.start()
    try:
        keystone.add("project", "service", domain_id="default")
        keystone.add("user", "pilothouse", domain_id="default")
        keystone.grant("pilothouse", "service", "service")
        yield keystone
    finally:
        keystone.stop()
