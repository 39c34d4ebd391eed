"""``pilothouse upgrade --install`` of a folder by the small program, which a person types: as the Python one does it.

Without the Python program beside it, it can hand nothing over, so that what it prints there is its own.
"""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.charts import config_map_template
from tests.support.servers import RunningServer
from tests.support.workloads import hook_template

PACKAGE = Path(__file__).parents[2] / "src"
PROGRAM = PACKAGE / "pilothouse" / "engine" / "bin" / "pilothouse"
VALUES = "# é <&> 你\ntext: |\n  \"quoted\" \\ 'x'\n\ttab\nother: {a: 1}\n".replace("\n\ttab", "\n  a\ttab")
HANDED = "#!/bin/sh\necho handed over ${_PILOTHOUSE_SENT_KEY:+a write that was sent} >&2\n"
SENT = "handed over a write that was sent\n"
INSTALLING = 'Release "NAME" does not exist. Installing it now.\n'
FAILING = f"{{{{- if .Values.fails }}}}\n{hook_template('pre-upgrade', fate='fail')}{{{{- end }}}}\n"
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    """Return a folder with a chart that another test has not."""
    folder = tmp_path / "chart"
    (folder / "templates").mkdir(parents=True)
    (folder / "Chart.yaml").write_text(
        f"apiVersion: v2\nname: front\nversion: 1.0.0+{tmp_path.name.replace('_', '-')}\n"
    )
    (folder / "values.yaml").write_text("text: x\n")
    (folder / ".helmignore").write_text("ignored\n")
    (folder / "ignored").write_text("never uploaded")
    (folder / "templates" / "map.yaml").write_text(config_map_template())
    (folder / "templates" / "hook.yaml").write_text(FAILING)
    (folder / "templates" / "NOTES.txt").write_text("{{ .Values.text }}{{ if .Values.accent }} é{{ end }}\n")
    return folder


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    """Return the program in an installation of its own, without the Python program."""
    (tmp_path / "bin").mkdir()
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    packages.mkdir(parents=True)
    (packages / "_editable_impl_pilothouse.pth").write_text(f"{PACKAGE}\n")
    return Path(shutil.copy(PROGRAM, tmp_path / "bin" / "pilothouse"))


@pytest.fixture
def both(alone: Path) -> Path:
    """Return the program beside the Python program, which tells that it was run."""
    python = alone.with_name("pilothouse-python")
    python.write_text(f'{HANDED}exec {shlex.quote(sys.executable)} -m pilothouse "$@"\n')
    python.chmod(0o755)
    return alone


@pytest.fixture
def namespace(server: RunningServer, make_namespace: Callable[[], str]) -> str:
    assert server.cluster_id
    return make_namespace()


@pytest.fixture
def run(server: RunningServer, chart: Path, namespace: str, tmp_path: Path) -> Run:
    """Run a program in the folder above the chart's; what it leaves in its temporary folder is a fault."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()

    def typed(*words: str | Path, text: str = "") -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            words, env=variables(server, namespace, temporary), cwd=chart.parent, input=text,
            capture_output=True, text=True, check=False, timeout=90,
        )  # fmt: skip
        assert list(temporary.iterdir()) == []
        return done

    return typed


def variables(server: RunningServer, namespace: str, temporary: Path, *, url: str = "") -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(temporary.parent),
        "TMPDIR": str(temporary),
        "PILOTHOUSE_URL": url or server.url,
        "PILOTHOUSE_CLUSTER": server.cluster_id,
        "PILOTHOUSE_NAMESPACE": namespace,
        "CLOUD_SDK_AK": server.access_key,
        "CLOUD_SDK_SK": server.secret_key,
    }


def python(*words: str) -> list[str]:
    return [sys.executable, "-m", "pilothouse", *words]


def same(text: str, name: str) -> str:
    """Return what was printed without what two releases differ in."""
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", text.replace(name, "NAME"))
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:]+Z", "TIME", text)


def values(run: Run, name: str) -> object:
    return json.loads(run(*python("get", "values", name, "-o", "json")).stdout)


def revisions(run: Run, name: str) -> int:
    return len(json.loads(run(*python("history", name, "-o", "json")).stdout))


ANSWERED = [
    ["--wait=none"],
    ["-i", "--set", "text=y,n=1", "--set", "n=2"],
    ["-f", "values.yaml", "--values=more.yaml,values.yaml", "--set-string", "n=1", "--set-json", 'j={"a":[1]}'],
    ["--set-literal", "text=a,b=<c>", "--create-namespace", "--output", "table"],
    ["--reset-values", "--set", "a=1"],
    ["--reuse-values", "--set", "a.b=1"],
    ["--reset-then-reuse-values", "--set=b=1"],
]


@pytest.mark.parametrize("words", ANSWERED, ids=" ".join)
def test_it_installs_and_upgrades_as_the_python_program(
    *, words: list[str], run: Run, both: Path, chart: Path, tmp_path: Path
):
    (tmp_path / "values.yaml").write_text(VALUES)
    (tmp_path / "more.yaml").write_text("n: 5\ntext: more\n")
    for text in ("installed", "upgraded"):  # the chart is another one each time, so that it is uploaded
        (chart / "values.yaml").write_text(f"text: {text}\n")
        own = run(both, "upgrade", "own", "./chart", "--install", *words)
        other = run(*python("upgrade", "other", "./chart", "--install", *words))
        assert (same(own.stdout, "own"), own.returncode) == (same(other.stdout, "other"), 0), own.stderr
        own_told, other_told = own.stderr.replace("own", "NAME"), other.stderr.replace("other", "NAME")
        # if it takes longer than a second, it is handed over, and followed
        assert own_told == other_told or own_told.removeprefix(INSTALLING).startswith(SENT), own_told
        assert own_told.startswith(INSTALLING) == (text == "installed")
        assert ("has been upgraded" in own.stdout) == (text == "upgraded")
        assert values(run, "own") == values(run, "other")


def test_what_it_has_sent_is_not_sent_twice_by_the_python_program(*, run: Run, both: Path, chart: Path, tmp_path: Path):
    (tmp_path / "values.yaml").write_text(VALUES)
    assert run(both, "upgrade", "web", str(chart), "--install").returncode == 0
    words = ["-f", "values.yaml", "--set", "accent=yes", "--set-literal", "c=\x01\x08\x1f</b>"]
    done = run(both, "upgrade", "web", str(chart), "--install", *words)

    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(SENT)
    assert done.stdout.endswith(" é\n")
    assert revisions(run, "web") == 2


def test_a_failure_is_told_by_the_python_program_and_happens_once(*, run: Run, both: Path, chart: Path):
    assert run(both, "upgrade", "web", str(chart), "--install").returncode == 0
    failed = run(both, "upgrade", "web", str(chart), "--install", "--set", "fails=true")

    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.startswith(SENT)
    assert "pilothouse: upgrade of web failed" in failed.stderr
    assert revisions(run, "web") == 2


@pytest.mark.parametrize("words", [["--set", "text"], ["-f", "broken.yaml"]], ids=" ".join)
def test_values_that_cannot_be_read_are_wrong_arguments_of_both(
    *, words: list[str], run: Run, both: Path, chart: Path, tmp_path: Path
):
    (tmp_path / "broken.yaml").write_text("a: 1\n b: 2\n")
    own = run(both, "upgrade", "web", str(chart), "--install", *words)
    other = run(*python("upgrade", "web", str(chart), "--install", *words))

    assert (own.returncode, own.stdout) == (other.returncode, other.stdout) == (2, "")
    assert own.stderr.removeprefix(SENT).lstrip("\n") == other.stderr


HANDED_OVER = [
    ["web", "./chart"],
    ["web", "./chart", "--install", "--wait"],
    ["web", "./chart", "--install", "--dry-run"],
    ["web", "./chart", "--install", "--timeout", "1m"],
    ["web", "./chart", "--install", "-o", "json"],
    ["web", "./chart", "--install", "-f", "-"],
    ["web", "./chart", "--install", "-f", "there-is-none.yaml"],
    ["web", "./chart", "--install", "-f", "latin.yaml"],
    ["web", "./chart", "--install", "-f", "lines.yaml"],
    ["web", "./chart", "--install", "--set", "a=\u2028"],
    ["web", "./chart", "--install", "--set"],
    ["web", "./empty", "--install"],
    ["web", "./broken", "--install"],
    ["web", "nginx", "--install"],
    ["web", "--install"],
    ["w\u00e9b", "./chart", "--install"],
    ["web", "./chart", "--install", "--cluster", "there-is-none"],
]


@pytest.mark.parametrize("words", HANDED_OVER, ids=" ".join)
def test_what_is_not_ordinary_is_the_python_programs(*, words: list[str], run: Run, alone: Path, tmp_path: Path):
    (tmp_path / "latin.yaml").write_bytes(b"text: \xe9\n")
    (tmp_path / "lines.yaml").write_bytes(b"text: a\r\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "Chart.yaml").write_text("name: [")
    stand_in = alone.with_name("pilothouse-python")
    stand_in.write_text('#!/bin/sh\nprintf \'<%s>\' "$_PILOTHOUSE_SENT_KEY" "$@"\n')
    stand_in.chmod(0o755)

    key, *told = re.findall("<(.*?)>", run(alone, "upgrade", *words).stdout, re.DOTALL)

    assert told == ["upgrade", *words]
    assert bool(key) == (words[-1] == "there-is-none")  # the rest is handed over before anything is sent


@pytest.mark.parametrize("words", [["./chart"], ["nginx"]], ids=" ".join)
def test_values_that_come_through_a_pipe_are_left_to_the_python_program(*, words: list[str], run: Run, alone: Path):
    stand_in = alone.with_name("pilothouse-python")
    stand_in.write_text("#!/bin/sh\ncat\n")
    stand_in.chmod(0o755)
    told = run(alone, "upgrade", "--install", "web", *words, "-f", "/dev/stdin", text="replicas: 3\n").stdout
    assert told == "replicas: 3\n"


@pytest.fixture
def silent(server: RunningServer) -> Iterator[tuple[str, threading.Event]]:
    """Return the URL of a way to the server that answers no write, and an event: one has come."""
    arrived = threading.Event()
    listening = socket.create_server(("127.0.0.1", 0))
    address = server.url.removeprefix("http://").split(":")

    def serve(person: socket.socket) -> None:
        with person, socket.create_connection((address[0], int(address[1]))) as way:
            threading.Thread(target=copy, args=(way, person), daemon=True).start()
            while data := person.recv(1 << 20):
                if data.startswith(b"PUT "):
                    arrived.set()
                else:
                    way.sendall(data)

    def copy(way: socket.socket, person: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := way.recv(1 << 20):
                person.sendall(data)

    def accept() -> None:
        while True:
            try:
                person, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(person,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}", arrived
    listening.close()


def test_ctrl_c_while_nobody_answers_is_told_by_the_python_program(
    *, server: RunningServer, silent: tuple[str, threading.Event], namespace: str, both: Path, chart: Path
):
    url, arrived = silent
    temporary = chart.parent / "temporary"
    temporary.mkdir()
    process = subprocess.Popen(
        ["env", "--default-signal=INT", both, "upgrade", "web", str(chart), "--install"],
        env=variables(server, namespace, temporary, url=url),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert arrived.wait(30)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert err.startswith(f"{SENT}interrupted before the server answered: it may have begun; ")
    assert list(temporary.iterdir()) == []
