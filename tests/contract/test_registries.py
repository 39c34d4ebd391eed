"""OCI registries as chart sources: real ones, to which helm pushes, and one that answers as it is told."""

import hashlib
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pilothouse.chart_sources.registry import CHART, CONFIG, MANIFEST
from tests.support.chart_sources import USER, Registry, Reply, Repository, Request, added, registry, repository
from tests.support.charts import config_map_chart
from tests.support.own_releases import OwnRelease
from tests.support.releases import HelmCommand
from tests.support.servers import RunningServer
from tests.support.wire import assert_error
from tools.localcluster.cluster import RunningCluster

INVALID, FAILED, MISSING, BUSY = (
    (400, "CCE.01400001"),
    (502, "CCE.01502001"),
    (404, "CCE.01404001"),
    (429, "APIGW.0308"),
)
ARCHIVES = {
    version: config_map_chart("webapp", version, text=version) for version in ("1.0.0", "1.2.0+build.7", "1.3.0-rc.1")
}


def named() -> str:
    return f"registry-{uuid.uuid4().hex[:10]}"


@pytest.fixture(scope="module", params=["debian", "distribution", "token"])
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, kubernetes: RunningCluster
) -> Iterator[Registry]:
    """Yield a registry to which helm has pushed three versions of a chart."""
    with registry(request.param, tmp_path_factory.mktemp("registry")) as serving:
        for archive in ARCHIVES.values():
            serving.push(kubernetes.helm, archive)
        yield serving


@pytest.fixture
def release(server: RunningServer, namespace: str, helm_cli: HelmCommand) -> OwnRelease:
    return OwnRelease(server, namespace, "sourced", helm_cli)


def deployed(release: OwnRelease, **chart: str) -> dict[str, Any]:
    return release.ended(release.send("PUT", "", {"chart": chart}))


def test_a_chart_that_helm_pushed_is_installed_and_pinned(
    server: RunningServer, running: Registry, release: OwnRelease
):
    with added(server, running.as_source(named())) as source:
        first = deployed(release, source=source, name="webapp", version="1.0.0")
        assert first["chart_digest"] == hashlib.sha256(ARCHIVES["1.0.0"]).hexdigest()
        newest = deployed(release, source=source, name="webapp", version="^1")
        assert newest["chart"] == "webapp-1.2.0+build.7"
        assert newest["chart_digest"] == hashlib.sha256(ARCHIVES["1.2.0+build.7"]).hexdigest()
        assert "1.2.0+build.7" in release.manifest()
        planned = release.send("POST", "/plan", {"deploy": {"chart": {"source": source, "name": "webapp"}}})
        assert planned.json()["chart_version"] == "1.2.0+build.7", planned.text
        rendered = server.send(
            "POST", "/api/v1/render", json_body={"chart": {"source": source, "name": "webapp", "version": "1.0.0"}}
        )
        assert "1.0.0" in rendered.json()["manifest"], rendered.text
        versions = server.send("GET", f"/api/v1/sources/{source}/charts/webapp").json()
        assert [(one["version"], one["pulled"]) for one in versions] == [
            ("1.3.0-rc.1", False),
            ("1.2.0+build.7", True),
            ("1.0.0", True),
        ]
        assert_error(
            release.send("PUT", "", {"chart": {"source": source, "name": "webapp", "version": "9.9.9"}}), *MISSING
        )
        assert_error(release.send("PUT", "", {"chart": {"source": source, "name": "nginx"}}), *MISSING)


def test_the_charts_of_a_registry_are_found_if_it_has_a_catalogue(server: RunningServer, running: Registry):
    with added(server, running.as_source(named())) as source:
        found = server.send("GET", f"/api/v1/sources/{source}/charts").json()
        assert [(one["name"], one["version"]) for one in found] == [("webapp", "1.2.0+build.7")]


def test_what_was_pulled_stays_usable_when_the_registry_is_gone(
    server: RunningServer, release: OwnRelease, tmp_path: Path, kubernetes: RunningCluster
):
    with registry("distribution", tmp_path) as serving:
        serving.push(kubernetes.helm, ARCHIVES["1.0.0"])
        answer = server.send("POST", "/api/v1/sources", json_body=serving.as_source(named()))
        source = answer.json()["id"]
        deployed(release, source=source, name="webapp", version="1.0.0")
    assert deployed(release, source=source, name="webapp", version="~1.0")["chart"] == "webapp-1.0.0"
    answer = server.send("POST", f"/api/v1/sources/{source}/sync")
    assert_error(answer, *FAILED)
    assert "cannot be reached: Connection refused" in answer.text
    assert "Connection refused" in server.send("GET", f"/api/v1/sources/{source}").json()["problem"]
    assert server.send("DELETE", f"/api/v1/sources/{source}").status_code == 204
    assert release.get()["status"] == "deployed"


def test_the_wrong_password(server: RunningServer, running: Registry):
    body = running.as_source(named(), credentials={"username": USER, "password": "not-the-password"})
    answer = server.send("POST", "/api/v1/sources", json_body=body)
    assert_error(answer, *INVALID)
    assert "answered 401: it refuses the credentials given for it" in answer.text
    assert "not-the-password" not in answer.text


def test_a_version_that_a_registry_does_not_have_is_told_with_those_that_it_has(
    server: RunningServer, running: Registry, kubernetes: RunningCluster
):
    name = named()
    for version in ("1.0.0", "1.1.0"):
        running.push(kubernetes.helm, config_map_chart(name, version))
    with added(server, running.as_source(named(), sync_seconds=0)) as source:
        answer = server.send("GET", f"/api/v1/sources/{source}/charts/{name}/9.9.9")
        assert_error(answer, 404, "CCE.01404001")
        told = f"has no version of chart '{name}' that fits '9.9.9'; it has 1.1.0, 1.0.0; it was synchronised at "
        assert told in answer.text, answer.text
        assert "synchronise it for newer ones" in answer.text


ARCHIVE = ARCHIVES["1.0.0"]
LAYER = {"mediaType": CHART, "digest": f"sha256:{hashlib.sha256(ARCHIVE).hexdigest()}", "size": len(ARCHIVE)}
CONFIGURATION = {"mediaType": CONFIG, "digest": f"sha256:{'0' * 64}", "size": 2}


def manifest(**changes: Any) -> Reply:
    document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": CONFIGURATION, "layers": [LAYER], **changes}
    return Reply(json.dumps(document).encode(), headers={"Content-Type": document["mediaType"]})


#: What a registry answers for the manifest, and for the layer; and what is said of it.
BAD: dict[str, tuple[Reply, Reply, tuple[int, str], str]] = {
    "an index of images": (
        manifest(mediaType="application/vnd.oci.image.index.v1+json"),
        Reply(),
        INVALID,
        "its media type is 'application/vnd.oci.image.index.v1+json'",
    ),
    "an image": (
        manifest(config={**CONFIGURATION, "mediaType": "application/vnd.oci.image.config.v1+json"}),
        Reply(),
        INVALID,
        "is not a Helm chart",
    ),
    "no chart": (manifest(layers=[]), Reply(), INVALID, "has no layer with a chart"),
    "no digest": (manifest(layers=[{**LAYER, "digest": "sha1:a"}]), Reply(), INVALID, "has no media type, size or"),
    "no JSON": (Reply(b"<html>", headers={"Content-Type": MANIFEST}), Reply(), INVALID, "is not a JSON object"),
    "another manifest": (
        Reply(manifest().body, headers={"Content-Type": MANIFEST, "Docker-Content-Digest": f"sha256:{'1' * 64}"}),
        Reply(),
        INVALID,
        "and not the stated one",
    ),
    "too large": (
        manifest(layers=[{**LAYER, "size": 10**9}]),
        Reply(),
        INVALID,
        "the chart has 1000000000 bytes; the limit is 20971520",
    ),
    "another layer": (manifest(), Reply(b"x" * len(ARCHIVE)), INVALID, "the registry serves"),
    "an endless layer": (manifest(), Reply(b"x" * 65536, endless=True), INVALID, "answers with more than 65536 bytes"),
    "an endless manifest": (
        Reply(b"x" * 65536, headers={"Content-Type": MANIFEST}, endless=True),
        Reply(),
        INVALID,
        "answers with more than",
    ),
    "a blob without encryption": (
        manifest(),
        Reply(status=307, headers={"Location": "http://localhost/blob?sig=secret-signature"}),
        INVALID,
        "redirects to http://localhost/blob, which is not encrypted",
    ),
    "busy": (Reply(status=429, headers={"Retry-After": "9"}), Reply(), BUSY, "retry in 9 s"),
    "401 for ever": (
        Reply(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'}),
        Reply(),
        FAILED,
        "answered 401: it refuses the credentials given for it",
    ),
    "a log-in of another kind": (
        Reply(status=401, headers={"WWW-Authenticate": "Negotiate"}),
        Reply(),
        INVALID,
        "asks for a log-in of an unknown kind",
    ),
    "a token elsewhere": (
        Reply(status=401, headers={"WWW-Authenticate": 'Bearer realm="https://thief.example/token",service="x"'}),
        Reply(),
        INVALID,
        "wants its credentials sent to https://thief.example/token",
    ),
    "a blob inside": (
        manifest(),
        Reply(status=307, headers={"Location": "https://169.254.169.254/blob?sig=secret-signature"}),
        INVALID,
        "169.254.169.254 is link-local or a metadata service",
    ),
}


@pytest.fixture
def scripted(server: RunningServer) -> Iterator[tuple[Repository, str]]:
    """Yield a registry that answers as it is told, and its source."""
    with repository() as serving:
        serving.answers = lambda _request: Reply(b'{"repositories": []}')
        body = {"name": named(), "kind": "oci", "url": serving.url.replace("https", "oci"), "ca": serving.ca}
        with added(server, {**body, "credentials": {"username": USER, "password": "a-secret-password"}}) as source:
            yield serving, source


@pytest.mark.parametrize("name", BAD)
def test_what_a_bad_registry_answers_is_told(server: RunningServer, scripted: tuple[Repository, str], name: str):
    serving, source = scripted
    of_manifest, of_layer, status, text = BAD[name]
    serving.answers = lambda request: of_manifest if "/manifests/" in request.path else of_layer
    answer = server.send("GET", f"/api/v1/sources/{source}/charts/webapp/1.0.0")
    assert_error(answer, *status)
    assert text in answer.text, answer.text
    assert "a-secret-password" not in answer.text
    assert "secret-signature" not in answer.text
    assert len(serving.requests) < 12


def test_a_blob_is_redirected_without_the_token(server: RunningServer, scripted: tuple[Repository, str]):
    serving, source = scripted
    with repository() as storage:
        storage.files["blob"] = ARCHIVE

        def answers(request: Request) -> Reply:
            if request.path.startswith("/token"):
                return Reply(b'{"token": "the-token"}')
            if request.headers.get("authorization") != "Bearer the-token":
                realm = f'Bearer realm="{serving.url}/token",service="tests"'
                return Reply(status=401, headers={"WWW-Authenticate": realm})
            if "/manifests/" in request.path:
                return manifest()
            return Reply(status=307, headers={"Location": f"{storage.url}/blob?sig=secret-signature"})

        serving.answers = answers
        before = len(serving.requests)
        found = server.send("GET", f"/api/v1/sources/{source}/charts/webapp/1.0.0")
        assert found.status_code == 200, found.text
        paths = [path.partition("?")[0] for path in serving.paths[before:]]
        assert paths == [
            "/v2/webapp/manifests/1.0.0",
            "/token",
            "/v2/webapp/manifests/1.0.0",
            f"/v2/webapp/blobs/{LAYER['digest']}",
        ]
        assert ["authorization" in request.headers for request in storage.requests] == [False]


def test_tags_come_in_pages(server: RunningServer, scripted: tuple[Repository, str]):
    serving, source = scripted

    def answers(request: Request) -> Reply:
        if "last=" in request.path:
            return Reply(b'{"tags": ["2.0.0", "latest"]}')
        if "/tags/list" in request.path:
            link = {"Link": '</v2/webapp/tags/list?n=1000&last=1.0.0>; rel="next"'}
            return Reply(b'{"tags": ["1.0.0", "1.1.0_build"]}', headers=link)
        return Reply(b'{"repositories": ["webapp", "other/one"]}')

    serving.answers = answers
    assert server.send("POST", f"/api/v1/sources/{source}/sync").status_code == 200
    versions = server.send("GET", f"/api/v1/sources/{source}/charts/webapp").json()
    assert [one["version"] for one in versions] == ["2.0.0", "1.1.0+build", "1.0.0"]
    serving.answers = lambda _request: Reply(
        b'{"tags": []}', headers={"Link": '<https://thief.example/v2/tags>; rel="next"'}
    )
    answer = server.send("POST", f"/api/v1/sources/{source}/sync")
    assert_error(answer, *INVALID)
    assert "its next page is on another host" in answer.text


#: What a registry answers for the catalogue, and for the tags; and what is said of it.
BAD_LISTS: dict[str, tuple[Reply, Reply, str]] = {
    "a number of repositories": (Reply(b'{"repositories": 5}'), Reply(), "repositories that are not a list"),
    "a number of tags": (Reply(b'{"repositories": ["webapp"]}'), Reply(b'{"tags": 5}'), "tags that are not a list"),
    "a next page at no URL": (
        Reply(b'{"repositories": []}', headers={"Link": '<https://[>; rel="next"'}),
        Reply(),
        "'https://[', which is not a URL",
    ),
}


@pytest.mark.parametrize("name", BAD_LISTS)
def test_lists_that_are_none_are_told(server: RunningServer, scripted: tuple[Repository, str], name: str):
    serving, source = scripted
    of_catalogue, of_tags, text = BAD_LISTS[name]
    serving.answers = lambda request: of_tags if "/tags/list" in request.path else of_catalogue
    answer = server.send("POST", f"/api/v1/sources/{source}/sync")
    assert_error(answer, *INVALID)
    assert text in answer.text, answer.text
    assert text in server.send("GET", f"/api/v1/sources/{source}").json()["problem"]


def test_what_is_no_name_in_a_catalogue_is_passed_over(server: RunningServer, scripted: tuple[Repository, str]):
    serving, source = scripted
    names = json.dumps({"repositories": ["a\0b", "webapp", "-", "x" * 65, 7]}).encode()
    serving.answers = lambda request: Reply(b'{"tags": ["1.0.0"]}' if "/tags/list" in request.path else names)
    assert server.send("POST", f"/api/v1/sources/{source}/sync").status_code == 200
    found = server.send("GET", f"/api/v1/sources/{source}/charts").json()
    assert [one["name"] for one in found] == ["webapp"]
