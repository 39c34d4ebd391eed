"""``pilothouse login`` and ``context``: log in once, then every command knows the server."""

import json
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from tests.support.servers import CompletedCommand, RunningServer
from tests.support.tokens import ask, login, send
from tests.support.users import PASSWORD, add_person

Run = Callable[..., CompletedCommand]
OURS = ("--project", "cn-north-4")  # other files of tests may have left projects of theirs


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """``pilothouse …`` of a person with an empty home."""

    def started(*arguments: str, typed: str = "", **variables: str) -> CompletedCommand:
        return subprocess.run(
            [sys.executable, "-m", "pilothouse", *arguments],
            env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), **variables},
            input=typed,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return started


def ids(listed: CompletedCommand) -> set[str]:
    return {one["id"] for one in json.loads(listed.stdout)}


def file_of(tmp_path: Path) -> Path:
    return tmp_path / ".config" / "pilothouse" / "contexts.json"


def test_a_person_logs_in_once_and_out_again(server: RunningServer, run: Run, tmp_path: Path):
    done = run("login", server.url, "--user", "admin", *OURS, "--password-stdin", typed=f"{server.password}\n")

    assert done.returncode == 0, done.stderr
    assert re.match(rf"logged in to {server.url} as admin, project cn-north-4 until 20\S+Z; context 127", done.stdout)
    assert stat.S_IMODE(file_of(tmp_path).stat().st_mode) == 0o600
    [stored] = json.loads(file_of(tmp_path).read_text())["contexts"]
    assert server.cluster_id in ids(run("cluster", "list", "-o", "json"))
    shown = run("context", "show").stdout
    assert server.url in shown
    assert stored["token"] not in shown + run("context", "list", "-o", "yaml").stdout
    assert run("context", "remove", stored["name"]).stdout.endswith("was removed and its token revoked\n")
    assert send(server, "GET", "/v2/charts", token=stored["token"]).status_code == 401
    gone = run("cluster", "list")
    assert (gone.returncode, gone.stdout) == (3, "")
    assert "type 'pilothouse login URL'" in gone.stderr


def test_a_server_without_a_provider_says_so(server: RunningServer, run: Run, tmp_path: Path):
    done = run("login", server.url, "--device")
    assert (done.returncode, done.stdout, file_of(tmp_path).exists()) == (1, "", False)
    assert "this server has no identity provider for log-in from a terminal" in done.stderr
    assert "with a password or a token" in done.stderr
    alone = run("login", server.url, "--provider", "corp")
    assert (alone.returncode, "--provider: it is for --device" in alone.stderr) == (2, True)
    nobody = run("login", "http://127.0.0.1:9", "--device")
    assert (nobody.returncode, "no Pilothouse server answers" in nobody.stderr) == (3, True)


def test_an_access_key_and_a_token_log_in_too(server: RunningServer, run: Run):
    key = ("--access-key", server.access_key, "--secret-key-stdin", "--context", "key", "--project", "cn-north-4")
    assert run("login", server.url, *key, typed=f"{server.secret_key}\n").returncode == 0
    token = ask(server, login(server.password)).headers["x-subject-token"]
    assert run("login", server.url, "--token-stdin", "--context", "token", *OURS, typed=f"{token}\n").returncode == 0

    for name in ("key", "token"):
        listed = run("cluster", "list", "--context", name, "-o", "json")
        assert listed.returncode == 0, listed.stderr
        assert server.cluster_id in ids(listed)
    assert run("context", "list").stdout.split("\n")[2].split()[:2] == ["*", "token"]
    used = run("context", "use", "key", "-n", "web").stdout
    assert used == f"commands now ask {server.url}, context key: cluster (the only one), namespace web\n"
    assert json.loads(run("context", "show", "-o", "json").stdout)["namespace"] == "web"


def test_who_logs_in_with_an_access_key_is_told_whose_it_is_and_where(server: RunningServer, run: Run):
    key = ("--access-key", server.access_key, "--secret-key-stdin", "--context", "ci")
    done = run("login", server.url, *key, typed=f"{server.secret_key}\n")
    wrong = run("login", server.url, *key, typed="wrong\n")

    said = f"logged in to {server.url} as admin, access key {server.access_key}, project cn-north-4; context ci\n"
    assert (done.returncode, done.stdout) == (0, said)
    assert json.loads(run("context", "show", "ci", "-o", "json").stdout)["project"] == "cn-north-4"
    assert run("cluster", "list").returncode == 0
    assert (wrong.returncode, wrong.stdout) == (3, "")
    assert f"the secret key is not that of access key {server.access_key}" in wrong.stderr
    for word in ("canonical", "aksk", "log-in of context"):
        assert word not in wrong.stderr


def test_the_cluster_of_a_context_is_looked_up(server: RunningServer, run: Run, tmp_path: Path):
    run("login", server.url, "--password-stdin", "--context", "one", *OURS, typed=f"{server.password}\n")
    known = {one["id"]: one["name"] for one in json.loads(run("cluster", "list", "-o", "json").stdout)}
    name = known[server.cluster_id]

    wrong = run("context", "use", "one", "--cluster", f"{name}x")
    used = run("context", "use", "--cluster", name)

    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert f"there is no cluster '{name}x' at {server.url}; there are: " in wrong.stderr
    assert used.stdout == f"commands now ask {server.url}, context one: cluster {name}, namespace default\n"
    stored = json.loads(file_of(tmp_path).read_text())
    stored["contexts"][0]["url"] = "http://127.0.0.1:1"
    file_of(tmp_path).write_text(json.dumps(stored))
    blind = run("context", "use", "--cluster", "unseen")
    assert (blind.returncode, "cluster unseen, namespace default" in blind.stdout) == (0, True)
    assert "whether there is a cluster 'unseen' is not known: no Pilothouse server answers" in blind.stderr


def test_a_wrong_password_leaves_no_context_and_is_not_repeated(server: RunningServer, run: Run, tmp_path: Path):
    done = run("login", server.url, "--password-stdin", typed="a wrong secret\n")

    assert (done.returncode, done.stdout) == (3, "")
    assert "The username or password is wrong." in done.stderr
    assert "a wrong secret" not in done.stderr
    assert not file_of(tmp_path).exists()


def test_a_log_in_that_cannot_be_kept_leaves_no_token(server: RunningServer, run: Run, tmp_path: Path):
    person = add_person(server, "readonly")
    file_of(tmp_path).mkdir(parents=True)  # no file can be written there

    typed = f"{PASSWORD}\n"
    done = run("login", server.url, "--user", person.name, *OURS, "--password-stdin", typed=typed)

    assert done.returncode == 1, done.stderr
    with psycopg.connect(server.database_url) as connection:
        left = connection.execute(
            "SELECT count(*) FROM tokens t JOIN users u ON u.id = t.user_id WHERE u.name = %s", [person.name]
        ).fetchone()
    assert left == (0,)


def test_a_log_in_that_ended_says_what_to_type(server: RunningServer, run: Run, tmp_path: Path):
    run("login", server.url, "--context", "x", *OURS, "--password-stdin", typed=f"{server.password}\n")
    contexts = json.loads(file_of(tmp_path).read_text())
    assert run("token", "revoke").returncode == 0

    ended = run("cluster", "list")
    contexts["contexts"][0]["expires_at"] = datetime(2020, 1, 1, tzinfo=UTC).isoformat()
    file_of(tmp_path).write_text(json.dumps(contexts))
    expired = run("cluster", "list")

    typed = f"; type: pilothouse login {server.url} --context x --user admin\n"
    assert (ended.returncode, expired.returncode) == (3, 3)
    assert ended.stderr.endswith(f"the log-in of context 'x' is not valid any more{typed}")
    assert expired.stderr.endswith(f"the log-in of context 'x' expired at 2020-01-01T00:00:00+00:00{typed}")


def test_who_has_several_projects_chooses_one_and_can_ask_another(server: RunningServer, run: Run, tmp_path: Path):
    made = json.loads(server.command("project", "add", "cli-second", "-o", "json").stdout)
    try:
        unsaid = run("login", server.url, "--password-stdin", typed=f"{server.password}\n")
        assert (unsaid.returncode, unsaid.stdout) == (2, "")
        assert {"cli-second", "cn-north-4"} <= set(
            unsaid.stderr.strip().partition("choose one of them: ")[2].split(", ")
        )
        said = run("login", server.url, "--project", "cn-north-4", "--password-stdin", typed=f"{server.password}\n")
        assert said.returncode == 0, said.stderr

        asked = [run("cluster", "list", "--project", name, "-o", "json") for name in ("cli-second", made["id"])]
        again = run("cluster", "list", "--project", "cli-second", "-o", "json")

        assert [one.stdout.strip() for one in (*asked, again)] == ["[]"] * 3, asked[0].stderr
        [stored] = json.loads(file_of(tmp_path).read_text())["contexts"]
        assert set(stored["project_tokens"]) == {"cli-second", made["id"]}
        unknown = run("cluster", "list", "--project", "no-such-project")
        assert (unknown.returncode, "no-such-project" in unknown.stderr) == (1, True)
        key = {"PILOTHOUSE_URL": server.url, "CLOUD_SDK_AK": server.access_key, "CLOUD_SDK_SK": server.secret_key}
        assert run("cluster", "list", "--project", "cli-second", "-o", "json", **key).stdout.strip() == "[]"
    finally:
        assert server.command("project", "remove", made["id"]).returncode == 0


def test_a_pinned_authority_is_the_only_one_that_is_trusted(server: RunningServer, run: Run):
    typed = {"typed": f"{server.password}\n"}
    unknown = run("login", server.tls_url, "--password-stdin", **typed)
    assert unknown.returncode == 3
    assert f"type: pilothouse login {server.tls_url} --ca FILE" in unknown.stderr

    pinned = run("login", server.tls_url, "--ca", str(server.ca), *OURS, "--password-stdin", **typed)
    assert pinned.returncode == 0, pinned.stderr
    assert run("cluster", "list").returncode == 0


def test_a_server_of_another_version_is_named_as_that(server: RunningServer):
    program = (
        "from pilothouse.cli.client import Client, Credentials; "
        f"Client({server.url!r}, credentials=Credentials(access_key={server.access_key!r}, "
        f"secret_key={server.secret_key!r})).call('GET', '/api/v1/newer')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)

    assert "has no GET /api/v1/newer: that server is of another version than this command" in done.stderr


def test_a_user_without_a_project_can_log_in(server: RunningServer, run: Run):
    person = add_person(server)

    done = run("login", server.url, "-u", person.name, "--password-stdin", typed=f"{person.server.password}\n")

    assert "project (none)" in done.stdout, done.stderr
