"""``pilothouse list`` and ``status`` as the small program answers them, which a person types: as the Python one does.

Alone in a folder it can hand nothing over, so that what it prints there is its own.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.charts import build_chart, config_map_template
from tests.support.releases import HelmCommand
from tests.support.servers import RunningServer
from tests.support.terminals import open_terminal
from tests.support.workloads import hook_template

PROGRAM = Path(__file__).parents[2] / "src" / "pilothouse" / "engine" / "bin" / "pilothouse"
INSTALLED = Path(sys.executable).with_name("pilothouse")
FAILING = f"{{{{- if .Values.fails }}}}\n{hook_template('pre-install', fate='fail')}{{{{- end }}}}\n"
STAND_IN = '#!/bin/sh\nprintf "handed over:"\nprintf " <%s>" "$@"\n'
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def place(
    server: RunningServer,
    make_namespace: Callable[[], str],
    helm_cli: HelmCommand,
    tmp_path_factory: pytest.TempPathFactory,
) -> str:
    """Return a namespace with releases, one of them with two revisions and notes, another failed."""
    server.wait_until_listed(seconds=90)  # until then lists are incomplete, which is the Python program's to say
    namespace = make_namespace()
    templates = {
        "map.yaml": config_map_template(),
        "hook.yaml": FAILING,
        "NOTES.txt": "one {{ .Release.Name }}\n\n\ttwo: 100%s\n \n",
    }
    chart = tmp_path_factory.mktemp("front") / "chart.tgz"
    chart.write_bytes(build_chart("front", templates=templates, values={"text": "x"}))
    names = [f"{word}-{namespace}" for word in ("web", "api", "job")]
    for name in names:
        helm_cli("install", name, str(chart), "-n", namespace)
    helm_cli("upgrade", names[0], str(chart), "-n", namespace, "--set", "text=y", "--description", "by hand: 5 %d")
    server.wait_until_shown(namespace, names[0], revision=2, seconds=90)
    for name in names[1:]:
        server.wait_until_shown(namespace, name, seconds=90)
    where = ("-n", namespace, "--cluster", server.cluster_id)
    failed = server.command("install", f"bad-{namespace}", str(chart), *where, "--set", "fails=true")
    assert failed.returncode == 1, failed.stderr
    return namespace


def variables(server: RunningServer, home: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PILOTHOUSE_URL": server.url,
        "CLOUD_SDK_AK": server.access_key,
        "CLOUD_SDK_SK": server.secret_key,
    }


def run(program: list[str | Path], environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        program, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    return Path(shutil.copy(PROGRAM, tmp_path / "pilothouse"))


@pytest.fixture
def with_stand_in(alone: Path) -> Path:
    """Return the program beside one that tells what was handed over to it."""
    python = alone.with_name("pilothouse-python")
    python.write_text(STAND_IN)
    python.chmod(0o755)
    return alone


ANSWERED = [
    ["list", "-n", "NS"],
    ["-n", "NS", "ls", "--output", "table"],
    ["list", "-A", "--filter", "NS"],
    ["list", "--all-namespaces", "-f", "NS", "--no-headers", "-r", "-d"],
    ["list", "-q", "--namespace=NS", "--max", "2"],
    ["list", "-n", "other", "-n", "NS", "-m", "1", "--offset", "1", "--reverse"],
    ["list", "-n", "NS", "--max", "0", "--offset", "2"],
    ["list", "-n", "NS", "--offset", "7"],
    ["list", "-n", "NS", "--failed", "--pending"],
    ["list", "-n", "NS", "--deployed", "--superseded", "--uninstalled", "--uninstalling"],
    ["list", "-n", "NS", "--cluster", "CLUSTER"],
    ["list", "-n", "there-is-none", "--no-headers"],
    ["list", "-A", "--all-clusters", "--filter", "NS"],
    ["status", "web-NS", "-n", "NS", "--cluster", "CLUSTER"],
    ["status", "-n", "NS", "web-NS", "--revision", "1", "--cluster=CLUSTER"],
    ["status", "-n", "NS", "bad-NS", "--cluster=CLUSTER"],
]


def words_of(words: list[str], namespace: str, server: RunningServer) -> list[str]:
    return [word.replace("NS", namespace).replace("CLUSTER", server.cluster_id) for word in words]


@pytest.mark.parametrize("words", ANSWERED, ids=" ".join)
def test_it_answers_as_the_python_program(
    *, words: list[str], server: RunningServer, place: str, alone: Path, tmp_path: Path
):
    typed = words_of(words, place, server)
    own = run([alone, *typed], variables(server, tmp_path))
    python = run([sys.executable, "-m", "pilothouse", *typed], variables(server, tmp_path))

    assert (own.stdout, own.stderr, own.returncode) == (python.stdout, python.stderr, 0)
    failed = words[0] == "status" and "bad-NS" in words
    assert bool(re.search(r"\n  why: pilothouse operation show \S+\n", own.stdout)) == failed


@pytest.mark.parametrize(
    ("words", "limit"),
    [
        (["list", "-n", "NS"], ""),
        (["list", "-A", "-f", "NS"], "limited to cluster CLUSTER, by the context or PILOTHOUSE_CLUSTER"),
        (["list", "-A", "-f", "NS", "-q"], ""),
        (["list", "-A", "-f", "NS", "--cluster", "CLUSTER"], ""),
        (["list", "-A", "-f", "NS", "-m", "1"], "limited to cluster CLUSTER, by the context or PILOTHOUSE_CLUSTER"),
    ],
    ids=str,
)
def test_both_say_the_cluster_that_a_list_of_all_namespaces_is_limited_to(
    *, words: list[str], limit: str, server: RunningServer, place: str, alone: Path, tmp_path: Path
):
    typed = words_of(words, place, server)
    environment = variables(server, tmp_path) | {"PILOTHOUSE_CLUSTER": server.cluster_id}
    own = run([alone, *typed], environment)
    python = run([sys.executable, "-m", "pilothouse", *typed], environment)

    assert (own.stdout, own.stderr, own.returncode) == (python.stdout, python.stderr, 0)
    several = len(server.send("GET", "/api/v1/clusters").json()) > 1
    assert ("limited to" in python.stderr) == bool(limit and several)
    if several:
        assert python.stderr.startswith(limit.replace("CLUSTER", server.cluster_id, 1))


def test_all_clusters_are_listed_whatever_the_context_names(
    server: RunningServer, place: str, alone: Path, tmp_path: Path
):
    environment = variables(server, tmp_path) | {"PILOTHOUSE_CLUSTER": "there-is-none"}
    own = run([alone, "list", "-n", place, "--all-clusters"], environment)
    python = run([sys.executable, "-m", "pilothouse", "list", "-n", place, "--all-clusters"], environment)

    assert f"web-{place}" in own.stdout
    assert (own.stdout, own.stderr) == (python.stdout, python.stderr)


def test_output_that_has_no_room_is_told_by_both(server: RunningServer, place: str, alone: Path, tmp_path: Path):
    for program in ([alone], [sys.executable, "-m", "pilothouse"]):
        with Path("/dev/full").open("w") as full:
            ended = subprocess.run(
                [*program, "list", "-n", place],
                env=variables(server, tmp_path),
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
                timeout=60,
            )
        said = "pilothouse: cannot write the output: No space left on device\n"
        assert (ended.returncode, ended.stderr) == (1, said), program


HANDED_OVER = [
    [],
    ["--help"],
    ["list", "-h"],
    ["list", "-n", "NS", "-o", "json"],
    ["list", "-n", "NS", "--filter", "web.*"],
    ["list", "-qn", "NS"],
    ["list", "-n", "NS", "--filter", "["],
    ["list", "--max", "-1"],
    ["list", "extra"],
    ["list", "--all-clusters", "--cluster", "CLUSTER"],
    ["list", "--url", "http://127.0.0.1:1"],
    ["list", "--context", "there-is-none"],
    ["list", "--ca", "/dev/null"],
    ["list", "--token", "wrong"],
    ["list", "--project", "another"],
    ["status"],
    ["status", "there-is-none", "-n", "NS"],
    ["history", "web-NS", "-n", "NS"],
    ["serve"],
]


@pytest.mark.parametrize("words", HANDED_OVER, ids=" ".join)
def test_the_rest_is_the_python_programs_word_for_word(
    *, words: list[str], server: RunningServer, place: str, with_stand_in: Path, tmp_path: Path
):
    typed = words_of(words, place, server)
    done = run([with_stand_in, *typed], variables(server, tmp_path))

    assert done.stdout == f"handed over:{''.join(f' <{word}>' for word in typed) or ' <>'}"


def test_completion_and_a_context_that_others_may_read_are_the_python_programs(
    server: RunningServer, with_stand_in: Path, tmp_path: Path
):
    environment = variables(server, tmp_path)
    assert run([with_stand_in, "list"], environment | {"_PILOTHOUSE_COMPLETE": "complete_bash"}).stdout[:6] == "handed"
    file = tmp_path / "contexts.json"
    file.write_text('{"current": "", "contexts": []}')
    file.chmod(0o644)
    assert run([with_stand_in, "list"], environment | {"PILOTHOUSE_CONTEXTS": str(file)}).stdout[:6] == "handed"
    file.chmod(0o600)
    assert run([with_stand_in, "list"], environment | {"PILOTHOUSE_CONTEXTS": str(file)}).stdout[:4] == "NAME"


def test_a_log_in_over_tls_is_used_with_its_project_and_its_authority(
    server: RunningServer, place: str, alone: Path, tmp_path: Path
):
    plain = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    logged_in = subprocess.run(
        [sys.executable, "-m", "pilothouse", "login", server.tls_url, "--ca", str(server.ca), "--user", "admin",
         "--project", "cn-north-4", "--password-stdin"],
        env=plain, input=f"{server.password}\n", capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert logged_in.returncode == 0, logged_in.stderr

    assert f"web-{place}" in run([alone, "list", "-n", place], plain).stdout
    refused = run([alone, "list", "-n", place], plain | {"PILOTHOUSE_TOKEN": "wrong"})
    assert refused.returncode == 1  # a variable counts before the context, and there is nobody to hand over to
    assert "pilothouse-python" in refused.stderr
    [stored] = json.loads((tmp_path / ".config" / "pilothouse" / "contexts.json").read_text())["contexts"]
    named = ["--context", stored["name"]]
    assert f"web-{place}" in run([alone, "list", "-n", place, *named], plain | {"PILOTHOUSE_TOKEN": "wrong"}).stdout


@pytest.mark.parametrize(("width", "begins"), [(200, "NAME"), (40, "handed over:")])
def test_a_terminal_that_is_too_narrow_is_the_python_programs(
    *, width: int, begins: str, server: RunningServer, place: str, with_stand_in: Path, tmp_path: Path
):
    with open_terminal(columns=width) as terminal:
        subprocess.run(
            [with_stand_in, "list", "-n", place],
            env=variables(server, tmp_path),
            stdout=terminal.device,
            check=True,
            timeout=60,
        )
        assert terminal.read_to_end().decode().startswith(begins)


def test_the_installed_command_hands_over_to_the_one_beside_it():
    installed = Path(sys.executable).with_name("pilothouse")
    assert installed.read_bytes()[:4] == b"\x7fELF"
    done = run([installed, "version"], {"PATH": "/nowhere"})
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "words", [["status", "long"], ["list"], ["list", "-o", "json"], ["status", "long", "-o", "json"]], ids=" ".join
)
def test_who_reads_only_the_head_of_much_gets_no_traceback(
    *,
    words: list[str],
    server: RunningServer,
    namespace: str,
    helm_cli: HelmCommand,
    tmp_path: Path,
):
    """The program is the installed one; there is more to print than a pipe holds, or nobody reads any more."""
    server.wait_until_listed(seconds=90)
    chart = tmp_path / "chart.tgz"
    templates = {"map.yaml": config_map_template(), "NOTES.txt": "a line of the notes\n" * 20_000}
    chart.write_bytes(build_chart("long", templates=templates, values={"text": "x"}))
    helm_cli("install", "long", str(chart), "-n", namespace)
    server.wait_until_shown(namespace, "long", seconds=90)
    program = [str(INSTALLED), *words, "-n", namespace, "--cluster", server.cluster_id]
    script = '"$@" | head -n 1; exit "${PIPESTATUS[0]}"'
    read = run(["bash", "-c", script, "bash", *program], variables(server, tmp_path))

    reading, writing = os.pipe()
    os.close(reading)
    gone = subprocess.run(
        program, env=variables(server, tmp_path), stdout=writing, stderr=subprocess.PIPE, check=False, timeout=60
    )
    os.close(writing)
    python = "json" in words  # to which those are handed over: it ends by itself, the small program by the signal
    assert (gone.returncode, gone.stderr) == (1 if python else -signal.SIGPIPE, b"")
    cut = (1 if python else 128 + signal.SIGPIPE) if words[0] == "status" else 0
    assert (read.returncode, read.stdout.count("\n"), read.stderr) == (cut, 1, "")
