"""HTTP repositories as chart sources: added, synchronised, searched, installed from; helm makes and judges them."""

import base64
import hashlib
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest

from pilothouse.chart_sources.registry import CHART, CONFIG, MANIFEST
from tests.support.chart_sources import Reply, Repository, Request, added, repository
from tests.support.charts import config_map_chart
from tests.support.own_releases import OwnRelease
from tests.support.releases import HelmCommand
from tests.support.servers import RunningServer
from tests.support.tenants import add_tenant
from tests.support.wire import assert_error

INVALID, FAILED, MISSING, BUSY = (
    (400, "CCE.01400001"),
    (502, "CCE.01502001"),
    (404, "CCE.01404001"),
    (429, "APIGW.0308"),
)
PASSWORD = "the-password-of-the-source"


def body(of: Repository, **changes: Any) -> dict[str, Any]:
    name = f"source-{uuid.uuid4().hex[:10]}"
    return {"name": name, "kind": "http", "url": of.url, "ca": of.ca, "sync_seconds": 0, **changes}


def index(*entries: dict[str, Any], **top: Any) -> bytes:
    charts: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        charts.setdefault(entry["name"], []).append({"apiVersion": "v2", "urls": ["x.tgz"], **entry})
    return orjson.dumps({"apiVersion": "v1", "entries": charts, **top})


def add(server: RunningServer, given: dict[str, Any]) -> Any:
    return server.send("POST", "/api/v1/sources", json_body=given)


@pytest.fixture
def repo() -> Iterator[Repository]:
    with repository() as serving:
        yield serving


@pytest.fixture
def release(server: RunningServer, namespace: str, helm_cli: HelmCommand) -> OwnRelease:
    return OwnRelease(server, namespace, "sourced", helm_cli)


def deployed(release: OwnRelease, **chart: str) -> dict[str, Any]:
    return release.ended(release.send("PUT", "", {"chart": chart}))


@pytest.fixture
def packed(repo: Repository, tmp_path: Path, helm_cli: HelmCommand) -> Repository:
    """Return a repository as ``helm repo index`` makes one, with four versions of a chart and one of another."""
    for version in ("1.0.0", "1.2.0", "2.0.0-rc.1", "1.10.0"):
        (tmp_path / f"webapp-{version}.tgz").write_bytes(config_map_chart("webapp", version, text=version))
    (tmp_path / "tools-0.1.0.tgz").write_bytes(config_map_chart("tools", "0.1.0"))
    helm_cli("repo", "index", str(tmp_path))
    repo.files = {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()}
    return repo


def test_a_repository_of_helm_is_searched_shown_and_installed_from(
    server: RunningServer, packed: Repository, release: OwnRelease
):
    with added(server, body(packed)) as source:
        path = f"/api/v1/sources/{source}"
        found = server.send("GET", f"{path}/charts?q=WEB").json()
        assert [(one["name"], one["version"], one["prerelease"]) for one in found] == [("webapp", "1.10.0", False)]
        assert [one["name"] for one in server.send("GET", f"{path}/charts").json()] == ["tools", "webapp"]
        assert [one["version"] for one in server.send("GET", f"{path}/charts?q=webapp&devel=true").json()] == [
            "2.0.0-rc.1"
        ]
        versions = server.send("GET", f"{path}/charts/webapp").json()
        assert [one["version"] for one in versions] == ["2.0.0-rc.1", "1.10.0", "1.2.0", "1.0.0"]
        archive = packed.files["webapp-1.2.0.tgz"]
        digest = hashlib.sha256(archive).hexdigest()
        assert versions[2]["digest"] == digest
        assert not versions[2]["pulled"]
        pages, marker = [], ""
        while True:
            answer = server.send("GET", f"{path}/charts/webapp?{urlencode({'limit': 2, 'marker': marker})}")
            pages.append(answer.json())
            if not (marker := answer.headers.get("x-pilothouse-marker", "")):
                break
        assert [len(one) for one in pages] == [2, 2]
        assert [one for part in pages for one in part] == versions

        answer = server.send("GET", f"{path}/charts/webapp/1.2.0")
        assert answer.status_code == 200, answer.text
        shown = answer.json()
        assert '"text": "1.2.0"' in shown["values"]
        assert shown["pulled"]
        before = len(packed.requests)
        operation = deployed(release, source=source, name="webapp", version="~1.2")
        assert (operation["chart"], operation["chart_digest"]) == ("webapp-1.2.0", digest)
        assert len(packed.requests) == before, "what was pulled is not fetched again"

        assert deployed(release, source=source, name="webapp")["chart"] == "webapp-1.10.0"
        assert "1.10.0" in release.manifest()


def test_an_unchanged_index_costs_one_request_and_nothing_of_a_changed_one_is_lost(
    server: RunningServer, packed: Repository
):
    with added(server, body(packed)) as source:
        path = f"/api/v1/sources/{source}"
        assert packed.paths == ["/index.yaml"]
        assert server.send("POST", f"{path}/sync").status_code == 200
        assert packed.paths == ["/index.yaml"] * 2
        assert "if-none-match" in packed.requests[1].headers
        pulled = server.send("GET", f"{path}/charts/webapp/1.0.0").json()
        packed.files["index.yaml"] = index({"name": "webapp", "version": "3.0.0"})
        assert server.send("POST", f"{path}/sync").status_code == 200
        left = server.send("GET", f"{path}/charts/webapp").json()
        assert [(one["version"], one["gone"]) for one in left] == [("3.0.0", False), ("1.0.0", True)]
        packed.files.clear()
        again = server.send("GET", f"{path}/charts/webapp/1.0.0").json()
        assert again["chart_id"] == pulled["chart_id"], "what was pulled stays usable"
        assert_error(server.send("POST", f"{path}/sync"), *INVALID)
        shown = server.send("GET", path).json()
        assert "index.yaml answered 404" in shown["problem"]
        wrong, meant = shown["name"][:-1], f"did you mean {shown['name']}?"
        for below in ("", "/charts", "/charts/webapp"):
            assert_error(server.send("GET", f"/api/v1/sources/{wrong}{below}"), *MISSING, meant)
        assert [one["version"] for one in server.send("GET", f"{path}/charts/webapp").json()] == ["3.0.0", "1.0.0"]


def test_a_source_that_is_synchronised_by_itself(server: RunningServer, packed: Repository):
    with added(server, body(packed, sync_seconds=60)) as source:
        assert server.send("GET", f"/api/v1/sources/{source}").json()["sync_seconds"] == 60
    assert_error(add(server, body(packed, sync_seconds=5)), *INVALID)


#: What a repository answers for the index, and what is said of it.
BAD = {
    "a page": (Reply(b"<!doctype html><html>Log in"), INVALID, "but HTML or XML, such as a page to log in"),
    "a text": (Reply(b"Log in, please"), INVALID, "the whole document is a JSON or YAML string"),
    "other entries": (Reply(b"apiVersion: v1\nentries: [1]\n"), INVALID, "entries is a JSON or YAML array"),
    "nothing": (Reply(b""), INVALID, "cannot be read as the index of a repository: it is empty"),
    "blanks": (Reply(b" \n\n"), INVALID, "cannot be read as the index of a repository: it is empty"),
    "another document": (Reply(b"entries: {}\n"), INVALID, "no API version is specified"),
    "a syntax error": (Reply(b"a: [b\n  : :::{\n"), INVALID, "yaml: line 1: did not find"),
    "no YAML": (Reply(b"apiVersion: v1\nentries: [\n"), INVALID, "cannot be read as the index"),
    "missing": (Reply(status=404), INVALID, "answered 404: the index of a chart repository is not there"),
    "log-in": (
        Reply(status=401),
        INVALID,
        "answered 401: it refuses the credentials given for it; check the user name and the password",
    ),
    "failing": (Reply(status=503), FAILED, "answered 503"),
    "busy": (Reply(status=429, headers={"Retry-After": "17"}), BUSY, "retry in 17 s"),
    "endless": (Reply(b"#" * 65536, endless=True), INVALID, "answers with more than 67108864 bytes, the limit"),
    "compressed": (Reply(b"x", headers={"Content-Encoding": "gzip"}), INVALID, "compresses its answer"),
    "to http": (
        Reply(status=302, headers={"Location": "http://localhost/index.yaml?sig=secret-signature"}),
        INVALID,
        "redirects to http://localhost/index.yaml, which is not encrypted",
    ),
    "to metadata": (
        Reply(status=302, headers={"Location": "https://169.254.169.254/latest/meta-data"}),
        INVALID,
        "169.254.169.254 is link-local or a metadata service",
    ),
    "to a file": (Reply(status=302, headers={"Location": "file:///etc/passwd"}), INVALID, "is not an https:// URL"),
    "to no URL": (Reply(status=302, headers={"Location": "https://["}), INVALID, "'https://[', which is not a URL"),
    "busy for ages": (Reply(status=429, headers={"Retry-After": "9" * 5000}), BUSY, "retry in 3600 s"),
    "in a circle": (Reply(status=302, headers={"Location": "/index.yaml"}), INVALID, "redirects more than 5 times"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_a_bad_repository_answers_is_told_and_not_quoted(server: RunningServer, repo: Repository, name: str):
    reply, status, text = BAD[name]
    repo.answers = lambda _request: reply
    given = body(repo, credentials={"username": "reader", "password": PASSWORD})
    answer = add(server, given)
    assert_error(answer, *status)
    assert text in answer.text
    assert PASSWORD not in answer.text
    assert "secret-signature" not in answer.text
    assert (answer.headers.get("Retry-After") == "17") == (name == "busy")
    assert given["name"] not in [one["name"] for one in server.send("GET", "/api/v1/sources").json()]


def test_credentials_go_to_the_source_s_own_host_only(server: RunningServer, packed: Repository):
    archive = packed.files["webapp-1.0.0.tgz"]
    with repository() as other:
        other.files["elsewhere.tgz"] = archive

        def answers(request: Request) -> Reply:
            if request.path == "/index.yaml":
                return Reply(index({"name": "webapp", "version": "1.0.0", "urls": ["moved.tgz?sig=secret-signature"]}))
            return Reply(status=307, headers={"Location": f"{other.url}/elsewhere.tgz"})

        packed.answers = answers
        given = body(packed, credentials={"username": "reader", "password": PASSWORD})
        with added(server, given) as source:
            found = server.send("GET", f"/api/v1/sources/{source}/charts/webapp/1.0.0")
            assert found.status_code == 200, found.text
            wanted = "Basic " + base64.b64encode(f"reader:{PASSWORD}".encode()).decode()
            assert {request.headers.get("authorization") for request in packed.requests} == {wanted}
            assert [request.headers.get("authorization") for request in other.requests] == [None]
            shown = server.send("GET", f"/api/v1/sources/{source}")
            assert shown.json()["username"] == "reader"
            assert PASSWORD not in shown.text + found.text
    assert PASSWORD not in (server.data_dir.parent / "serve.log").read_text()


def test_an_archive_that_is_not_the_listed_one_is_refused(server: RunningServer, repo: Repository):
    other = config_map_chart("other", "1.0.0")
    repo.files = {
        "index.yaml": index(
            {"name": "webapp", "version": "1.0.0", "digest": "0" * 64, "urls": ["other.tgz"]},
            {"name": "webapp", "version": "2.0.0", "urls": ["other.tgz"]},
            {"name": "webapp", "version": "3.0.0", "urls": ["page.tgz"]},
            {"name": "webapp", "version": "4.0.0", "urls": ["missing.tgz"]},
            {"name": "webapp", "version": "5.0.0", "urls": ["ftp://localhost/a.tgz"]},
            {"name": "webapp", "version": "6.0.0", "urls": ["https://["]},
        ),
        "other.tgz": other,
        "page.tgz": b"<html>",
    }
    with added(server, body(repo)) as source:
        for version, text in {
            "1.0.0": f"its digest is {hashlib.sha256(other).hexdigest()}, not {'0' * 64}",
            "2.0.0": "gives chart other 1.0.0 for webapp 2.0.0",
            "3.0.0": "not a gzip file",
            "4.0.0": "answered 404: the archive that the index names is not there",
            "5.0.0": "is not an https:// URL",
            "6.0.0": "'https://[', which is not a URL",
        }.items():
            answer = server.send("GET", f"/api/v1/sources/{source}/charts/webapp/{version}")
            assert_error(answer, *INVALID)
            assert text in answer.text
        assert not any(one["pulled"] for one in server.send("GET", f"/api/v1/sources/{source}/charts/webapp").json())


@pytest.mark.parametrize("of", ["archive", "manifest", "neither"])
def test_the_digest_that_an_index_says_counts_for_what_lies_in_a_registry(
    server: RunningServer, repo: Repository, of: str
):
    archive = config_map_chart("webapp", "1.0.0")
    digest = hashlib.sha256(archive).hexdigest()
    layers = [{"mediaType": CHART, "digest": f"sha256:{digest}", "size": len(archive)}]
    manifest = orjson.dumps({"mediaType": MANIFEST, "config": {"mediaType": CONFIG}, "layers": layers})
    listed = {"archive": digest, "manifest": f"sha256:{hashlib.sha256(manifest).hexdigest()}", "neither": "0" * 64}[of]
    url = f"{repo.url.replace('https', 'oci')}/team/webapp:1.0.0"

    def answers(request: Request) -> Reply:
        if request.path == "/index.yaml":
            return Reply(index({"name": "webapp", "version": "1.0.0", "digest": listed, "urls": [url]}))
        return Reply(manifest if "/manifests/" in request.path else archive, headers={"Content-Type": MANIFEST})

    repo.answers = answers
    with added(server, body(repo)) as source:
        path = f"/api/v1/sources/{source}/charts/webapp/1.0.0"
        found = server.send("GET", path)
        if of == "neither":
            assert_error(found, *INVALID)
            assert "the registry does not have the chart that the index names" in found.text
            assert not any("/blobs/" in asked for asked in repo.paths), repo.paths
            return
        assert found.status_code == 200, found.text
        asked = len(repo.requests)
        assert server.send("GET", path).json() == found.json()
        assert len(repo.requests) == asked, "what was pulled and compared is not fetched again"
        assert found.json()["digest"] == digest


def test_a_reference_that_nothing_fits(server: RunningServer, packed: Repository, release: OwnRelease):
    with added(server, body(packed)) as source:
        for chart, status, text in [
            ({"source": "nobody", "name": "webapp"}, MISSING, "source 'nobody' does not exist"),
            ({"source": source, "name": "nginx"}, MISSING, "has no chart 'nginx'; it was synchronised at"),
            (
                {"source": source, "name": "webapp", "version": "^7"},
                MISSING,
                "no version of chart 'webapp' that fits '^7'",
            ),
            ({"source": source, "name": "webapp", "version": "what?"}, INVALID, "'what?' is no version and no range"),
            ({"source": source}, INVALID, "chart: must have either id, or source and name"),
            (
                {"source": source, "name": "webapp", "id": "x"},
                INVALID,
                "chart: must have either id, or source and name",
            ),
            ({"source": source, "name": "webapp", "digest": "0" * 64}, (409, "CCE.01409004"), "now has the archive"),
            (
                {"source": source, "name": "webapp", "digest": "0" * 64},
                (409, "CCE.01409004"),
                "what its source has now, or send",
            ),
        ]:
            answer = release.send("PUT", "", {"chart": chart})
            assert_error(answer, *status)
            assert text in answer.text, answer.text


def test_the_first_of_two_entries_of_a_version_counts_and_what_is_taken_back_is_not_chosen(
    server: RunningServer, repo: Repository, release: OwnRelease
):
    def entry(version: str, file: str) -> dict[str, Any]:
        return {"name": "webapp", "version": version, "urls": [file]}

    def offer(*entries: dict[str, Any]) -> None:
        repo.files["index.yaml"] = index(*entries)
        assert server.send("POST", f"/api/v1/sources/{source}/sync").status_code == 200

    first, other = config_map_chart("webapp", "1.0.0", text="first"), config_map_chart("webapp", "1.0.0", text="other")
    twice = [entry("1.0.0", "first.tgz"), entry("1.0.0", "other.tgz"), entry("1.1.0", "first.tgz")]
    repo.files = {"first.tgz": first, "other.tgz": other, "index.yaml": index(*twice)}
    with added(server, body(repo)) as source:
        listed = server.send("GET", f"/api/v1/sources/{source}/charts/webapp").json()
        assert [one["version"] for one in listed] == ["1.1.0", "1.0.0"]
        pulled = deployed(release, source=source, name="webapp", version="1.0.0")
        assert pulled["chart_digest"] == hashlib.sha256(first).hexdigest()
        offer(entry("2.0.0", "first.tgz"))
        for version in ("1.1.0", "^1"):
            answer = release.send("PUT", "", {"chart": {"source": source, "name": "webapp", "version": version}})
            assert_error(answer, *MISSING)
            assert f"has no version of chart 'webapp' that fits '{version}'; it has 2.0.0" in answer.text
        assert (
            deployed(release, source=source, name="webapp", version="1.0.0")["chart_digest"] == pulled["chart_digest"]
        )


def test_what_may_not_be_a_source(server: RunningServer, repo: Repository):
    repo.files["index.yaml"] = index()
    for changes, text in [
        ({"name": "A b"}, "name: 'A b' is not the name of a source"),
        ({"url": f"https://reader:{PASSWORD}@localhost/"}, "url: it may hold no credentials"),
        ({"url": f"{repo.url}/a/../b"}, "url: its path may have no part '.' or '..'"),
        ({"url": f"{repo.url}/a/%2e%2E"}, "url: its path may have no part '.' or '..'"),
        ({"url": "ftp://localhost/"}, "begins with https://"),
        ({"url": "oci://localhost/"}, "begins with https://"),
        ({"url": f"{repo.url}/?a=b"}, "neither a query nor a fragment"),
        ({"url": "http://localhost:1/"}, "PILOTHOUSE_SOURCES__ALLOW_HTTP=true allows that"),
        ({"url": "https://169.254.169.254/"}, "link-local or a metadata service, not a registry or repository"),
        (
            {"url": f"{repo.url}/a/index.yaml"},
            f"url: leave index.yaml out; the address of a repository is that of its folder: {repo.url}/a",
        ),
        ({"ca": "no certificate"}, "ca: it holds no certificate in PEM form"),
        ({"ca": "é"}, "ca: it holds no certificate in PEM form"),
        ({"kind": "git"}, "kind: must be 'oci' or 'http'"),
    ]:
        answer = add(server, body(repo, **changes))
        assert_error(answer, *INVALID)
        assert text in answer.text, answer.text
        assert PASSWORD not in answer.text
    answer = add(server, body(repo, ca=""))
    assert_error(answer, *INVALID)
    assert "its certificate is not trusted" in answer.text
    given = body(repo)
    with added(server, given):
        assert_error(add(server, given), 409, "CCE.01409001")


@pytest.mark.parametrize("created", ["0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"])
def test_a_time_that_the_database_does_not_take_is_left_out(server: RunningServer, repo: Repository, created: str):
    repo.files["index.yaml"] = index({"name": "webapp", "version": "1.0.0", "created": created})
    with added(server, body(repo)) as source:
        (version,) = server.send("GET", f"/api/v1/sources/{source}/charts/webapp").json()
    assert version["released_at"] is None


def test_where_nothing_answers_on_loopback_the_cause_is_told_if_the_operator_allows_loopback(
    server: RunningServer, repo: Repository
):
    repo.files["index.yaml"] = index()
    began = time.monotonic()
    answer = add(server, body(repo, url="https://localhost:9"))
    assert_error(answer, *FAILED)
    assert "https://localhost:9/index.yaml cannot be reached: Connection refused" in answer.text
    assert time.monotonic() - began < 4.5


def test_sources_are_a_project_s_own(server: RunningServer, packed: Repository):
    given = body(packed)
    with added(server, given) as source:
        other = add_tenant(server)
        assert other.send("GET", "/api/v1/sources").json() == []
        assert other.send("GET", "/api/v1/sources/-/charts").json() == []
        for named in (source, given["name"]):
            assert_error(other.send("GET", f"/api/v1/sources/{named}/charts/webapp"), *MISSING)
            assert_error(other.send("DELETE", f"/api/v1/sources/{named}"), *MISSING)
        assert "webapp" in [one["name"] for one in server.send("GET", "/api/v1/sources/-/charts?q=webapp").json()]


def test_a_pulled_chart_is_none_of_the_uploaded_ones(server: RunningServer, packed: Repository):
    with added(server, body(packed)) as source:
        shown = server.send("GET", f"/api/v1/sources/{source}/charts/tools/0.1.0").json()
        chart = shown["chart_id"]
        assert chart not in server.send("GET", "/v2/charts").text
        assert chart not in server.send("GET", "/api/v1/charts").text
        assert_error(server.send("DELETE", f"/v2/charts/{chart}"), *INVALID)
        archive = server.send("GET", f"/v2/charts/{chart}/archive").content
        assert archive == packed.files["tools-0.1.0.tgz"]
        uploaded = server.upload(packed.files["tools-0.1.0.tgz"])
        assert uploaded.status_code == 201, uploaded.text
        assert server.send("DELETE", f"/v2/charts/{uploaded.json()['id']}").status_code == 200
    assert_error(server.send("GET", f"/v2/charts/{chart}"), *MISSING)
