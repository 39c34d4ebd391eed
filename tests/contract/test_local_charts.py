"""``pilothouse template``, ``lint`` and ``show`` beside helm's; folders that are packed, and uploaded once."""

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.servers import CompletedCommand, RunningServer

Helm = Callable[..., str]

VALUES = "replicaCount: 3\nimage:\n  tag: v7\n"


@pytest.fixture(scope="module")
def chart(helm_cli: Helm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the chart that ``helm create`` makes, with CRDs, a readme, and a file that .helmignore leaves out."""
    folder = tmp_path_factory.mktemp("charts") / "shop"
    helm_cli("create", str(folder))
    (folder / "crds").mkdir()
    (folder / "crds" / "widgets.yaml").write_text(
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: widgets}\n"
    )
    (folder / "README.md").write_text("# Shop\n")
    (folder / "notes.bak").write_text("not for everybody")
    (folder / "values.override.yaml").write_text(VALUES)
    return folder


@pytest.fixture(scope="module")
def uploaded(server: RunningServer, chart: Path) -> str:
    """Return the same chart on the server, uploaded as a folder."""
    done = server.command("chart", "upload", str(chart), "-o", "json")
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    return f"{row['name']}@{row['version']}"


def run(*arguments: str, folder: Path, stdin: str | None = None) -> CompletedCommand:
    """Return the command without a server, in ``folder``."""
    return subprocess.run(
        [sys.executable, "-m", "pilothouse", *arguments],
        env={"PATH": "/usr/bin:/bin", "HOME": "/nowhere", "COLUMNS": "200"},
        cwd=folder,
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    "flags",
    [
        "",
        "-n prod -f values.override.yaml",
        "--set image.tag=v8,replicaCount=2 --set-string podAnnotations.a=1 --set service.port=null",
        '-f values.override.yaml --set-json ingress={"enabled":true} --set-literal nameOverride=a,b',
        "--set-file podAnnotations.readme=README.md",
        "--include-crds --skip-tests",
        "--is-upgrade --no-hooks -s templates/deployment.yaml -s templates/serv*.yaml",
        "--kube-version 1.30 --api-versions example.com/v1,example.com/v2",
    ],
)
def test_template_prints_what_helm_prints(helm_cli: Helm, chart: Path, flags: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(chart)

    mine = run("template", "web", ".", *flags.split(), folder=chart)

    assert mine.returncode == 0, mine.stderr
    assert mine.stdout == helm_cli("template", "web", ".", *flags.split())


@pytest.mark.parametrize("part", ["all", "chart", "values", "readme", "crds"])
def test_show_prints_what_helm_prints(server: RunningServer, helm_cli: Helm, chart: Path, uploaded: str, part: str):
    theirs = helm_cli("show", part, str(chart))

    assert run("show", part, "shop", folder=chart.parent).stdout == theirs
    assert server.command("show", part, uploaded).stdout == theirs


def test_lint_finds_what_helm_finds(helm_cli: Helm, chart: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(chart.parent)

    assert run("lint", "shop", "--strict", folder=chart.parent).stdout == helm_cli("lint", "shop", "--strict")
    assert run("lint", folder=chart).stdout.startswith("==> Linting .\n")
    failed = run("lint", "shop", "--set", "replicaCount=7", "--set", "image=wrong", folder=chart.parent)

    with pytest.raises(subprocess.CalledProcessError) as theirs:
        helm_cli("lint", "shop", "--set", "replicaCount=7", "--set", "image=wrong")
    assert (failed.returncode, failed.stdout) == (1, theirs.value.stdout)
    assert "1 chart(s) linted, 1 chart(s) failed" in failed.stderr


def test_a_folder_is_packed_as_helm_packs_it(server: RunningServer, helm_cli: Helm, chart: Path, uploaded: str):
    helm_cli("package", str(chart), "-d", str(chart.parent))
    target = chart.parent / "fetched.tgz"
    assert server.command("chart", "download", uploaded, str(target)).returncode == 0

    def files(archive: Path) -> dict[str, bytes]:
        with tarfile.open(fileobj=io.BytesIO(archive.read_bytes())) as opened:
            return {one.name: read.read() for one in opened if (read := opened.extractfile(one)) is not None}

    mine = files(target)
    assert mine == files(chart.parent / "shop-0.1.0.tgz")
    assert "shop/notes.bak" not in mine


def test_the_same_content_has_one_digest_whatever_the_times_of_its_files(
    server: RunningServer, chart: Path, uploaded: str
):
    [before] = server.send("GET", "/api/v1/charts?name=shop").json()
    (chart / "values.yaml").touch()
    again = server.command("chart", "upload", str(chart), "--override", "-o", "json")

    assert again.returncode == 0, again.stderr
    [after] = server.send("GET", f"/api/v1/charts?name=shop&version=0.1.0&digest={before['digest']}").json()
    assert (after["id"], f"{after['name']}@{after['version']}") == (before["id"], uploaded)
    assert server.send("GET", "/api/v1/charts?digest=0000").json() == []


def test_values_come_from_standard_input(chart: Path):
    done = run("template", ".", "-f", "-", folder=chart, stdin=VALUES)

    assert "replicas: 3" in done.stdout
    assert 'image: "nginx:v7"' in done.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["template", "./nowhere"], 2, "./nowhere: there is no such file or folder"),
        (["template", "./shop/templates"], 2, "no Chart.yaml is in that folder"),
        (["template", "bitnami/nginx"], 3, "not logged in"),  # of a source that a server knows
        (["template", "one", "two", "shop"], 2, "there are 3 words: one two shop"),
        (["template", "web", "shop", "-g"], 2, "cannot set --generate-name"),
        (["template", "shop", "-f", "no.yaml"], 2, "--values: cannot read no.yaml: No such file or directory"),
        (["template", "shop", "-f", "https://x/y.yaml"], 2, "is a URL; fetch it first"),
        (["template", "shop", "--set-file", "a"], 2, "must be KEY=FILE"),
        (["template", "shop", "--set", "a[x]=1"], 2, "--set: "),
        (["template", "shop", "--set-json", "a=x"], 2, "--set-json: "),
        (
            ["template", "shop", "-f", "shop/README.md", "-f", "shop/templates/NOTES.txt"],
            2,
            "shop/templates/NOTES.txt: ",
        ),
        (["template", "--name-template", "{{", "shop"], 2, "name_template"),
        (["lint", "shop", "--set", "a"], 2, "--set: failed parsing --set data"),
        (["lint", "shop", "--kube-version", "x"], 2, "invalid kube version 'x'"),
        (["template", "shop", "--set", "service=x"], 1, "templates/"),
        (["template", "shop", "-s", "templates/no.yaml"], 1, "could not find template templates/no.yaml in chart"),
        (["template", "shop", "--kube-version", "x"], 2, "invalid kube version 'x'"),
        (["lint", "--strikt", "shop"], 2, "--strict"),
        (["show", "values", "shop.tgz"], 2, "there is no such file"),
        (["show", "values", "no-such"], 3, "not logged in"),
    ],
)
def test_what_is_wrong_is_said_on_standard_error(chart: Path, arguments: list[str], status: int, words: str):
    done = run(*arguments, folder=chart.parent)

    assert (done.returncode, done.stdout) == (status, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_invalid_yaml_is_shown_as_helm_shows_it(helm_cli: Helm, chart: Path, monkeypatch: pytest.MonkeyPatch):
    (chart / "templates" / "wrong.yaml").write_text("a: {{ .Release.Name }}\n  b: c\n")
    monkeypatch.chdir(chart)

    hinted = run("template", "web", ".", folder=chart)
    shown = run("template", "web", ".", "--debug", folder=chart)
    with pytest.raises(subprocess.CalledProcessError) as theirs:
        helm_cli("template", "web", ".", "--debug")

    assert (hinted.returncode, hinted.stdout) == (1, "")
    assert "Use --debug flag to render out invalid YAML" in hinted.stderr
    assert shown.returncode == 1
    # Helm prints them in the order of a map, another one each time, and ends only the last one by an empty line
    ours, helms = (sorted(map(str.strip, text.split("---\n"))) for text in (shown.stdout, str(theirs.value.stdout)))
    assert ours == helms
    assert "a: web\n  b: c\n" in shown.stdout
    assert "YAML parse error on shop/templates/wrong.yaml" in shown.stderr


def test_a_dependency_that_is_not_there_is_told_in_helms_words(tmp_path: Path):
    folder = tmp_path / "needy"
    folder.mkdir()
    (folder / "Chart.yaml").write_text(
        "apiVersion: v2\nname: needy\nversion: 1.0.0\ndependencies: [{name: db, version: 1.0.0, repository: file://../db}]\n"
    )

    done = run("template", "needy", folder=tmp_path)

    assert done.returncode == 1
    assert "found in Chart.yaml, but missing in charts/ directory: db" in done.stderr


def test_a_chart_that_the_server_does_not_have_is_told_with_those_it_has(server: RunningServer, uploaded: str):
    done = server.command("show", "values", "shop@9.9.9")

    assert done.returncode == 1
    assert uploaded in done.stderr
