"""``pilothouse source``, ``search``, ``pull`` and others with charts of sources, as a person types them."""

import hashlib
import json
import uuid
from pathlib import Path

import pytest

from pilothouse.chart_sources.registry import CHART, CONFIG, MANIFEST
from tests.support.chart_sources import USER, Reply, Request, repository
from tests.support.charts import build_chart, config_map_chart
from tests.support.offered_charts import KINDS, Offered, offered
from tests.support.releases import HelmCommand
from tests.support.servers import RunningServer
from tests.support.tenants import add_tenant
from tools.localcluster.cluster import RunningCluster

ARCHIVE = build_chart("webapp", "1.0.0", metadata={"description": "a web app", "appVersion": "7.0"})


def answers(request: Request) -> Reply:
    """Answer as a repository with one chart, and as a registry with the same one."""
    path = request.path.partition("?")[0]
    if path == "/index.yaml":
        entry = {"apiVersion": "v2", "name": "webapp", "version": "1.0.0", "urls": ["webapp.tgz"]}
        return Reply(json.dumps({"apiVersion": "v1", "entries": {"webapp": [entry]}}).encode())
    if "/manifests/" in path:
        layer = {"mediaType": CHART, "digest": f"sha256:{hashlib.sha256(ARCHIVE).hexdigest()}", "size": len(ARCHIVE)}
        document = {"mediaType": MANIFEST, "config": {"mediaType": CONFIG}, "layers": [layer]}
        return Reply(json.dumps(document).encode(), headers={"Content-Type": MANIFEST})
    if path == "/webapp.tgz" or "/blobs/" in path:
        return Reply(ARCHIVE)
    if path == "/v2/team/webapp/tags/list":
        return Reply(b'{"tags": ["1.0.0"]}')
    return Reply(b'{"repositories": ["team/webapp"]}')


def completed(server: RunningServer, chart: str) -> list[str]:
    line = f"pilothouse install web {chart}"
    words = {"_PILOTHOUSE_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": "3"}
    return server.command(variables=words).stdout.split()


def two_of_one_address(server: RunningServer, name: str, address: str, trusted: tuple[str, ...], folder: Path) -> None:
    other = f"{name}-too"
    made = server.command("source", "add", other, address, *trusted, folder=folder)
    told = f"{name}, {other} have one address: {address}/CHART names none of them; type {other}/CHART\n"
    assert (made.returncode, made.stderr) == (0, told)
    shown = server.command("show", "values", f"{address}/webapp:1.0.0")
    assert server.command("source", "remove", other).returncode == 0
    named = f"name one of {name}, {other}, as {name}/webapp"
    assert f"2 sources of this project have the address {address}: {named}" in shown.stderr


def named_by_an_address(server: RunningServer, name: str, address: str) -> None:
    assert json.loads(server.command("source", "show", address, "-o", "json").stdout)["name"] == name
    below = server.command("chart", "push", "web@1.0.0", f"{address}/webapp")
    assert f"charts of source {name} lie in {address}, each under its own name: name that" in below.stderr
    unknown = server.command("source", "show", "https://localhost:1/other")
    assert "no source of this project has the address https://localhost:1/other" in unknown.stderr


def test_an_added_source_tells_what_it_lacks(server: RunningServer, tmp_path: Path):
    name = f"source-{uuid.uuid4().hex[:10]}"

    def add(address: str, *options: str, given: str = "") -> str:
        words = ("source", "add", name, address, "--ca-file", "ca.pem", *options)
        return server.command(*words, folder=tmp_path, given=given).stderr

    with repository() as serving:
        (tmp_path / "ca.pem").write_text(serving.ca)
        serving.files["index.yaml"] = b"apiVersion: v1\nentries: {}\n"
        told = f"its index lists no chart yet; once it does, 'pilothouse source sync {name}' reads it again\n"
        assert add(serving.url) == told
        assert server.command("source", "sync", name).stderr == told
        assert server.command("source", "remove", name).returncode == 0
        serving.answers = lambda _: Reply(status=401)
        told = add(serving.url)
        assert "answered 401: it needs credentials, and has none; --username NAME asks for its password" in told
        told = add(serving.url, "--username", "ann", "--password-stdin", given="wrong\n")
        assert "answered 401: it refuses the credentials given for it; check --username, and the password" in told
        assert "PILOTHOUSE_SOURCES__ALLOW_HTTP=true" in add("localhost/charts")


def test_charts_of_a_repository_and_of_a_registry(server: RunningServer, tmp_path: Path):
    def run(*arguments: str) -> str:
        done = server.command(*arguments, folder=tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), (arguments, done)
        return done.stdout

    name = f"source-{uuid.uuid4().hex[:10]}"
    with repository() as serving:
        serving.answers = answers
        (tmp_path / "ca.pem").write_text(serving.ca)
        trusted = ("--ca-file", "ca.pem", "--sync-seconds", "0")
        made = json.loads(run("source", "add", name, serving.url, *trusted, "-o", "json"))
        assert (made["name"], made["kind"], made["problem"]) == (name, "http", "")
        try:
            assert name in [one["name"] for one in json.loads(run("source", "list", "-o", "json"))]
            before = len(serving.requests)
            synchronised = json.loads(run("source", "sync", name, "-o", "json"))
            assert len(serving.requests) == before + 1
            shown = json.loads(run("source", "show", name, "-o", "json"))
            assert {**synchronised, "authorities": shown["authorities"]} == shown
            found = json.loads(run("search", "WEB", "--source", name, "--versions", "-o", "json"))
            assert [(one["source"], one["name"], one["version"]) for one in found] == [(name, "webapp", "1.0.0")]
            assert completed(server, f"{name}/w") == [f"{name}/webapp"]
            for words in (f"{name}/webapp", f"{name[3:]}/WEB"):
                assert json.loads(run("search", words, "-l", "-o", "json")) == found
            assert json.loads(run("search", f"other-{name}/webapp", "-o", "json")) == []
            assert run("search", f"other-{name}/webapp") == "No results found\n"
            assert f"==> Linting {name}/webapp\n" in run("lint", f"{name}/webapp")
            assert run("pull", f"{name}/webapp", "--version", "^1", "-d", "pulled") == "pulled/webapp-1.0.0.tgz\n"
            assert (tmp_path / "pulled" / "webapp-1.0.0.tgz").read_bytes() == ARCHIVE
        finally:
            assert "was removed" in run("source", "remove", name)
            assert completed(server, f"{name}/w") == []
        gone = server.command("pull", f"{name}/webapp")
        assert (gone.returncode, f"source '{name}' does not exist" in gone.stderr) == (1, True)

        address = f"{serving.url.replace('https', 'oci')}/team"
        unknown = server.command("show", "values", f"{address}/webapp")
        assert f"no source of this project has the address {address}" in unknown.stderr
        run("source", "add", name, address, *trusted)
        try:
            assert run("show", "values", f"{address}/webapp@1.0.0") == run("show", "values", f"{name}/webapp:1.0.0")
            assert run("show", "values", f"{address}/webapp:1.0.0") == run("show", "values", f"{name}/webapp")
            (known,) = json.loads(run("search", "webapp", "--source", name, "-o", "json"))
            assert (known["description"], known["app_version"]) == ("a web app", "7.0")
            two_of_one_address(server, name, address, trusted, tmp_path)
            named_by_an_address(server, name, address)
            untrusted = server.command("source", "update", name, "--system-ca")
            assert "name a file with the authority that signed it by --ca-file" in untrusted.stderr
        finally:
            run("source", "remove", name)


def test_who_searches_where_there_is_no_source_is_told_how_to_add_one(server: RunningServer):
    done = add_tenant(server).command("search", "web")

    assert (done.returncode, done.stdout) == (0, "No results found\n")
    assert "'pilothouse source add NAME URL' adds one" in done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_the_life_of_a_release_from_each_kind_of_source(
    *,
    server: RunningServer,
    kind: str,
    namespace: str,
    helm_cli: HelmCommand,
    kubernetes: RunningCluster,
    tmp_path: Path,
):
    with offered(kind, tmp_path, helm=kubernetes.helm, helm_cli=helm_cli) as source:
        live(server, source, namespace, helm_cli, tmp_path)


def live(server: RunningServer, source: Offered, namespace: str, helm_cli: HelmCommand, folder: Path) -> None:
    """Install from the source, update to what it has newer, go back, and uninstall, by commands only."""

    def run(*arguments: str, given: str = "") -> str:
        done = server.command(*arguments, folder=folder, given=given)
        assert done.returncode == 0, (arguments, done)
        return done.stdout

    def shown(revision: int) -> None:
        server.wait_until_shown(namespace, "web", revision=revision)

    name, place = source.name, ("-n", namespace, "--cluster", server.cluster_id)
    (folder / "ca.pem").write_text(source.ca)
    source.offer(config_map_chart("webapp", "1.0.0", text="first"))
    user = ["--username", USER, "--password-stdin"] if source.password else []
    trusted = ("--ca-file", "ca.pem", "--sync-seconds", "0")
    run("source", "add", name, source.url, *trusted, *user, given=f"{source.password}\n")
    try:
        assert "webapp" in run("search", "webapp", "--source", name)
        run("install", "web", f"{name}/webapp", *place)
        assert "first" in helm_cli("get", "manifest", "web", "-n", namespace)
        source.offer(config_map_chart("webapp", "1.1.0", text="second"))
        source.offer(config_map_chart("webapp", "2.0.0-rc.1", text="third"))
        run("source", "sync", name)
        assert f"UPDATE AVAILABLE: 1.1.0, of source {name}\n" in run("status", "web", *place)
        chart = f"{source.url}/webapp" if source.url.startswith("oci://") else f"{name}/webapp"
        assert "second" in run("plan", "web", chart, *place)
        run("upgrade", "web", chart, "--version", "^1", *place)
        shown(2)
        assert "second" in helm_cli("get", "manifest", "web", "-n", namespace)
        assert "UPDATE AVAILABLE" not in run("status", "web", *place)
        run("rollback", "web", "1", *place)
        shown(3)
        assert "first" in helm_cli("get", "manifest", "web", "-n", namespace)
        assert f"UPDATE AVAILABLE: 1.1.0, of source {name}\n" in run("status", "web", *place)
        run("uninstall", "web", *place)
        assert "web" not in helm_cli("list", "-q", "-n", namespace).split()
    finally:
        run("source", "remove", name)
