"""A real OpenID Connect provider with device authorization beside the tests: oidc-provider, on Node.js.

django-oauth-toolkit, the provider of the other tests, gives no ID token for a device code. Its packages are in
``.device-provider`` beside the sources.
"""

import fcntl
import html
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.servers import free_port

SITE = Path(__file__).parent / "device_site"
FOLDER = Path(__file__).parents[2] / ".device-provider"
#: The client that ``pilothouse login`` is, and one of somebody else's.
TERMINAL, OTHER = "pilothouse-cli", "other-cli"
SCOPE = "openid profile groups"
_START_SECONDS = 60


def _packages() -> Path:
    """Return the folder of the packages, made if it is missing or of other versions."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("Node.js and npm are missing")
    locked, mark = (SITE / "package-lock.json").read_bytes(), FOLDER / "made"
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several processes run tests
        if not mark.exists() or mark.read_bytes() != locked:
            for name in ("package.json", "package-lock.json"):
                shutil.copy(SITE / name, FOLDER)
            environment = {**os.environ, "npm_config_update_notifier": "false"}
            command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            subprocess.run(command, cwd=FOLDER, env=environment, check=True, timeout=240, capture_output=True)
            mark.write_bytes(locked)
    return FOLDER


@dataclass
class DeviceProvider:
    """A provider that can be stopped and started again; it forgets everything but people and clients."""

    folder: Path
    port: int
    people: dict[str, list[str]]
    device: bool = True
    bare: bool = False
    auth_time: bool = True
    code_seconds: int = 120
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def issuer(self) -> str:
        """The address that the tokens name."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        configuration = self.folder / "device-provider.json"
        configuration.write_text(
            json.dumps(
                {
                    "packages": str(_packages()),
                    "port": self.port,
                    "people": self.people,
                    "clients": [TERMINAL, OTHER],
                    "device": self.device,
                    "bare": self.bare,
                    "auth_time": self.auth_time,
                    "code_seconds": self.code_seconds,
                }
            )
        )
        with (self.folder / "device-provider.log").open("ab") as log:
            self._process = subprocess.Popen(["node", SITE / "start.mjs", configuration], stdout=log, stderr=log)
        deadline = time.monotonic() + _START_SECONDS
        while True:
            assert self._process.poll() is None, (self.folder / "device-provider.log").read_text()
            try:
                if self.describe_itself().status_code == 200:
                    return
            except httpx2.HTTPError:
                pass
            assert time.monotonic() < deadline, "the provider did not start"
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop it: from now on nobody answers there."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=20)
            self._process = None

    @contextmanager
    def changed(self, **fields: Any) -> Iterator[None]:
        """Run it with other settings meanwhile."""
        before = {name: getattr(self, name) for name in fields}
        self.stop()
        vars(self).update(fields)
        self.start()
        try:
            yield
        finally:
            self.stop()
            vars(self).update(before)
            self.start()

    def describe_itself(self) -> httpx2.Response:
        """Return its discovery document."""
        return httpx2.get(f"{self.issuer}/.well-known/openid-configuration", trust_env=False, timeout=5)

    def begin(self, client_id: str = TERMINAL) -> dict[str, Any]:
        """Return a new device code with its page and user code, as the provider answers a client."""
        form = {"client_id": client_id, "scope": SCOPE}
        answer = httpx2.post(f"{self.issuer}/device/auth", data=form, trust_env=False, timeout=20)
        assert answer.status_code == 200, answer.text
        begun: dict[str, Any] = answer.json()
        return begun

    def tokens(self, name: str, client_id: str = TERMINAL) -> dict[str, Any]:
        """Return what a client gets for that person."""
        begun = self.begin(client_id)
        self.confirm(begun["verification_uri_complete"], name)
        form = {
            "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
            "device_code": begun["device_code"],
            "client_id": client_id,
        }
        answer = httpx2.post(f"{self.issuer}/token", data=form, trust_env=False, timeout=20)
        assert answer.status_code == 200, answer.text
        given: dict[str, Any] = answer.json()
        return given

    def confirm(self, page: str, name: str, *, user_code: str = "", refuse: bool = False) -> None:
        """Open the page in a browser of its own, log in as that person, and confirm or refuse the code."""
        with httpx2.Client(trust_env=False, timeout=20, follow_redirects=True) as browser:
            answer = browser.get(page)
            for _ in range(10):
                if "Sign-in Success" in answer.text or "was interrupted" in answer.text:
                    assert refuse == ("was interrupted" in answer.text), answer.text
                    return
                action, fields = _form(answer.text)
                if "login" in fields:
                    fields |= {"login": name, "password": "any"}
                if fields.get("user_code") == "" or ("user_code" in fields and user_code):
                    fields["user_code"] = user_code
                if refuse and 'name="abort"' in answer.text:
                    fields["abort"] = "yes"
                answer = browser.post(str(answer.url.join(action)), data=fields)
            raise AssertionError(answer.text)


def _form(page: str) -> tuple[str, dict[str, str]]:
    """Return where the only form of a page goes, and its fields with their values."""
    found = re.search(r'<form[^>]*action="([^"]+)"', page)
    assert found is not None, page
    fields = {}
    for tag in re.findall(r"<input[^>]*>", page):
        attributes = dict(re.findall(r'(\w+)="([^"]*)"', tag))
        fields[attributes["name"]] = html.unescape(attributes.get("value", ""))
    return html.unescape(found[1]), fields


@contextmanager
def run_device_provider(folder: Path, people: dict[str, list[str]]) -> Iterator[DeviceProvider]:
    """Yield a running provider with these people and their groups."""
    provider = DeviceProvider(folder, free_port(), people)
    provider.start()
    try:
        yield provider
    finally:
        provider.stop()
