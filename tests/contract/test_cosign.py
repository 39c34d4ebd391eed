"""Charts that the real cosign signed, in real registries; and registries that answer what they should not about it."""

import base64
import dataclasses
import hashlib
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from pilothouse.chart_sources.registry import CHART, CONFIG, INDEX, MANIFEST
from tests.support.chart_sources import Registry, Reply, Request, added, registry, repository
from tests.support.charts import config_map_chart
from tests.support.own_releases import OwnRelease
from tests.support.releases import HelmCommand
from tests.support.servers import RunningServer
from tests.support.signing import Signer, cosign_key, signer
from tests.support.tenants import add_tenant
from tests.support.wire import assert_error
from tools.localcluster.cluster import RunningCluster

INVALID, FAILED, BUSY = (400, "CCE.01400001"), (502, "CCE.01502001"), (429, "APIGW.0308")
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PATH = "team/webapp"


@pytest.fixture(scope="module", params=["debian", "token"])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Yield a registry: one without the API of referrers, where cosign keeps a list under a tag, and one with it."""
    with registry(request.param, tmp_path_factory.mktemp("registry")) as serving:
        yield serving


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return signer(tmp_path_factory.mktemp("own"))


@pytest.fixture
def project(server: RunningServer, kubernetes: RunningCluster) -> RunningServer:
    """Return the server as a project of its own sees it, which takes verified charts only."""
    tenant = add_tenant(server)
    body = {"name": "signed", "kubeconfig": kubernetes.kubeconfig.read_text()}
    made = tenant.send("POST", "/api/v1/clusters", json_body=body)
    assert made.status_code == 201, made.text
    assert tenant.send("PUT", "/api/v1/verification", json_body={"verified_only": True}).status_code == 200
    return dataclasses.replace(tenant, cluster_id=made.json()["id"])


def signed_by(keys: str) -> dict[str, Any]:
    return {"verification": {"kind": "cosign", "keys": keys}}


def test_what_cosign_signs_is_installed_and_nothing_else(
    *, project: RunningServer, running: Registry, own: Signer, namespace: str, helm_cli: HelmCommand, tmp_path: Path,
    kubernetes: RunningCluster,
):  # fmt: skip
    release, other = OwnRelease(project, namespace, "signed", helm_cli), signer(tmp_path / "other")
    for version in ("1.0.0", "1.1.0", "1.2.0", "2.0.0", "3.0.0", "4.0.0"):
        running.push(kubernetes.helm, config_map_chart("webapp", version))
    digest = own.sign(running, PATH, "1.0.0")
    own.verify(running, PATH, digest)
    own.verify(running, PATH, own.sign(running, PATH, "1.1.0", bundle=False), bundle=False)
    other.sign(running, PATH, "1.2.0", bundle=False)
    for one in (other, own):
        one.sign(running, PATH, "1.2.0")
    other.sign(running, PATH, "2.0.0")
    own.attest(running, PATH, "3.0.0")
    with added(project, running.as_source("signed", **signed_by(own.public))) as source:

        def put(version: str) -> httpx2.Response:
            return release.send("PUT", "", {"chart": {"source": source, "name": "webapp", "version": version}})

        release.ended(put("1.0.0"))
        shown = release.get()["verification"]
        assert (shown["kind"], shown["fingerprint"], shown["trusted"]) == ("cosign", own.fingerprint, True)
        assert (shown["signed_digest"], shown["signing_key"]) == (digest, own.fingerprint)
        assert project.send("POST", f"/api/v1/sources/{source}/sync").status_code == 200
        assert (release.get()["update_available"], release.get()["update_refused"]) == ("1.2.0", "4.0.0")
        for version in ("1.1.0", "1.2.0"):
            release.ended(put(version))
            assert release.get()["verification"]["fingerprint"] == own.fingerprint
        for version, text in {
            "2.0.0": "it is signed, but with no key that is trusted here",
            "3.0.0": "source 'signed' has no signature by cosign of it (manifest sha256:",
            "4.0.0": "source 'signed' has no signature by cosign of it (manifest sha256:",
        }.items():
            answer = put(version)
            assert_error(answer, *INVALID)
            assert f"chart webapp {version} is not verified, and was not stored: {text}" in answer.text, answer.text
        running.push(kubernetes.helm, config_map_chart("webapp", "4.0.0", text="moved"))
        own.sign(running, PATH, "4.0.0")
        assert release.ended(put("4.0.0"))["chart"] == "webapp-4.0.0"


def test_a_version_that_is_signed_after_it_was_refused_is_offered_after_a_synchronisation(
    server: RunningServer, running: Registry, own: Signer, kubernetes: RunningCluster
):
    name, source = f"late-{uuid.uuid4().hex[:6]}", f"late-{uuid.uuid4().hex[:8]}"
    running.push(kubernetes.helm, config_map_chart(name, "1.0.0"))
    with added(server, running.as_source(source, sync_seconds=0, **signed_by(own.public))):

        def refused() -> bool:
            assert server.send("POST", f"/api/v1/sources/{source}/sync").status_code == 200
            (version,) = server.send("GET", f"/api/v1/sources/{source}/charts/{name}").json()
            return bool(version["refused"])

        path = f"/api/v1/sources/{source}/charts/{name}/1.0.0"
        assert_error(server.send("GET", path), *INVALID)
        assert refused()
        assert refused()
        own.sign(running, f"team/{name}", "1.0.0")
        assert not refused()
        assert server.send("GET", path).status_code == 200


def test_every_kind_of_key_that_cosign_signs_with_counts(
    server: RunningServer, running: Registry, tmp_path: Path, kubernetes: RunningCluster
):
    kinds: list[ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey] = [
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP521R1()),
        rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate(),
    ]
    wanted = {}
    for number, private in enumerate(kinds):
        pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        one = signer(tmp_path / str(number), pem)
        for part, bundle in enumerate((True, False)):
            version = f"0.{number}.{part}"
            running.push(kubernetes.helm, config_map_chart("webapp", version))
            one.sign(running, PATH, version, bundle=bundle)
            wanted[version] = one
    keys = "".join(one.public for one in set(wanted.values()))
    with added(server, running.as_source(f"keys-{uuid.uuid4().hex[:8]}", **signed_by(keys))) as source:
        for version, one in wanted.items():
            answer = server.send("GET", f"/api/v1/sources/{source}/charts/webapp/{version}")
            assert answer.status_code == 200, (version, answer.text)
            assert answer.json()["verification"]["fingerprint"] == one.fingerprint


ARCHIVE = config_map_chart("webapp", "1.0.0")


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def part(media_type: str, content: bytes, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content), **more}


MANIFEST_OF_CHART = json.dumps(
    {"mediaType": MANIFEST, "config": {"mediaType": CONFIG}, "layers": [part(CHART, ARCHIVE)]}
).encode()
KEY = cosign_key()


def bundle(**changes: Any) -> bytes:
    envelope = {"payload": base64.b64encode(b"{}").decode(), "payloadType": "x", "signatures": [{"sig": "eA=="}]}
    return json.dumps({"mediaType": BUNDLE, "dsseEnvelope": envelope, **changes}).encode()


def listed(artifact: bytes, *, count: int = 1, kind: str = BUNDLE, annotations: dict[str, str] | None = None) -> Reply:
    manifests = [part(MANIFEST, artifact, artifactType=kind, annotations=annotations or {})] * count
    return Reply(json.dumps({"manifests": manifests}).encode(), headers={"Content-Type": INDEX})


def artifact(*layers: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"mediaType": MANIFEST, "artifactType": BUNDLE, "layers": list(layers), **more}).encode()


MALFORMED = bundle(mediaType="application/json")
OTHERS = artifact(part(BUNDLE, bundle()))
ATTESTED = {"dev.sigstore.bundle.predicateType": "https://spdx.dev/Document"}
NOTHING = "has no signature by cosign of it (manifest sha256:"
LARGE = [{**part(BUNDLE, b""), "size": 10**6}]
#: What a registry answers to the question for referrers, what it has, and what is said of it.
ANSWERS: dict[str, tuple[Reply, list[bytes], tuple[int, str], str]] = {
    "none": (Reply(b'{"manifests": []}', headers={"Content-Type": INDEX}), [], INVALID, NOTHING),
    "an older registry": (Reply(status=404), [], INVALID, NOTHING),
    "a page": (Reply(b"<html>", headers={"Content-Type": "text/html"}), [], INVALID, NOTHING),
    "no list": (
        Reply(b'{"manifests": 5}', headers={"Content-Type": INDEX}),
        [],
        INVALID,
        "manifests that are not a list",
    ),
    "no JSON": (Reply(b"<html>", headers={"Content-Type": INDEX}), [], INVALID, "is not a JSON object"),
    "failing": (Reply(status=503), [], FAILED, "answered 503"),
    "forbidden": (Reply(status=403), [], FAILED, "answered 403: it needs credentials, and has none"),
    "busy": (Reply(status=429, headers={"Retry-After": "9"}), [], BUSY, "retry in 9 s"),
    "endless": (
        Reply(b" " * 65536, endless=True, headers={"Content-Type": INDEX}),
        [],
        INVALID,
        "answers with more than 4194304 bytes, the limit",
    ),
    "strange entries": (
        Reply(b'{"manifests": [7, {}, {"digest": "sha1:a"}, {"digest": 7}]}', headers={"Content-Type": INDEX}),
        [],
        INVALID,
        NOTHING,
    ),
    "more than are looked at": (
        listed(OTHERS, count=21),
        [OTHERS],
        INVALID,
        "the chart has 21 signatures (what refers to sha256:",
    ),
    "one that is not there": (listed(OTHERS), [], INVALID, NOTHING),
    "one too large": (
        listed(artifact(*LARGE)),
        [artifact(*LARGE)],
        INVALID,
        "has 1000000 bytes, more than 65536",
    ),
    "one without a bundle": (listed(artifact()), [artifact()], INVALID, NOTHING),
    "an attestation, by the list": (listed(OTHERS, annotations=ATTESTED), [OTHERS, bundle()], INVALID, NOTHING),
    "an attestation, by itself": (
        listed(artifact(*LARGE, annotations=ATTESTED)),
        [artifact(*LARGE, annotations=ATTESTED)],
        INVALID,
        NOTHING,
    ),
    "something else": (listed(OTHERS, kind="application/spdx+json"), [OTHERS, bundle()], INVALID, NOTHING),
    "by another key": (
        listed(OTHERS),
        [OTHERS, bundle()],
        INVALID,
        "it is signed, but with no key that is trusted here",
    ),
    "malformed": (
        listed(artifact(part(BUNDLE, MALFORMED))),
        [artifact(part(BUNDLE, MALFORMED)), MALFORMED],
        INVALID,
        "its bundle is of the type",
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_what_a_registry_answers_about_signatures_is_told(server: RunningServer, name: str):
    of_referrers, has, status, text = ANSWERS[name]
    contents = {digest_of(one): one for one in (*has, ARCHIVE)}

    def answers(request: Request) -> Reply:
        path = request.path.partition("?")[0]
        last = unquote(path.rpartition("/")[2])
        if "/referrers/" in path:
            return of_referrers
        if last == "list":
            return Reply(b'{"tags": ["1.0.0"]}')
        if path.endswith("/manifests/1.0.0"):
            return Reply(MANIFEST_OF_CHART, headers={"Content-Type": MANIFEST})
        if last in contents:
            return Reply(contents[last], headers={"Content-Type": MANIFEST})
        return Reply(b'{"repositories": ["team/webapp"]}', 404 if "/v2/team" in path else 200)

    with repository() as serving:
        serving.answers = answers
        body = {"name": f"odd-{uuid.uuid4().hex[:8]}", "kind": "oci", "ca": serving.ca, "sync_seconds": 0}
        url = f"{serving.url.replace('https', 'oci')}/team"
        with added(server, {**body, "url": url, **signed_by(KEY.public)}) as source:
            answer = server.send("GET", f"/api/v1/sources/{source}/charts/webapp/1.0.0")
            assert_error(answer, *status)
            assert text in answer.text, answer.text
            assert server.send("POST", f"/api/v1/sources/{source}/sync").status_code == 200
            (there,) = server.send("GET", f"/api/v1/sources/{source}/charts/webapp").json()
            assert (there["version"], there["pulled"]) == ("1.0.0", False)
