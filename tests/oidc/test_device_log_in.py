"""``pilothouse login --device`` at a real provider: a browser confirms the code, and the command gets a log-in."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx2
import psycopg
import pytest
import yaml

from tests.support.device_provider import OTHER, TERMINAL, DeviceProvider, run_device_provider
from tests.support.servers import RunningServer, open_folder, run_server, wait_for

#: How old an ID token may be, and longer than a busy machine takes to bring one.
LOGIN_SECONDS = 8.0
PEOPLE = {
    "alice": ["pilothouse-admins"],
    "bob": ["pilothouse-readers"],
    "carol": ["staff"],
    "dave": ["pilothouse-readers"],
    "erin": ["pilothouse-readers"],
}


@dataclass(frozen=True)
class SignedOn:
    """The server, and the provider that it knows as ``corp``."""

    server: RunningServer
    provider: DeviceProvider

    def exchange(self, given: dict[str, Any], **changed: Any) -> httpx2.Response:
        """Bring what the provider gave to the server, as the command does."""
        body = {"provider": "corp", "id_token": given["id_token"], "access_token": given["access_token"], **changed}
        return httpx2.post(f"{self.server.url}/api/v1/login", json=body, trust_env=False, timeout=60)

    def ask(self, token: str, path: str = "/api/v1/users/me", **headers: str) -> httpx2.Response:
        sent = {"X-Auth-Token": token, **headers}
        return httpx2.get(f"{self.server.url}{path}", headers=sent, trust_env=False, timeout=60)

    def group(self, name: str, role: str, project_id: str | None = None) -> None:
        made = self.server.send("POST", "/api/v1/groups", json_body={"name": name, "provider": "corp"})
        assert made.status_code == 201, made.text
        body = {"role": role, "project_id": project_id}
        granted = self.server.send("POST", f"/api/v1/groups/{made.json()['id']}/roles", json_body=body)
        assert granted.status_code == 200, granted.text

    def living_tokens(self, name: str) -> int:
        """Return how many tokens of ours the user has."""
        query = "SELECT count(*) FROM tokens JOIN users ON users.id = tokens.user_id WHERE users.name = %s"
        with psycopg.connect(self.server.database_url, autocommit=True) as connection:
            row = connection.execute(query, [name]).fetchone()
        assert row is not None
        return int(row[0])


@pytest.fixture(scope="module")
def provider() -> Iterator[DeviceProvider]:
    with open_folder() as folder, run_device_provider(folder, PEOPLE) as running:
        yield running


@pytest.fixture(scope="module")
def signed_on(provider: DeviceProvider) -> Iterator[SignedOn]:
    with open_folder() as folder:
        described = folder / "providers.yaml"
        corp = {
            "name": "corp",
            "title": "Example Corp",
            "issuer": provider.issuer,
            "device_client_id": TERMINAL,
            "scopes": ["openid", "profile", "groups"],
        }
        described.write_text(yaml.safe_dump({"providers": [corp]}))
        environment = {
            "PILOTHOUSE_OIDC__FILE": str(described),
            "PILOTHOUSE_OIDC__ALLOW_LOOPBACK": "true",
            "PILOTHOUSE_OIDC__RETRY_SECONDS": "0.1",
            "PILOTHOUSE_OIDC__LOGIN_SECONDS": str(LOGIN_SECONDS),
            "PILOTHOUSE_OIDC__LEEWAY_SECONDS": "0",
            "PILOTHOUSE_AUDIT__GATHER_SECONDS": "0.2",
        }
        with run_server(folder, kubeconfig=None, environment=environment) as server:
            running = SignedOn(server, provider)
            running.group("pilothouse-admins", "te_admin")
            running.group("pilothouse-readers", "CCE ReadOnlyAccess", server.project_id)
            yield running


@dataclass
class Command:
    """``pilothouse login --device`` that waits; ``told`` is what it has said on standard error."""

    process: subprocess.Popen[str]
    contexts: Path
    told: str = ""

    def page(self) -> str:
        """Return the address with the code in it, when it is shown."""
        while "Ctrl-C" not in self.told:
            self._read_line()
        return next(line.strip() for line in self.told.splitlines() if "user_code=" in line)

    def _read_line(self) -> None:
        line = _pipe(self.process.stderr).readline()
        assert line, self.told
        self.told += line

    def end(self) -> tuple[int, str, str]:
        """Return exit status, standard output and all of standard error."""
        said, rest = self.process.communicate(timeout=60)
        self.told += rest
        return self.process.returncode, said, self.told


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


@contextlib.contextmanager
def login(folder: Path, url: str, *arguments: str, **environment: str) -> Iterator[Command]:
    contexts = folder / "contexts.json"
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PILOTHOUSE_", "CLOUD_"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "pilothouse", "login", url, "--device", *arguments],
        env={**variables, "PILOTHOUSE_CONTEXTS": str(contexts), "NO_PROXY": "127.0.0.1", **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield Command(process, contexts)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def refused(folder: Path, url: str, *arguments: str, **environment: str) -> tuple[int, str]:
    """Return exit status and message of a log-in that fails, and leaves nothing."""
    with login(folder, url, *arguments, **environment) as command:
        status, said, told = command.end()
        assert (said, command.contexts.exists(), "Traceback" in told) == ("", False, False), (said, told)
    return status, told


def test_a_person_logs_in_with_a_browser_and_the_context_has_a_token(signed_on: SignedOn, tmp_path: Path):
    with login(tmp_path, signed_on.server.url, "--context", "there", COLUMNS="40") as command:
        signed_on.provider.confirm(command.page(), "alice")
        status, said, told = command.end()
    assert status == 0, told
    assert "as alice, project" in said
    assert said.rstrip().endswith("context there")
    code = command.page().partition("user_code=")[2]
    assert f"\n  {code}\n" in told, "the code stands alone"
    assert f"\n  {signed_on.provider.issuer}/device\n" in told
    assert all(len(line) <= 40 for line in told.splitlines() if "://" not in line), told
    (context,) = json.loads(command.contexts.read_text())["contexts"]
    assert (context["user"], context["provider"], context["url"]) == ("alice", "corp", signed_on.server.url)
    assert command.contexts.stat().st_mode & 0o077 == 0
    assert signed_on.ask(context["token"]).json()["name"] == "alice"
    assert signed_on.living_tokens("alice") == 1, "what was exchanged is gone"
    asked = subprocess.run(
        [sys.executable, "-m", "pilothouse", "user", "list", "-o", "json"],
        env={"PATH": os.environ["PATH"], "PILOTHOUSE_CONTEXTS": str(command.contexts)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "alice" in {row["name"] for row in json.loads(asked.stdout)}
    audited = signed_on.server.send("GET", "/api/v1/audit?action=iam:tokens:create&user=alice").json()
    assert "at corp" in {row["detail"] for row in audited}


def test_json_is_the_result_alone_and_the_code_stands_beside_it(signed_on: SignedOn, tmp_path: Path):
    with login(tmp_path, signed_on.server.url, "--provider", "corp", "-o", "json") as command:
        signed_on.provider.confirm(command.page(), "bob")
        status, said, told = command.end()
    assert status == 0, told
    shown = json.loads(said)
    assert (shown["user"], shown["provider"], shown["context"]) == (
        "bob",
        "corp",
        signed_on.server.url.removeprefix("http://"),
    )
    assert "token" not in shown


def test_a_code_that_is_typed_counts_as_well(signed_on: SignedOn, tmp_path: Path):
    with login(tmp_path, signed_on.server.url) as command:
        page, _, code = command.page().partition("?user_code=")
        signed_on.provider.confirm(page, "bob", user_code=code.lower())
        assert command.end()[0] == 0, command.told


def test_whoever_refuses_the_code_is_not_logged_in(signed_on: SignedOn, tmp_path: Path):
    with login(tmp_path, signed_on.server.url) as command:
        signed_on.provider.confirm(command.page(), "bob", refuse=True)
        status, said, told = command.end()
    assert (status, said, command.contexts.exists()) == (1, "", False), told
    assert "Example Corp refused the log-in: the log-in was refused there" in told


def test_a_code_that_nobody_confirms_expires(signed_on: SignedOn, tmp_path: Path):
    with signed_on.provider.changed(code_seconds=2):
        status, told = refused(tmp_path, signed_on.server.url)
    assert (status, "begin again" in told) == (1, True), told


def test_ctrl_c_leaves_nothing_behind(signed_on: SignedOn, tmp_path: Path):
    before = signed_on.living_tokens("erin")
    with login(tmp_path, signed_on.server.url) as command:
        page = command.page()
        command.process.send_signal(signal.SIGINT)
        status, said, told = command.end()
    assert (status, said, "Traceback" in told) == (130, "", False), told
    signed_on.provider.confirm(page, "erin")  # the code is still good, and nobody asks for it
    assert (list(tmp_path.iterdir()), signed_on.living_tokens("erin")) == ([], before)


def test_a_person_without_a_role_is_told_so_and_becomes_nobody(signed_on: SignedOn, tmp_path: Path):
    with login(tmp_path, signed_on.server.url) as command:
        signed_on.provider.confirm(command.page(), "carol")
        status, _, told = command.end()
    assert (status, command.contexts.exists()) == (1, False)
    assert "vouches for 'carol', but none of its groups has a role here (groups: staff)" in told
    assert "carol" not in {row["name"] for row in signed_on.server.send("GET", "/api/v1/users").json()}


def test_a_provider_without_device_authorization_is_named(signed_on: SignedOn, tmp_path: Path):
    with signed_on.provider.changed(device=False):
        status, told = refused(tmp_path, signed_on.server.url)
    assert (status, "it has no device authorization (RFC 8628)" in told) == (3, True), told
    assert "with a password" in told


def test_a_provider_that_is_down_is_named(signed_on: SignedOn, tmp_path: Path):
    signed_on.provider.stop()
    try:
        status, told = refused(tmp_path, signed_on.server.url)
    finally:
        signed_on.provider.start()
    assert (status, "the identity provider Example Corp (127.0.0.1" in told) == (3, True), told
    assert "cannot be reached" in told


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--provider", "other"), "'other' is none of this server's for log-in from a terminal: corp"),
        (("--user", "alice"), "--device: --user is another way to log in"),
        (("--token-stdin",), "--device: --token-stdin is another way to log in"),
        (("--access-key", "AK"), "--device: --access-key is another way to log in"),
    ],
)
def test_arguments_that_contradict_are_refused(
    signed_on: SignedOn, tmp_path: Path, arguments: tuple[str, ...], words: str
):
    status, told = refused(tmp_path, signed_on.server.url, *arguments)
    assert (status, words in told) == (2, True), told


def test_a_project_that_is_none_leaves_nothing(signed_on: SignedOn, tmp_path: Path):
    before = signed_on.living_tokens("bob")
    with login(tmp_path, signed_on.server.url, "--project", "nowhere") as command:
        signed_on.provider.confirm(command.page(), "bob")
        status, said, told = command.end()
    assert (status, said, command.contexts.exists()) == (1, "", False), told
    assert ("'nowhere' is not an enabled project" in told, signed_on.living_tokens("bob")) == (True, before), told


def test_only_tokens_for_this_client_are_exchanged(signed_on: SignedOn):
    given = signed_on.provider.tokens("bob", OTHER)
    answer = signed_on.exchange(given)
    assert (answer.status_code, "meant for another audience" in answer.text) == (401, True), answer.text
    with psycopg.connect(signed_on.server.database_url, autocommit=True) as connection:
        failed = "SELECT 1 FROM audit WHERE action = 'iam:tokens:create' AND detail LIKE 'corp: %another audience%'"
        assert wait_for(lambda: connection.execute(failed).fetchall())


def test_what_is_no_token_of_the_provider_is_refused(signed_on: SignedOn):
    given = signed_on.provider.tokens("bob")
    head, claims, signature = given["id_token"].split(".")
    other = signed_on.provider.tokens("alice")
    for changed, status, words in (
        ({"id_token": "a.b.c"}, 401, "it is damaged"),
        ({"id_token": f"{head}.{claims}.{signature[:-8]}AAAAAAAA"}, 401, "its signature is wrong"),
        ({"id_token": f"{head}.{other['id_token'].split('.')[1]}.{signature}"}, 401, "its signature is wrong"),
        ({"id_token": "x" * 20_000}, 401, "no JSON Web Token"),
        ({"id_token": ""}, 401, "no JSON Web Token"),
        ({"id_token": None}, 400, "id_token"),
        ({"provider": "elsewhere"}, 404, "no identity provider 'elsewhere'"),
        ({"scope": "all"}, 400, "scope: unknown field"),
    ):
        answer = signed_on.exchange(given, **changed)
        assert (answer.status_code, words in answer.text) == (status, True), (changed, answer.text)
    assert signed_on.exchange(given).status_code == 201


def test_an_id_token_is_worth_nothing_without_its_access_token(signed_on: SignedOn):
    given, other = signed_on.provider.tokens("bob"), signed_on.provider.tokens("alice")
    for access_token, status, words in (
        ("", 400, "access_token"),
        ("two words", 400, "access_token"),
        ("garbage", 401, "does not show its user info for this access token"),
        (other["access_token"], 401, "user info is of another person"),
    ):
        answer = signed_on.exchange(given, access_token=access_token)
        assert (answer.status_code, words in answer.text) == (status, True), (access_token, answer.text)


def test_an_id_token_counts_once(signed_on: SignedOn):
    given = signed_on.provider.tokens("dave")
    before = signed_on.living_tokens("dave")
    assert signed_on.exchange(given).status_code == 201
    head, last = given["id_token"][:-1], given["id_token"][-1]
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    the_same = head + letters[letters.index(last) ^ 1]  # as far as its signature's bytes go
    for id_token in (given["id_token"], the_same):
        again = signed_on.exchange(given, id_token=id_token)
        assert again.status_code == 401, again.text
    assert "was used already; begin again" in signed_on.exchange(given).text
    assert signed_on.living_tokens("dave") == before + 1
    with psycopg.connect(signed_on.server.database_url, autocommit=True) as connection:
        failed = "SELECT 1 FROM audit WHERE action = 'iam:tokens:create' AND detail LIKE 'corp: %used already%'"
        assert wait_for(lambda: connection.execute(failed).fetchall())


def test_log_ins_of_one_person_are_counted(provider: DeviceProvider):
    with open_folder() as folder:
        described = folder / "providers.yaml"
        corp = {"name": "corp", "issuer": provider.issuer, "device_client_id": TERMINAL, "scopes": ["openid", "groups"]}
        described.write_text(yaml.safe_dump({"providers": [corp]}))
        environment = {
            "PILOTHOUSE_OIDC__FILE": str(described),
            "PILOTHOUSE_OIDC__ALLOW_LOOPBACK": "true",
            "PILOTHOUSE_IDENTITY__LOGINS_PER_SECOND": "0.001",
        }
        with run_server(folder, kubeconfig=None, environment=environment) as server:
            limited = SignedOn(server, provider)
            limited.group("pilothouse-readers", "CCE ReadOnlyAccess", server.project_id)
            assert limited.exchange(provider.tokens("dave")).status_code == 201

            again = limited.exchange(provider.tokens("dave"))

            assert again.status_code == 429, again.text
            assert "this user has sent more log-ins" in again.text
            assert int(again.headers["retry-after"]) > 60
            assert limited.exchange(provider.tokens("erin")).status_code == 201


def test_an_id_token_is_no_bearer_token_and_an_old_one_is_no_log_in(signed_on: SignedOn):
    given = signed_on.provider.tokens("bob")
    refusal = signed_on.ask(given["id_token"])
    assert (refusal.status_code, "none whose tokens are accepted" in refusal.text) == (401, True), refusal.text
    time.sleep(LOGIN_SECONDS + 1)
    late = signed_on.exchange(given)
    assert (late.status_code, "took too long; begin again" in late.text) == (401, True), late.text


def test_groups_that_only_the_user_info_has_count(signed_on: SignedOn):
    with signed_on.provider.changed(bare=True):
        given = signed_on.provider.tokens("dave")
        answer = signed_on.exchange(given)
        assert (answer.status_code, answer.json()["user_name"]) == (201, "dave"), answer.text
        other = signed_on.provider.tokens("bob")
        mixed = signed_on.exchange(given, access_token=other["access_token"])
        assert (mixed.status_code, "another person" in mixed.text) == (401, True), mixed.text


def test_its_token_is_worth_what_the_user_is_and_ends_with_it(signed_on: SignedOn):
    token = signed_on.exchange(signed_on.provider.tokens("erin")).json()["token"]
    me = signed_on.ask(token).json()
    assert signed_on.ask(token, "/api/v1/users").status_code == 403, "no roles without a project"
    path = f"/api/v1/users/{me['id']}"
    assert signed_on.server.send("PATCH", path, json_body={"enabled": False}).status_code == 200
    assert signed_on.ask(token).status_code == 401
    time.sleep(1.1)  # the provider's ID tokens of one person are the same for a second, and each counts once
    again = signed_on.exchange(signed_on.provider.tokens("erin"))
    assert (again.status_code, "is disabled here" in again.text) == (401, True), again.text


def make_key(signed_on: SignedOn) -> httpx2.Response:
    """Log bob in for the project, and ask for an access key without a password."""
    token = signed_on.exchange(signed_on.provider.tokens("bob")).json()["token"]
    identity, scope = {"methods": ["token"], "token": {"id": token}}, {"project": {"id": signed_on.server.project_id}}
    body = {"auth": {"identity": identity, "scope": scope}}
    exchanged = httpx2.post(f"{signed_on.server.url}/v3/auth/tokens", json=body, trust_env=False)
    assert exchanged.status_code == 201, exchanged.text
    headers = {"X-Auth-Token": exchanged.headers["x-subject-token"]}
    return httpx2.post(f"{signed_on.server.url}/api/v1/accesskeys", json={}, headers=headers, trust_env=False)


def test_a_log_in_of_just_now_makes_access_keys_and_one_of_no_known_time_does_not(signed_on: SignedOn):
    assert make_key(signed_on).status_code == 201
    with signed_on.provider.changed(auth_time=False):
        answer = make_key(signed_on)
    assert (answer.status_code, "password: missing" in answer.text) == (400, True), answer.text


def test_a_context_whose_log_in_has_ended_says_how_to_come_back(signed_on: SignedOn, tmp_path: Path):
    with login(tmp_path, signed_on.server.url) as command:
        signed_on.provider.confirm(command.page(), "bob")
        assert command.end()[0] == 0, command.told
    stored = json.loads(command.contexts.read_text())
    stored["contexts"][0]["token"] = stored["contexts"][0]["token"][:-4] + "AAAA"
    command.contexts.write_text(json.dumps(stored))
    asked = subprocess.run(
        [sys.executable, "-m", "pilothouse", "user", "list"],
        env={"PATH": os.environ["PATH"], "PILOTHOUSE_CONTEXTS": str(command.contexts)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (asked.returncode, "--device --provider corp" in asked.stderr) == (3, True), asked.stderr


def test_the_server_says_where_to_log_in_without_credentials(signed_on: SignedOn):
    said = httpx2.get(f"{signed_on.server.url}/api/v1/login", trust_env=False).json()
    assert said == {
        "providers": [
            {
                "name": "corp",
                "title": "Example Corp",
                "issuer": signed_on.provider.issuer,
                "client_id": TERMINAL,
                "scopes": ["openid", "profile", "groups"],
            }
        ]
    }
