"""``pilothouse user | accesskey | token | project``, as a person and as a script run them."""

import json
import re
import subprocess
import sys
from typing import Any

import pytest

from tests.support.servers import RunningServer
from tests.support.tokens import ask, login, send
from tests.support.users import PASSWORD, add_person


def run(server: RunningServer, *arguments: str, typed: str = "", token: str = "") -> "subprocess.CompletedProcess[str]":
    """Return the command with a token, or with the server's access key, and lines on standard input."""
    proof = {"PILOTHOUSE_TOKEN": token} if token else {}
    if not token:
        proof = {"CLOUD_SDK_AK": server.access_key, "CLOUD_SDK_SK": server.secret_key}
    return subprocess.run(
        [sys.executable, "-m", "pilothouse", *arguments],
        env={"PATH": "/usr/bin:/bin", "PILOTHOUSE_URL": server.url, "COLUMNS": "200", **proof},
        input=typed,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def answer(server: RunningServer, *arguments: str, typed: str = "", token: str = "") -> Any:
    """Return what the command prints for programs."""
    done = run(server, *arguments, "--output", "json", typed=typed, token=token)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_life_of_a_user(server: RunningServer):
    made = answer(server, "user", "add", "cli-user", "--role", "readonly", "--project", "cn-north-4")
    assert made["roles"] == [{"role": "readonly", "project_id": server.project_id}]
    assert ask(server, login(made["password"], name="cli-user")).status_code == 201
    assert "cli-user" in [one["name"] for one in answer(server, "user", "list")]
    granted = answer(server, "user", "grant", "cli-user", "CCE FullAccess")
    assert {"role": "CCE FullAccess", "project_id": None} in granted["roles"]
    assert len(answer(server, "user", "withdraw", "cli-user", "CCE FullAccess")["roles"]) == 1
    assert answer(server, "user", "disable", "cli-user")["enabled"] is False
    assert answer(server, "user", "enable", "cli-user")["enabled"] is True
    changed = run(server, "user", "password", "cli-user", "--password-stdin", typed="another password\n")
    assert changed.returncode == 0, changed.stderr
    assert ask(server, login("another password", name="cli-user")).status_code == 201
    shown = run(server, "user", "show", "cli-user")
    assert re.search(rf"{made['id']}\s+cli-user\s+True\s+readonly \({server.project_id}\)", shown.stdout)
    assert run(server, "user", "remove", "cli-user").returncode == 0
    gone = run(server, "user", "show", "cli-user")
    assert (gone.returncode, gone.stdout) == (1, "")
    assert "no user of this account is named 'cli-user'" in gone.stderr


def test_a_user_whose_role_is_refused_is_not_left_behind(server: RunningServer):
    refused = run(server, "user", "add", "cli-nobody", "--role", "CCE Readonly")

    assert refused.returncode == 2
    assert "no user was created" in refused.stderr
    assert "cli-nobody" not in run(server, "user", "list").stdout


def test_ones_own_password(server: RunningServer):
    person = add_person(server, "readonly")
    typed = f"{PASSWORD}\nthe next password\n"

    done = run(person.server, "user", "password", "--password-stdin", typed=typed)

    assert done.returncode == 0, done.stderr
    assert ask(server, login("the next password", name=person.name)).status_code == 201
    short = run(person.server, "user", "password", "--password-stdin", typed="the next password\n")
    assert "missing line with the new password" in short.stderr


def test_a_log_in_gives_a_token_that_every_command_takes(server: RunningServer):
    create = ("token", "create", "--project", "cn-north-4", "--password-stdin")
    printed = run(server, *create, typed=f"{server.password}\n").stdout
    token = printed.strip()
    assert re.fullmatch(r"pht-[A-Za-z0-9_-]{43}\n", printed)

    said = answer(server, "token", "show", token=token)
    assert (said["user"], said["domain"], said["project_id"]) == ("admin", "pilothouse", server.project_id)
    assert [one["id"] for one in answer(server, "cluster", "list", token=token)] == [server.cluster_id]
    assert run(server, "token", "revoke", token=token).stdout == "the token was revoked\n"
    assert send(server, "GET", "/v2/charts", token=token).status_code == 401
    refused = run(server, "cluster", "list", token=token)
    assert (refused.returncode, "decrypt token fail" in refused.stderr) == (3, True)


def test_a_log_in_for_programs_and_one_by_project_id(server: RunningServer):
    create = ("token", "create", "--project", server.project_id, "--password-stdin")
    made = answer(server, *create, typed=f"{server.password}\n")

    assert made["project_id"] == server.project_id
    assert send(server, "GET", "/v2/charts", token=made["token"]).status_code == 200
    ended = run(server, "token", "revoke", "--token-stdin", typed=f"{made['token']}\n")
    assert ended.returncode == 0, ended.stderr


def test_a_failed_log_in_says_why_and_shows_no_password(server: RunningServer):
    done = run(server, "token", "create", "--password-stdin", typed="a wrong secret\n")

    assert (done.returncode, done.stdout) == (3, "")
    assert "The username or password is wrong." in done.stderr
    assert "a wrong secret" not in done.stderr


def test_the_life_of_an_access_key(server: RunningServer):
    person = add_person(server, "readonly")
    create = ("accesskey", "create", "--user", person.name, "--project", "cn-north-4", "--password-stdin")
    made = answer(server, *create, "--description", "the robot", typed=f"{server.password}\n")
    key = made["access_key"]
    own = server.send("GET", "/v2/charts", access_key=key, secret_key=made["secret_key"])
    assert own.status_code == 200
    assert key in [one["access_key"] for one in answer(server, "accesskey", "list", "--user", person.name)]
    listed = run(server, "accesskey", "list", "--user", person.name).stdout
    assert f"{key}  the robot  " in listed, listed
    assert answer(server, "accesskey", "describe", key, "the next robot")["description"] == "the next robot"
    assert answer(server, "accesskey", "disable", key)["enabled"] is False
    assert answer(server, "accesskey", "enable", key)["enabled"] is True
    assert "secret_key" not in answer(server, "accesskey", "show", key)
    assert run(server, "accesskey", "remove", key).returncode == 0
    assert run(server, "accesskey", "show", key).returncode == 1
    table = run(person.server, "accesskey", "create", "--days", "7", "--password-stdin", typed=f"{PASSWORD}\n")
    assert re.search(r"secret key  [A-Za-z0-9]{40}  \(shown only now\)", table.stdout)
    (own_key,) = [one for one in answer(person.server, "accesskey", "list") if one["expires_at"]]
    assert own_key["access_key"] in table.stdout
    assert own_key["expires_at"][:10] in table.stdout, table.stdout


def test_the_life_of_a_project(server: RunningServer):
    made = answer(server, "project", "add", "cli-project", "--description", "for a moment")
    assert (made["name"], made["description"], made["enabled"]) == ("cli-project", "for a moment", True)
    assert answer(server, "project", "show", "cli-project") == made
    assert answer(server, "project", "disable", made["id"])["enabled"] is False
    assert answer(server, "project", "enable", "cli-project")["enabled"] is True
    assert made in answer(server, "project", "list")
    assert run(server, "project", "remove", "cli-project").returncode == 0
    assert "cli-project" not in run(server, "project", "list").stdout


def test_a_way_back_in_for_whoever_holds_the_database(server: RunningServer):
    person = add_person(server)
    server.send("PATCH", f"/api/v1/users/{person.id}", json_body={"enabled": False})
    done = subprocess.run(
        [sys.executable, "-m", "pilothouse", "user", "recover", person.name],
        env={"PATH": "/usr/bin:/bin", "PILOTHOUSE_DATA_DIR": str(server.data_dir)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    password = re.search(r"password  (\S{24})", done.stdout)
    assert password is not None
    token = ask(server, login(password[1], name=person.name, scope={"domain": {"name": "pilothouse"}}))
    users = send(server, "GET", "/api/v1/users", token=token.headers["x-subject-token"])
    assert users.status_code == 200, users.text


@pytest.mark.parametrize("noun", ["user", "accesskey", "token", "project", "webhook"])
def test_a_command_without_credentials_says_what_to_set(server: RunningServer, noun: str):
    done = subprocess.run(
        [sys.executable, "-m", "pilothouse", noun, "list" if noun != "token" else "show"],
        env={"PATH": "/usr/bin:/bin", "PILOTHOUSE_URL": server.url},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 3
    assert "PILOTHOUSE_TOKEN" in done.stderr
    assert "Traceback" not in done.stderr
