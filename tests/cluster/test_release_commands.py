"""``pilothouse list`` and ``status`` beside ``helm list`` and ``helm status``, on paper and on terminals."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.cells import cell_len

from tests.support.charts import build_chart, config_map_template
from tests.support.servers import RunningServer, wait_for
from tests.support.terminals import open_terminal

Helm = Callable[..., str]
#: The program that a person types, which answers lists itself.
INSTALLED = str(Path(sys.executable).with_name("pilothouse"))
NAMES = ("alpha", "beta-with-a-rather-long-name", "gamma")


@pytest.fixture(scope="module")
def place(server: RunningServer, helm_cli: Helm, make_namespace: Callable[[], str], tmp_path_factory: Any) -> str:
    """Return a namespace with releases that helm made: two deployed, one of them twice, and one failed."""
    namespace = make_namespace()
    folder = tmp_path_factory.mktemp("chart")
    good, bad = folder / "good.tgz", folder / "bad.tgz"
    texts = {"map.yaml": config_map_template(), "NOTES.txt": "hello {{ .Release.Name }}"}
    good.write_bytes(build_chart("good", templates=texts, values={"text": "x"}))
    bad.write_bytes(build_chart("bad", templates={"x.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: X_}\n"}))
    for name in NAMES[:2]:
        helm_cli("install", name, str(good), "-n", namespace)
    _await_another_second()
    helm_cli("upgrade", NAMES[0], str(good), "-n", namespace, "--set", "text=y", "--description", "[red]changed")
    _await_another_second()
    with pytest.raises(subprocess.CalledProcessError):
        helm_cli("install", NAMES[2], str(bad), "-n", namespace)
    wait_for(
        lambda: (
            len(listed(server, "-n", namespace)) == len(NAMES) and listed(server, "-n", namespace)[0]["revision"] == 2
        )
    )
    return namespace


def _await_another_second() -> None:
    """Wait, because helm sorts dates by the second and those of one second by name."""
    time.sleep(1 - time.time() % 1)


def listed(server: RunningServer, *arguments: str) -> list[dict[str, Any]]:
    done = server.command("list", "-o", "json", *arguments)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def environment_of(server: RunningServer, **more: str) -> dict[str, str]:
    access = {"CLOUD_SDK_AK": server.access_key, "CLOUD_SDK_SK": server.secret_key}
    return {"PATH": os.environ["PATH"], "HOME": "/nowhere", "PILOTHOUSE_URL": server.url, **access, **more}


@pytest.mark.parametrize(
    "flags",
    [
        "",
        "--filter a.*a$",
        "--filter with-a",
        "--deployed",
        "--failed",
        "--pending",
        "-r",
        "-d",
        "-m 2",
        "-m 1 --offset 1",
        "--deployed --failed -r -m 2",
    ],
)
def test_list_finds_what_helm_finds_in_helms_order(server: RunningServer, helm_cli: Helm, place: str, flags: str):
    theirs = json.loads(helm_cli("list", "-n", place, "-o", "json", *flags.split()))

    mine = listed(server, "-n", place, *flags.split())

    assert [{**one, "revision": int(one["revision"]), "updated": ""} for one in theirs] == [
        {name: one[name] for name in ("name", "namespace", "revision", "status", "chart", "app_version")}
        | {"updated": ""}
        for one in mine
    ]
    names = server.command("list", "-n", place, "-q", *flags.split()).stdout
    assert names == helm_cli("list", "-n", place, "-q", *flags.split())


def test_a_table_has_helms_columns(server: RunningServer, helm_cli: Helm, place: str):
    mine = server.command("ls", "-n", place).stdout.splitlines()
    theirs = helm_cli("ls", "-n", place).splitlines()

    assert mine[0].split() == theirs[0].split()
    assert [line.split()[:3] for line in mine] == [line.split()[:3] for line in theirs]
    assert server.command("ls", "-n", place, "--no-headers").stdout.split() == " ".join(mine[1:]).split()
    assert "more than 1" in server.command("ls", "-n", place, "-m", "1").stderr


def test_all_namespaces_are_those_of_the_index(server: RunningServer, place: str):
    found = {(one["namespace"], one["name"]) for one in listed(server, "-A", "--filter", "rather")}

    assert (place, NAMES[1]) in found


def test_status_says_what_helm_says(server: RunningServer, helm_cli: Helm, place: str):
    mine = server.command("status", NAMES[0], "-n", place)
    theirs = helm_cli("status", NAMES[0], "-n", place)

    assert mine.returncode == 0, mine.stderr
    for heading in ("NAME", "NAMESPACE", "STATUS", "REVISION", "DESCRIPTION"):
        [line] = [line for line in theirs.splitlines() if line.startswith(f"{heading}: ")]
        assert line in mine.stdout.splitlines()
    assert mine.stdout.endswith("NOTES:\nhello alpha\n")
    first = json.loads(server.command("status", NAMES[0], "-n", place, "--revision", "1", "-o", "json").stdout)
    assert (first["revision"], first["status"]) == (1, "superseded")


def test_history_lists_what_helm_lists(server: RunningServer, helm_cli: Helm, place: str):
    mine = json.loads(server.command("history", NAMES[0], "-n", place, "-o", "json").stdout)
    theirs = json.loads(helm_cli("history", NAMES[0], "-n", place, "-o", "json"))

    fields = ("revision", "status", "chart", "app_version", "description")
    assert [[one[field] for field in fields] for one in mine] == [[one[field] for field in fields] for one in theirs]
    head, *lines = server.command("hist", NAMES[0], "-n", place, "--max", "1").stdout.splitlines()
    assert head.split()[:4] == helm_cli("history", NAMES[0], "-n", place).split()[:4]
    assert [line.split()[0] for line in lines] == ["2"]
    assert "[red]changed" in lines[0]


@pytest.mark.parametrize("flags", ["", "--revision 1"])
@pytest.mark.parametrize("part", ["values", "values --all", "manifest", "notes", "hooks"])
def test_get_prints_what_helm_prints(server: RunningServer, helm_cli: Helm, place: str, part: str, flags: str):
    arguments = ("get", *part.split(), NAMES[0], "-n", place, *flags.split())
    if part == "values" and flags:  # there are none: Helm says null, and we {}
        arguments = (*arguments, "--all")

    mine = server.command(*arguments)

    assert mine.returncode == 0, mine.stderr
    assert mine.stdout.rstrip() == helm_cli(*arguments).rstrip()


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_values_for_programs_are_those_of_helm(server: RunningServer, helm_cli: Helm, place: str, output: str):
    arguments = ("get", "values", NAMES[0], "-n", place, "-o", output)

    mine, theirs = (yaml.safe_load(text) for text in (server.command(*arguments).stdout, helm_cli(*arguments)))

    assert mine == theirs == {"text": "y"}


def test_get_all_and_metadata_hold_the_parts(server: RunningServer, place: str):
    told = server.command("get", "all", NAMES[0], "-n", place).stdout
    both = json.loads(server.command("get", "all", NAMES[0], "-n", place, "-o", "json").stdout)

    for part in ("values", "manifest", "notes"):
        assert server.command("get", part, NAMES[0], "-n", place).stdout.rstrip() in told
    assert server.command("get", "metadata", NAMES[0], "-n", place).stdout.rstrip() in told
    assert (both["values"], both["revision"], both["hooks"]) == ({"text": "y"}, 2, [])


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["status", "no-such"], 1, "no-such"),
        (["status", "alpha", "--revision", "0"], 2, "must be at least 1"),
        (["status"], 2, "Missing argument 'NAME'"),
        (["history", "no-such"], 1, "no-such"),
        (["get", "values", "no-such"], 1, "no-such"),
        (["get", "manifest", "alpha", "--revision", "9"], 1, "9"),
        (["list", "--filter", "("], 2, "--filter: '(' is not a regular expression"),
        (["list", "-o", "wide"], 2, "'wide' is not one of 'table', 'json', 'yaml'"),
        (["list", "--cluster", "no-such"], 1, "no-such"),
        (["list", "--al-namespaces"], 2, "--all-namespaces"),
    ],
)
def test_what_is_wrong_is_said_on_standard_error(
    *, server: RunningServer, place: str, arguments: list[str], status: int, words: str
):
    done = server.command(*arguments, "-n", place)

    assert (done.returncode, done.stdout) == (status, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("columns", [20, 40, 80, 120, 200])
def test_a_terminal_of_any_width_gets_lines_that_fit(server: RunningServer, place: str, columns: int):
    command = [sys.executable, "-m", "pilothouse", "list", "-n", place]
    with open_terminal(columns=columns) as terminal:
        process = subprocess.Popen(
            command, env=environment_of(server, NO_COLOR="1"), stdout=terminal.device, stderr=terminal.device
        )
        seen = terminal.read_to_end()

    assert process.wait(60) == 0
    lines = seen.decode().splitlines()
    longest = max(cell_len(line) for line in lines)
    assert longest <= max(columns, *map(len, NAMES))  # a name is never cut, the next command needs it
    assert "\x1b" not in seen.decode()
    assert all(any(name in line for line in lines) for name in NAMES)


@pytest.mark.parametrize("program", [(INSTALLED,), (sys.executable, "-m", "pilothouse")], ids=["installed", "python"])
@pytest.mark.parametrize("flags", ["-o json", ""])
def test_who_reads_only_the_head_gets_no_traceback(
    *, server: RunningServer, place: str, program: tuple[str, ...], flags: str
):
    script = 'name=$1; shift; "$@" -n "$name" | head -c 1; echo; echo "${PIPESTATUS[0]}"'
    done = subprocess.run(
        ["bash", "-c", script, "bash", place, *program, "list", *flags.split()],
        env=environment_of(server),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (done.stdout.splitlines(), done.stderr) == ([("[" if flags else "N"), "0"], "")


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("pilothouse status ", NAMES),
        ("pilothouse status b", NAMES[1:2]),
        ("pilothouse list --cluster ", ("",)),
        ("pilothouse sta", ("status",)),
        ("pilothouse rollback alpha ", ("1", "2")),
        ("pilothouse diff alpha ", ("1", "2")),
        ("pilothouse get values alpha --revision ", ("1", "2")),
        ("pilothouse get all alpha --revision=", ("1", "2")),
        ("pilothouse status alpha --revision ", ("1", "2")),
        ("pilothouse diff alpha 1 ", ("1", "2", "live")),
        ("pilothouse release unlock b", NAMES[1:2]),
        ("pilothouse user show ad", ("admin",)),
    ],
)
def test_the_shell_completes_commands_and_names(server: RunningServer, place: str, line: str, names: tuple[str, ...]):
    words = line.split(" ")
    completing = {"_PILOTHOUSE_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run(
        [sys.executable, "-m", "pilothouse"],
        env=environment_of(server, PILOTHOUSE_NAMESPACE=place, **completing),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.stderr == ""
    assert set(done.stdout.split()) >= set(filter(None, names))
    assert done.stdout.strip()


def test_completion_is_silent_without_a_server(tmp_path: Path):
    words = {"COMP_WORDS": "pilothouse status ", "COMP_CWORD": "2", "_PILOTHOUSE_COMPLETE": "complete_bash"}
    done = subprocess.run(
        [sys.executable, "-m", "pilothouse"],
        env={"HOME": str(tmp_path), "PILOTHOUSE_URL": "http://127.0.0.1:1", "PILOTHOUSE_TOKEN": "x", **words},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (done.stdout.strip(), done.stderr) == ("", "")
