"""A real OpenID Connect provider beside the tests: django-oauth-toolkit in an environment of its own.

The environment is ``.oidc-provider`` beside the sources.
"""

import base64
import hashlib
import json
import re
import secrets
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.environments import make_environment
from tests.support.servers import free_port

SITE = Path(__file__).parent / "oidc_site"
FOLDER = Path(__file__).parents[2] / ".oidc-provider"
PASSWORD = "of the provider's people"
#: The client that Pilothouse is, and one that a pipeline is.
CONSOLE, PIPELINE = "pilothouse-console", "pilothouse-api"
_START_SECONDS = 60


def environment() -> Path:
    """Return the interpreter of the provider's environment."""
    return make_environment(FOLDER, SITE / "requirements.txt")


def new_key() -> str:
    """Return an RSA key as PEM, for the provider to sign with."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


@dataclass
class OidcProvider:
    """A provider that can be stopped and started again; people and clients stay."""

    folder: Path
    port: int
    people: dict[str, list[str]] = field(default_factory=dict)
    redirect_uris: tuple[str, ...] = ()
    key: str = field(default_factory=new_key)
    secret: str = field(default_factory=lambda: secrets.token_hex(20))
    token_seconds: int = 600
    _process: subprocess.Popen[bytes] | None = None

    @property
    def issuer(self) -> str:
        """The address that the tokens name."""
        return f"http://127.0.0.1:{self.port}/o"

    @property
    def back_at(self) -> str:
        """Where the pipeline's tokens are sent, which nobody listens at."""
        return "http://127.0.0.1:9/back"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        python = environment()
        people = {name: {"password": PASSWORD, "groups": groups} for name, groups in self.people.items()}
        console = {"id": CONSOLE, "secret": self.secret, "grant": "authorization-code", "back_at": self.redirect_uris}
        pipeline = {"id": PIPELINE, "secret": "", "grant": "authorization-code", "back_at": [self.back_at]}
        wanted = {
            "database": str(self.folder / "provider.sqlite3"),
            "port": self.port,
            "issuer": self.issuer,
            "key": self.key,
            "seconds": self.token_seconds,
            "people": people,
            "clients": [console, pipeline],
        }
        configuration = self.folder / "provider.json"
        configuration.write_text(json.dumps(wanted))
        with (self.folder / "provider.log").open("ab") as log:
            self._process = subprocess.Popen(
                [python, "-E", "-s", "-B", str(SITE / "start.py"), str(configuration)], stdout=log, stderr=log
            )
        deadline = time.monotonic() + _START_SECONDS
        while True:
            assert self._process.poll() is None, (self.folder / "provider.log").read_text()
            try:
                answer = httpx2.get(f"{self.issuer}/.well-known/openid-configuration", trust_env=False, timeout=5)
            except httpx2.HTTPError:
                answer = None
            if answer is not None and answer.status_code == 200:
                return
            assert time.monotonic() < deadline, "the provider did not start"
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop it: from now on nobody answers there."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=20)
            self._process = None

    def log_in(self, http: httpx2.Client, url: str, name: str) -> str:
        """Log in as a person does who was sent to ``url``; return where the provider sends the browser back."""
        form = http.get(url, follow_redirects=True)
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', form.text)
        assert token is not None, form.text
        fields = {"csrfmiddlewaretoken": token[1], "username": name, "password": PASSWORD}
        answer = http.post(str(form.url), data=fields)
        while answer.status_code == 302 and answer.headers["location"].startswith("/"):
            answer = http.get(f"http://127.0.0.1:{self.port}{answer.headers['location']}")
        assert answer.status_code == 302, answer.text
        location: str = answer.headers["location"]
        return location

    def token_of(self, name: str, *, scope: str = "openid groups profile", logged_in_ago: float = 0) -> str:
        """Return an ID token of the person for the pipeline's client: what a pipeline would send.

        ``logged_in_ago``: how many seconds ago the provider then says that the person logged in.
        """
        verifier = secrets.token_urlsafe(40)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        asked = httpx2.URL(f"{self.issuer}/authorize/").copy_merge_params(
            {
                "response_type": "code",
                "client_id": PIPELINE,
                "redirect_uri": self.back_at,
                "scope": scope,
                "code_challenge": challenge,
                "code_challenge_method": "S256",
            }
        )
        with httpx2.Client(trust_env=False, timeout=20) as http:
            code = parse_qs(urlsplit(self.log_in(http, str(asked), name)).query)["code"][0]
            if logged_in_ago:
                self._date_back(name, logged_in_ago)
            given = http.post(
                f"{self.issuer}/token/",
                data={
                    "grant_type": "authorization_code",
                    "code": code,
                    "redirect_uri": self.back_at,
                    "client_id": PIPELINE,
                    "code_verifier": verifier,
                },
            )
        assert given.status_code == 200, given.text
        token: str = given.json()["id_token"]
        return token

    def _date_back(self, name: str, seconds: float) -> None:
        moment = (datetime.now(UTC) - timedelta(seconds=seconds)).strftime("%Y-%m-%d %H:%M:%S")
        with closing(sqlite3.connect(self.folder / "provider.sqlite3", timeout=20)) as connection, connection:
            connection.execute("UPDATE auth_user SET last_login = ? WHERE username = ?", [moment, name])

    def describe(self, **fields: Any) -> dict[str, Any]:
        """Return the provider as Pilothouse's file describes it."""
        secret = self.folder / "client-secret"
        secret.write_text(self.secret + "\n")
        return {
            "name": "corp",
            "title": "Example Corp",
            "issuer": self.issuer,
            "client_id": CONSOLE,
            "client_secret_file": str(secret),
            "audience": PIPELINE,
            "scopes": ["openid", "profile", "groups"],
            **fields,
        }


@contextmanager
def run_provider(folder: Path, people: dict[str, list[str]], redirect_uris: tuple[str, ...]) -> Iterator[OidcProvider]:
    """Yield a running provider with these people and their groups."""
    provider = OidcProvider(folder, free_port(), people, redirect_uris)
    provider.start()
    try:
        yield provider
    finally:
        provider.stop()
