"""The file of contexts: for its owner only, replaced in one step, and read from older and newer versions."""

import contextlib
import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from pilothouse.cli import COMMANDS, connection
from pilothouse.cli.contexts import Context, contexts_file, edited_contexts, read_contexts
from pilothouse.cli.groups import load_command
from pilothouse.errors import InvalidRequest, PilothouseError

HERE = Context(name="here", url="http://here:8440", token="secret-of-here", user="ann", cluster="c", namespace="n")
THERE = Context(name="there", url="https://there:8441", access_key="AK", secret_key="SK", ca="PEM")


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file of contexts of our own, and no variable that a command reads."""
    for name in ("URL", "TOKEN", "CA", "CONTEXT", "PROJECT_ID", "CLUSTER", "NAMESPACE"):
        monkeypatch.delenv(f"PILOTHOUSE_{name}", raising=False)
    monkeypatch.delenv("CLOUD_SDK_AK", raising=False)
    monkeypatch.delenv("CLOUD_SDK_SK", raising=False)
    path = tmp_path / "folder" / "contexts.json"
    monkeypatch.setenv("PILOTHOUSE_CONTEXTS", str(path))
    return path


def keep(*contexts: Context, current: str = "here") -> None:
    with edited_contexts() as stored:
        stored.contexts = list(contexts)
        stored.current = current


def test_only_its_owner_can_read_the_file_and_its_folder(file: Path):
    keep(HERE, THERE)

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert read_contexts().contexts == [HERE, THERE]
    assert sorted(path.name for path in file.parent.iterdir()) == ["contexts.json", "contexts.json.lock"]


def test_a_file_that_others_can_read_is_refused_with_what_to_type(file: Path):
    keep(HERE)
    file.chmod(0o640)

    with pytest.raises(InvalidRequest, match=f"run 'chmod 600 {file}'"):
        read_contexts()


def test_a_change_that_fails_leaves_the_file_as_it_was(file: Path):
    keep(HERE)

    with contextlib.suppress(InvalidRequest), edited_contexts() as contexts:
        contexts.put(THERE)
        contexts.get("x")

    assert read_contexts().contexts == [HERE]
    assert len(list(file.parent.iterdir())) == 2


def test_what_a_later_version_added_is_passed_over(file: Path):
    keep(HERE)
    stored = json.loads(file.read_text())
    stored["contexts"][0]["new"] = 1
    stored["new"] = 1
    file.write_text(json.dumps(stored))

    assert read_contexts().contexts == [HERE]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"contexts": [{"name": "x", "url": 1}], "current": ""}', '{"a": 1}']
)
def test_a_file_that_is_none_is_named(file: Path, content: str):
    keep(HERE)
    file.write_text(content)

    with pytest.raises(InvalidRequest, match=f"{file} is not a file of contexts"):
        read_contexts()


def test_the_file_stands_in_the_users_folder(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("PILOTHOUSE_CONTEXTS")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/x")

    assert contexts_file() == Path("/x/pilothouse/contexts.json")


def test_the_current_context_is_used_with_its_defaults():
    keep(HERE, THERE)

    found = connection._resolve({})

    assert (found.client.url, found.client.credentials.token) == (HERE.url, HERE.token)
    assert (found.cluster, found.namespace) == ("c", "n")


def test_a_context_that_a_flag_names_counts_before_the_environment(monkeypatch: pytest.MonkeyPatch):
    keep(HERE, THERE)
    monkeypatch.setenv("PILOTHOUSE_URL", HERE.url)
    monkeypatch.setenv("PILOTHOUSE_TOKEN", "another")

    found = connection._resolve({"named_context": "there"})

    assert found.client.url == THERE.url
    assert (found.client.credentials.token, found.client.credentials.access_key) == ("", "AK")


def test_the_environment_counts_before_the_current_context(monkeypatch: pytest.MonkeyPatch):
    keep(HERE)
    monkeypatch.setenv("PILOTHOUSE_TOKEN", "another")
    monkeypatch.setenv("PILOTHOUSE_NAMESPACE", "m")

    found = connection._resolve({})

    assert (found.client.credentials.token, found.namespace, found.cluster) == ("another", "m", "c")
    assert connection._resolve({"in_namespace": "o"}).namespace == "o"


@pytest.mark.parametrize("given", [{"server_url": "http://elsewhere:1"}, {}], ids=["flag", "variable"])
def test_a_contexts_credentials_go_to_no_other_server(monkeypatch: pytest.MonkeyPatch, given: dict[str, str]):
    keep(HERE)
    if not given:
        monkeypatch.setenv("PILOTHOUSE_URL", "http://elsewhere:1")

    found = connection._resolve(given)

    assert found.client.url == "http://elsewhere:1"
    assert found.client.credentials.token == ""
    assert (found.context, found.cluster, found.namespace) == (None, "", "default")


def test_the_vendors_variables_do_not_replace_a_log_in(monkeypatch: pytest.MonkeyPatch):
    keep(HERE)
    monkeypatch.setenv("CLOUD_SDK_AK", "of another cloud")
    monkeypatch.setenv("CLOUD_SDK_SK", "secret")

    assert connection._resolve({}).client.credentials.token == HERE.token


def test_an_unknown_context_is_named_with_those_that_there_are():
    keep(HERE, THERE)

    with pytest.raises(InvalidRequest, match="no context 'x'; there are: here, there"):
        connection._resolve({"named_context": "x"})


@pytest.mark.parametrize("url", ["here", "ftp://here", "http://", "http://here:99999", "http://here:x"])
def test_a_url_that_is_none_is_refused(url: str):
    with pytest.raises(PilothouseError, match="--url: "):
        connection._resolve({"server_url": url})


@pytest.mark.parametrize("by_flag", [True, False])
def test_another_token_stays_in_its_own_project(monkeypatch: pytest.MonkeyPatch, *, by_flag: bool):
    keep(replace(HERE, project="a"))
    given = {"with_token": "of b"} if by_flag else {}
    monkeypatch.setenv("PILOTHOUSE_TOKEN", "" if by_flag else "of b")
    monkeypatch.setenv("PILOTHOUSE_PROJECT_ID", "c")

    assert connection._resolve(given).client._project == ""
    assert connection._resolve({**given, "in_project": "d"}).client._project == "d"


def test_variables_do_not_change_a_context_that_a_flag_names(monkeypatch: pytest.MonkeyPatch):
    keep(HERE, replace(THERE, project="a", cluster="c", namespace="n"))
    for name in ("CA", "PROJECT_ID", "CLUSTER", "NAMESPACE"):
        monkeypatch.setenv(f"PILOTHOUSE_{name}", "another")

    found = connection._resolve({"named_context": "there"})

    assert (found.client._project, found.client._ca, found.cluster, found.namespace) == ("a", "PEM", "c", "n")


@pytest.mark.parametrize("token", ["secret\r", "secret\u20ac"])
def test_a_token_that_no_header_can_hold_is_not_repeated(token: str):
    found = connection._resolve({"server_url": "http://127.0.0.1:1", "with_token": token})

    with pytest.raises(InvalidRequest, match="end of line") as refused:
        found.client.call("GET", "/")

    assert "secret" not in str(refused.value)
    assert refused.value.__suppress_context__


def use(*words: str) -> None:
    load_command("context", COMMANDS["context"]).main(["use", *words], standalone_mode=False)


def test_without_a_name_the_current_contexts_defaults_change(capsys: pytest.CaptureFixture[str]):
    keep(HERE, THERE, current="there")

    use("-n", "web")

    assert [one.namespace for one in read_contexts().contexts] == ["n", "web"]
    assert capsys.readouterr().out == (
        "commands now ask https://there:8441, context there: cluster (the only one), namespace web\n"
    )
    use("here", "--cluster", "", "-n", "")
    assert read_contexts().current == "here"
    assert capsys.readouterr().out.endswith("context here: cluster (the only one), namespace default\n")


def test_variables_that_count_before_the_context_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    keep(HERE, THERE)
    use("there")
    assert capsys.readouterr().err == ""

    monkeypatch.setenv("PILOTHOUSE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("PILOTHOUSE_TOKEN", "secret")
    use("there")

    told = capsys.readouterr().err
    assert "PILOTHOUSE_URL=http://127.0.0.1:1, PILOTHOUSE_TOKEN is set" in told
    assert "--context there" in told
    assert "secret" not in told


def test_without_a_name_and_a_current_context_it_is_said_what_to_type():
    keep(HERE, current="")

    with pytest.raises(InvalidRequest, match=r"no current context in .*: type 'pilothouse login URL'"):
        use("-n", "web")


def test_a_command_says_what_the_others_use_here_and_what_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def told(*arguments: str) -> dict[str, tuple[str, str]]:
        command = load_command("env", COMMANDS["env"])
        command.main([*arguments, "-o", "json"], standalone_mode=False)
        return {row["name"]: (row["value"], row["from"]) for row in json.loads(capsys.readouterr().out)}

    assert told() == {
        "url": ("http://127.0.0.1:8440", "default"),
        "user": ("", "default"),
        "project": ("", "default"),
        "cluster": ("", "default"),
        "namespace": ("default", "default"),
    }
    keep(replace(HERE, project="shop"))
    monkeypatch.setenv("PILOTHOUSE_CLUSTER", "other")
    assert told("-n", "mine") == {
        "url": ("http://here:8440", "context here"),
        "user": ("ann", "context here"),
        "project": ("shop", "context here"),
        "cluster": ("other", "PILOTHOUSE_CLUSTER"),
        "namespace": ("mine", "command line"),
    }
    monkeypatch.setenv("PILOTHOUSE_URL", "http://elsewhere:1")
    assert told()["url"] == ("http://elsewhere:1", "PILOTHOUSE_URL")
    assert told()["namespace"] == ("default", "default")
