"""Charts that the server pushes: to real registries, which helm pulls from, and to one that answers as it is told."""

import hashlib
import json
import secrets
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from pilothouse.chart_sources.registry import CHART, MANIFEST
from tests.support.chart_sources import USER, Registry, Reply, Repository, Request, added, registry, repository
from tests.support.charts import build_chart, config_map_chart, config_map_template
from tests.support.own_releases import OwnRelease
from tests.support.releases import HelmCommand
from tests.support.servers import RunningServer
from tests.support.signing import PgpKey, pgp_key, signed
from tests.support.tenants import add_tenant
from tests.support.users import add_person
from tests.support.wire import assert_error
from tools.localcluster.cluster import RunningCluster

INVALID, FAILED, MISSING, TAKEN, DENIED = (
    (400, "CCE.01400001"),
    (502, "CCE.01502001"),
    (404, "CCE.01404001"),
    (409, "CCE.01409001"),
    (403, "CCE.01403001"),
)


@pytest.fixture(scope="module", params=["debian", "distribution", "token"])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(request.param, tmp_path_factory.mktemp("registry")) as serving:
        yield serving


@pytest.fixture
def repo() -> Iterator[Repository]:
    with repository() as serving:
        yield serving


def named() -> str:
    return f"registry-{uuid.uuid4().hex[:10]}"


def rich_chart(name: str, version: str) -> bytes:
    """Return a chart with something in every field of Chart.yaml."""
    more = {
        "description": "two\n  lines, ünï",
        "keywords": ["web", 7],
        "home": "https://example.test",
        "sources": ["https://example.test/src"],
        "maintainers": [{"name": "one", "email": "one@example.test"}, {"name": "two", "url": "https://two.test"}],
        "icon": "https://example.test/icon.svg",
        "kubeVersion": ">= 1.20.0-0",
        "appVersion": 1.10,
        "deprecated": True,
        "annotations": {"a.test/b": "c", "licence": "none"},
        "dependencies": [
            {"name": "sub", "version": "0.1.0", "repository": "", "condition": "sub.on", "tags": ["x"],
             "import-values": ["data", {"child": "a", "parent": "b"}], "alias": "other"},
        ],
        "type": "application",
        "unknown": {"a": 1},
    }  # fmt: skip
    sub = build_chart("sub", "0.1.0", templates={"map.yaml": config_map_template()}, values={"text": "x"})
    templates = {"map.yaml": config_map_template()}
    return build_chart(
        name, version, templates=templates, values={"text": version}, metadata=more, subcharts={"sub-0.1.0.tgz": sub}
    )


def uploaded(server: RunningServer, archive: bytes) -> str:
    answer = server.upload(archive, parameters='{"skip_lint": true}')
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def push(server: RunningServer, source: str, chart: Any, **more: Any) -> httpx2.Response:
    named = {"id": chart} if isinstance(chart, str) else chart
    return server.send("POST", f"/api/v1/sources/{source}/charts", json_body={"chart": named, **more})


def test_what_was_uploaded_here_is_pulled_by_helm_and_is_the_source_of_another_project(
    server: RunningServer, running: Registry, kubernetes: RunningCluster
):
    name, version = f"chart-{uuid.uuid4().hex[:8]}", "1.2.0-rc.1+build.7"
    archive = rich_chart(name, version)
    chart, digest = uploaded(server, archive), hashlib.sha256(archive).hexdigest()
    with added(server, running.as_source(named())) as source:
        answer = push(server, source, chart)
        assert answer.status_code == 201, answer.text
        pushed = answer.json()
        assert (pushed["name"], pushed["version"], pushed["digest"], pushed["created"]) == (name, version, digest, True)
        assert pushed["reference"] == f"oci://{running.host}/team/{name}:1.2.0-rc.1_build.7"
        assert running.pull(kubernetes.helm, name, version) == archive
        assert [one["version"] for one in server.send("GET", f"/api/v1/sources/{source}/charts/{name}").json()] == [
            version
        ]
        assert push(server, source, chart).json() == {**pushed, "created": False}
        told = f"{name} {version} sha256:{digest}"
        assert audited(server, source) == [
            ("done", f"{told}: it was there"), ("started", told), ("done", told), ("started", told),
        ]  # fmt: skip

        other = add_tenant(server)
        with added(other, running.as_source(named())) as theirs:
            found = other.send("GET", f"/api/v1/sources/{theirs}/charts/{name}/{version}").json()
            assert (found["digest"], found["pulled"]) == (digest, True)
            assert_error(push(other, theirs, chart), *MISSING)
            assert_error(push(other, source, {"source": theirs, "name": name, "version": version}), *MISSING)

    running.push(kubernetes.helm, archive, folder="helms")
    assert config_of(running, f"team/{name}", pushed["manifest_digest"]) == config_of(
        running, f"helms/{name}", "1.2.0-rc.1_build.7"
    )


def audited(server: RunningServer, source: str) -> list[tuple[str, str]]:
    """Return outcomes and details of what the audit tells of pushes to the source, the newest first."""
    rows = server.send("GET", f"/api/v1/audit?action=cce:source:push&target={source}").json()
    return [(row["outcome"], row["detail"]) for row in rows]


def test_the_audit_tells_how_a_push_ended(server: RunningServer, told: "Told", source: str):
    archive = config_map_chart("audited", "1.0.0")
    what = f"audited 1.0.0 sha256:{hashlib.sha256(archive).hexdigest()}"
    told.instead = on("PUT", "/manifests/", Reply(b"", 500))
    answer = push_file(server, source, archive)
    failed, started = server.send("GET", f"/api/v1/audit?action=cce:source:push&target={source}").json()
    assert (failed["outcome"], failed["detail"]) == ("failed", f"{what}: {answer.json()['error_msg']}")
    assert (started["outcome"], started["detail"]) == ("started", what)
    assert failed["request_id"] == started["request_id"] == answer.headers["x-request-id"]
    told.instead = lambda _request: None
    assert push_file(server, source, config_map_chart("audited", "1.0.0", text="theirs")).status_code == 201
    assert_error(push_file(server, source, archive), *TAKEN)
    outcomes = [outcome for outcome, _ in audited(server, source)]
    assert outcomes == ["failed", "started", "done", "started", "failed", "started"]
    assert "has version 1.0.0 with another content" in audited(server, source)[0][1]
    query = f"/api/v1/audit?action=cce:source:push&target={source}&outcome=started"
    assert len(server.send("GET", query).json()) == 3


def manifest_of(running: Registry, path: str, reference: str) -> Any:
    return json.loads(running.get(path, f"manifests/{reference}"))


def config_of(running: Registry, path: str, reference: str) -> Any:
    """Return the config of a chart, as the registry has it."""
    return json.loads(running.get(path, f"blobs/{manifest_of(running, path, reference)['config']['digest']}"))


def test_a_provenance_goes_with_the_chart_and_helm_verifies_what_it_pulls(
    *, server: RunningServer, running: Registry, kubernetes: RunningCluster, tmp_path: Path
):
    name, key, other = f"chart-{uuid.uuid4().hex[:8]}", pgp_key("pusher"), pgp_key("other")
    archive, provenance = signed(kubernetes.helm, config_map_chart(name, "1.0.0"), key)
    (tmp_path / "chart.tgz").write_bytes(archive)
    (tmp_path / "chart.tgz.prov").write_text(provenance)
    source, address = named(), f"oci://{running.host}/team"

    def command(*more: str) -> Any:
        return server.command("chart", "push", "./chart.tgz", address, *more, "-o", "json", folder=tmp_path)

    with added(server, running.as_source(source)):
        unsigned = push(server, source, uploaded(server, archive)).json()
        assert len(manifest_of(running, f"team/{name}", "1.0.0")["layers"]) == 1
        done = command()
        assert (done.returncode, json.loads(done.stdout)["created"]) == (0, True), done.stderr
        running.verify(kubernetes.helm, name, "1.0.0", keys=key.public)
        running.push(kubernetes.helm, archive, folder="helms", provenance=provenance)
        layers = manifest_of(running, f"team/{name}", "1.0.0")["layers"]
        assert layers == manifest_of(running, f"helms/{name}", "1.0.0")["layers"]
        assert len(layers) == 2
        same = command()
        assert json.loads(same.stdout)["created"] is False, same.stderr
        assert unsigned["manifest_digest"] != json.loads(same.stdout)["manifest_digest"]

        (tmp_path / "chart.tgz.prov").write_text(signed_text(kubernetes.helm, archive, other))
        taken = command()
        assert (taken.returncode, "has version 1.0.0 with another provenance file" in taken.stderr) == (1, True)
        assert command("--replace").returncode == 0
        running.verify(kubernetes.helm, name, "1.0.0", keys=other.public)
        foreign = push(server, source, unsigned_id(server, name), provenance="files: {}")
        assert_error(foreign, *INVALID, "provenance: it is of another archive")


def signed_text(helm: Path, archive: bytes, key: PgpKey) -> str:
    """Return the provenance of that archive, whatever bytes helm packs it into for this key."""
    again, provenance = signed(helm, archive, key)
    return key.sign(provenance.replace(hashlib.sha256(again).hexdigest(), hashlib.sha256(archive).hexdigest()))


def unsigned_id(server: RunningServer, name: str) -> str:
    (row,) = server.send("GET", f"/api/v1/charts?name={name}").json()
    return str(row["id"])


def test_what_verified_a_chart_here_goes_with_it(server: RunningServer, running: Registry, kubernetes: RunningCluster):
    name, key, tenant = f"chart-{uuid.uuid4().hex[:8]}", pgp_key("pusher"), add_tenant(server)
    archive, provenance = signed(kubernetes.helm, config_map_chart(name, "1.0.0"), key)
    assert tenant.send("PUT", "/api/v1/verification", json_body={"keys": key.public}).status_code == 200
    made = tenant.upload(archive, provenance=provenance)
    assert made.status_code == 201, made.text
    with added(tenant, running.as_source(named(), folder="kept")) as source:
        assert push(tenant, source, made.json()["id"]).status_code == 201
    running.verify(kubernetes.helm, name, "1.0.0", keys=key.public, folder="kept")


def test_another_content_under_the_same_version_is_refused_unless_it_is_to_be_replaced(
    server: RunningServer, running: Registry, kubernetes: RunningCluster, namespace: str, helm_cli: HelmCommand
):
    name = f"chart-{uuid.uuid4().hex[:8]}"
    theirs, ours = config_map_chart(name, "1.0.0", text="theirs"), config_map_chart(name, "1.0.0", text="ours")
    running.push(kubernetes.helm, theirs)
    chart = uploaded(server, ours)
    with added(server, running.as_source(named())) as source:
        assert_error(push(server, source, chart), *TAKEN, "raise the version of the chart, or set replace")
        assert running.pull(kubernetes.helm, name, "1.0.0") == theirs
        assert push(server, source, chart, replace=True).json()["created"]
        assert running.pull(kubernetes.helm, name, "1.0.0") == ours
        wrong = push(server, source, {"id": chart, "digest": "0" * 64})
        assert (wrong.status_code, wrong.json()["error_code"]) == (409, "CCE.01409004")
        release = OwnRelease(server, namespace, "pushed", helm_cli)
        release.ended(release.send("PUT", "", {"chart": {"source": source, "name": name}}))
        assert "ours" in release.manifest()
        with added(server, running.as_source(named(), folder="copies")) as copies:
            copied = push(server, copies, {"source": source, "name": name, "version": "^1"})
            assert copied.json()["digest"] == hashlib.sha256(ours).hexdigest()
        assert running.pull(kubernetes.helm, name, "1.0.0", folder="copies") == ours


def test_the_command_pushes_folders_and_uploaded_charts(
    server: RunningServer, running: Registry, kubernetes: RunningCluster, tmp_path: Path
):
    name, source = f"chart-{uuid.uuid4().hex[:8]}", named()
    folder = tmp_path / name
    (folder / "templates").mkdir(parents=True)
    (folder / "Chart.yaml").write_text(f"apiVersion: v2\nname: {name}\nversion: 0.1.0\n")
    (folder / "templates" / "map.yaml").write_text(config_map_template())
    (folder / "values.yaml").write_text("text: x\n")
    with added(server, running.as_source(source)):
        address = f"oci://{running.host}/team"
        done = server.command("chart", "push", f"./{name}", address, folder=tmp_path)
        assert (done.returncode, f"{address}/{name}:0.1.0" in done.stdout) == (0, True), done.stderr
        again = server.command("chart", "push", f"./{name}", source, "-o", "json", folder=tmp_path)
        assert json.loads(again.stdout)["created"] is False, again.stderr
        words = server.command("chart", "push", f"./{name}", source, folder=tmp_path).stdout
        assert "no: the registry had it already, and nothing was sent" in words
        stored = uploaded(server, config_map_chart(name, "0.2.0"))
        assert server.command("chart", "push", f"{name}@0.2.0", source).returncode == 0
        before = project_charts(server, name)
        (folder / "values.yaml").write_text("text: another\n")
        taken = server.command("chart", "push", f"./{name}", address, folder=tmp_path)
        assert (taken.returncode, "has version 0.1.0 with another content" in taken.stderr) == (1, True)
        assert "or add --replace to put this one in its place" in taken.stderr
        assert "tried" not in taken.stderr
        replaced = server.command("chart", "push", f"./{name}", address, "--replace", folder=tmp_path)
        assert replaced.returncode == 0, replaced.stderr
        assert project_charts(server, name) == before == {stored: "0.2.0"}
    assert running.pull(kubernetes.helm, name, "0.1.0")
    unknown = server.command("chart", "push", name, address)
    assert "no source of this project has the address" in unknown.stderr


def project_charts(server: RunningServer, name: str) -> dict[str, str]:
    """Return the project's charts of that name: ids with versions."""
    return {row["id"]: row["version"] for row in server.send("GET", f"/api/v1/charts?name={name}").json()}


def push_file(
    server: RunningServer, source: str, archive: bytes, *, provenance: str = "", query: str = ""
) -> httpx2.Response:
    texts = {"provenance": provenance} if provenance else {}
    form = httpx2.Request("POST", server.url, files={"content": ("chart.tgz", archive)}, data=texts)
    kind = {"Content-Type": form.headers["content-type"]} if form.read() else {}
    return server.send("POST", f"/api/v1/sources/{source}/archives{query}", body=form.content, headers=kind)


def test_a_file_is_pushed_without_a_cluster_and_whatever_the_project_has_uploaded(
    server: RunningServer, running: Registry, tmp_path: Path
):
    name, tenant, source = f"chart-{uuid.uuid4().hex[:8]}", add_tenant(server), named()
    theirs = uploaded(tenant, config_map_chart(name, "1.0.0", text="a colleague's"))
    large = config_map_chart(name, "1.0.0", text=secrets.token_hex(100_000))
    assert len(large) > 64 * 1024, "no larger than a form of texts"
    (tmp_path / "chart.tgz").write_bytes(large)
    with added(tenant, running.as_source(source)):
        done = tenant.command("chart", "push", "./chart.tgz", source, "-o", "json", folder=tmp_path)
        assert (done.returncode, json.loads(done.stdout)["created"]) == (0, True), done.stderr
    assert project_charts(tenant, name) == {theirs: "1.0.0"}
    assert "a colleague" in str(tenant.send("GET", f"/v2/charts/{theirs}/values").json())


def test_keys_of_the_project_do_not_judge_a_pushed_file_unless_it_takes_verified_charts_only(
    server: RunningServer, running: Registry, kubernetes: RunningCluster
):
    name, key, tenant = f"chart-{uuid.uuid4().hex[:8]}", pgp_key("pusher"), add_tenant(server)
    archive, provenance = signed(kubernetes.helm, config_map_chart(name, "1.0.0"), key)
    unsigned = config_map_chart(name, "2.0.0")
    before = uploaded(tenant, config_map_chart(f"{name}-before", "1.0.0"))

    def trust(keys: str, *, verified_only: bool) -> None:
        body = {"keys": keys, "verified_only": verified_only}
        assert tenant.send("PUT", "/api/v1/verification", json_body=body).status_code == 200

    with added(tenant, running.as_source(named())) as source:
        trust(pgp_key("other").public, verified_only=True)
        by_another = push_file(tenant, source, archive, provenance=provenance)
        assert_error(by_another, *INVALID, "is not verified, and was not pushed")
        assert_error(push_file(tenant, source, unsigned), *INVALID, "it came without a provenance file")
        trust("", verified_only=True)
        no_keys = push_file(tenant, source, archive, provenance=provenance)
        assert_error(no_keys, *INVALID, "neither it nor the source has keys")
        assert_error(push(tenant, source, {"id": before}), *DENIED, "takes verified charts only")
        verification = {"kind": "pgp", "keys": key.public}
        with added(tenant, {**running.as_source(named()), "verification": verification}) as verifying:
            assert push_file(tenant, verifying, archive, provenance=provenance).status_code == 201
        trust(pgp_key("other").public, verified_only=False)
        assert push_file(tenant, source, archive, provenance=provenance).status_code == 201
        assert push_file(tenant, source, unsigned).status_code == 201
    assert project_charts(tenant, name) == {}


def test_what_is_put_in_the_place_of_a_pulled_version_is_what_is_shown_from_then_on(
    server: RunningServer, running: Registry
):
    name = f"chart-{uuid.uuid4().hex[:8]}"
    with added(server, running.as_source(named(), folder="moved")) as source:

        def shown() -> str:
            return str(server.send("GET", f"/api/v1/sources/{source}/charts/{name}/1.0.0").json()["values"])

        assert push_file(server, source, config_map_chart(name, "1.0.0", text="first")).status_code == 201
        assert "first" in shown()
        replaced = push_file(server, source, config_map_chart(name, "1.0.0", text="second"), query="?replace=true")
        assert replaced.status_code == 201, replaced.text
        assert "second" in shown()


def test_what_was_pushed_is_described_until_something_else_lies_in_its_place(
    server: RunningServer, running: Registry, kubernetes: RunningCluster
):
    name, folder = f"chart-{uuid.uuid4().hex[:8]}", f"described-{uuid.uuid4().hex[:8]}"
    archive = build_chart(name, "1.0.0", metadata={"description": "Sails for all.", "appVersion": "7.1"})
    with added(server, running.as_source(named(), folder=folder)) as source:

        def listed() -> list[tuple[str, str, str, bool]]:
            rows = server.send("GET", f"/api/v1/sources/{source}/charts/{name}").json()
            return [(row["version"], row["description"], row["app_version"], row["pulled"]) for row in rows]

        def synchronise() -> None:
            assert server.send("POST", f"/api/v1/sources/{source}/sync").status_code == 200

        pushed = push_file(server, source, archive)
        assert pushed.status_code == 201, pushed.text
        assert listed() == [("1.0.0", "Sails for all.", "7.1", False)]
        assert "Sails for all." in server.command("search", "sails", "--source", source).stdout
        running.push(kubernetes.helm, build_chart(name, "1.1.0", metadata={"appVersion": "8"}), folder=folder)
        synchronise()
        assert listed() == [("1.1.0", "", "", False), ("1.0.0", "Sails for all.", "7.1", False)]
        again = push_file(
            server, source, build_chart(name, "1.1.0", metadata={"appVersion": "9"}), query="?replace=true"
        )
        assert again.status_code == 201, again.text
        assert listed() == [("1.1.0", "", "9", False), ("1.0.0", "Sails for all.", "7.1", False)]

        running.push(kubernetes.helm, build_chart(name, "1.0.0", metadata={"description": "Another."}), folder=folder)
        synchronise()
        assert listed() == [("1.1.0", "", "9", False), ("1.0.0", "", "", False)]


def test_what_a_pull_has_fetched_before_a_push_replaced_it_is_not_kept(
    server: RunningServer, told: "Told", source: str
):
    first, second = (config_map_chart("raced", "1.0.0", text=text) for text in ("first", "second"))
    assert push_file(server, source, first).status_code == 201
    old = f"sha256:{hashlib.sha256(first).hexdigest()}"
    pushed: list[int] = []

    def instead(request: Request) -> Reply | None:
        if request.method == "GET" and request.path.endswith(old) and not pushed:
            pushed.append(0)
            pushed[0] = push_file(server, source, second, query="?replace=true").status_code
        return None

    told.instead = instead
    shown = server.send("GET", f"/api/v1/sources/{source}/charts/raced/1.0.0")
    assert (pushed, shown.status_code) == ([201], 200), shown.text
    assert "second" in shown.json()["values"]
    assert "second" in server.send("GET", f"/api/v1/sources/{source}/charts/raced/1.0.0").json()["values"]


def test_a_push_of_another_chart_undoes_no_pull(server: RunningServer, repo: Repository, told: "Told", source: str):
    pulled, other = config_map_chart("kept", "1.0.0"), config_map_chart("kept", "2.0.0")
    assert push_file(server, source, pulled).status_code == 201
    blob = f"sha256:{hashlib.sha256(pulled).hexdigest()}"
    pushed: list[int] = []

    def meanwhile(request: Request) -> Reply | None:
        if request.method == "GET" and request.path.endswith(blob) and not pushed:
            pushed.append(0)
            pushed[0] = push_file(server, source, other).status_code
        return None

    told.instead = meanwhile
    shown = server.send("GET", f"/api/v1/sources/{source}/charts/kept/1.0.0")
    assert (pushed, shown.status_code) == ([201], 200), shown.text
    assert len([one for one in repo.requests if one.method == "GET" and one.path.endswith(blob)]) == 1


def test_what_a_push_may_have_replaced_before_it_failed_is_pulled_anew(
    server: RunningServer, told: "Told", source: str
):
    first, second = (config_map_chart("half", "1.0.0", text=text) for text in ("first", "second"))
    path = f"/api/v1/sources/{source}/charts/half/1.0.0"
    assert push_file(server, source, first).status_code == 201
    assert "first" in server.send("GET", path).json()["values"]

    def lost(request: Request) -> Reply | None:
        """Take the manifest, and answer that something failed."""
        if request.method != "PUT" or "/manifests/" not in request.path:
            return None
        told.manifests["1.0.0"] = request.body
        return Reply(status=502)

    told.instead = on("PUT", "/manifests/", Reply(status=400))
    assert push_file(server, source, second).status_code == 409
    assert "first" in server.send("GET", path).json()["values"]
    told.instead = lost
    assert push_file(server, source, second, query="?replace=true").status_code >= 500
    told.instead = lambda _request: None
    assert "second" in server.send("GET", path).json()["values"]


def test_what_the_audit_does_not_take_hides_no_reason_of_a_push(server: RunningServer, told: "Told", source: str):
    told.instead = on("PUT", "/manifests/", Reply(status=403))
    with psycopg.connect(server.database_url, autocommit=True) as connection:
        connection.execute(IN_THE_WAY_ONCE.replace("done", "failed").replace(" AND nextval('met') = 1", ""))
        try:
            refused = push_file(server, source, config_map_chart("unnoted", "1.0.0"))
        finally:
            connection.execute("DROP FUNCTION in_the_way CASCADE; DROP SEQUENCE met")
    assert "the registry refuses the credentials of the source" in refused.text


def test_the_audit_tells_the_end_of_a_push_though_another_transaction_was_in_the_way(
    server: RunningServer, told: "Told", source: str
):
    assert told
    with psycopg.connect(server.database_url, autocommit=True) as connection:
        connection.execute(IN_THE_WAY_ONCE)
        try:
            assert push_file(server, source, config_map_chart("met", "1.0.0")).status_code == 201
        finally:
            connection.execute("DROP FUNCTION in_the_way CASCADE; DROP SEQUENCE met")
    assert [outcome for outcome, _ in audited(server, source)] == ["done", "started"]


IN_THE_WAY_ONCE = """
CREATE SEQUENCE met;
GRANT USAGE ON SEQUENCE met TO PUBLIC;
CREATE FUNCTION in_the_way() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.action = 'cce:source:push' AND NEW.outcome = 'done' AND nextval('met') = 1 THEN
        RAISE EXCEPTION 'in the way' USING ERRCODE = '40001';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER in_the_way BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION in_the_way();
"""


def test_a_file_that_is_no_chart_is_refused_as_an_upload_is(server: RunningServer, source: str, told: "Told"):
    assert_error(push_file(server, source, b"no archive"), *INVALID, "gzip")
    archive = config_map_chart("chart", "1.0.0")
    assert_error(push_file(server, source, archive, provenance="files: {}"), *INVALID, "it is of another archive")
    no_form = server.send("POST", f"/api/v1/sources/{source}/archives", body=b"{}")
    assert no_form.status_code == 400, no_form.text
    assert not told.manifests


def test_wrong_credentials_and_missing_rights_push_nothing(server: RunningServer, running: Registry):
    chart = uploaded(server, config_map_chart(f"chart-{uuid.uuid4().hex[:8]}"))
    with added(server, running.as_source(named())) as source:
        reader = add_person(server, "CCE ReadOnlyAccess")
        assert_error(push(reader.server, source, chart), *DENIED, "cce:source:push")
        assert_error(push(server, source, str(uuid.uuid4())), *MISSING)
        assert_error(push(server, "no-such-source", chart), *MISSING)


class Told:
    """A registry without log-in that takes what it is sent; a test says what it answers instead."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, bytes] = {}
        self.instead: Callable[[Request], Reply | None] = lambda _request: None

    def answer(self, request: Request) -> Reply:
        return self.instead(request) or self._take(request)

    def _take(self, request: Request) -> Reply:
        path, _, query = request.path.partition("?")
        last = path.rpartition("/")[2]
        store = self.manifests if "/manifests/" in path else self.blobs
        if request.method == "POST":
            return Reply(status=202, headers={"Location": f"{path}some-upload?state=secret-state"})
        if request.method == "PUT":
            store[last if "/manifests/" in path else query.rpartition("digest=")[2]] = request.body
            return Reply(status=201)
        if path in ("/v2/", "/v2/_catalog"):
            return Reply(b'{"repositories": []}')
        if last == "list":
            return Reply(json.dumps({"tags": list(self.manifests)}).encode())
        if last not in store:
            return Reply(b"{}", 404)
        digest = f"sha256:{hashlib.sha256(store[last]).hexdigest()}"
        return Reply(store[last], headers={"Content-Type": MANIFEST, "Docker-Content-Digest": digest})


@pytest.fixture
def told(repo: Repository) -> Told:
    made = Told()
    repo.answers = made.answer
    return made


@pytest.fixture
def source(server: RunningServer, repo: Repository, told: Told) -> Iterator[str]:
    assert told
    url = repo.url.replace("https", "oci")
    body = {"name": named(), "kind": "oci", "url": f"{url}/team", "ca": repo.ca, "sync_seconds": 0}
    with added(server, {**body, "credentials": {"username": USER, "password": "the-password"}}) as made:
        yield made


@pytest.fixture(scope="module")
def chart(server: RunningServer) -> str:
    return uploaded(server, config_map_chart(f"chart-{uuid.uuid4().hex[:8]}", "1.0.0"))


def on(method: str, part: str, reply: Reply) -> Callable[[Request], Reply | None]:
    return lambda request: reply if request.method == method and part in request.path else None


@pytest.mark.parametrize(
    ("method", "part", "status", "error", "said"),
    [
        ("POST", "/uploads/", 403, FAILED, "or does not allow them to push"),
        ("PUT", "/uploads/", 413, INVALID, "takes no upload of that size"),
        ("POST", "/uploads/", 404, INVALID, "want it to be created before the first push"),
        ("POST", "/uploads/", 405, INVALID, "it may be a mirror"),
        ("PUT", "/manifests/", 500, FAILED, "answered 500 to the manifest of the chart"),
        ("PUT", "/manifests/", 200, INVALID, "that is no answer of a registry"),
        ("PUT", "/manifests/", 307, INVALID, "which is not followed"),
        ("POST", "/uploads/", 202, INVALID, "the chart"),
    ],
)
def test_what_a_registry_does_not_take_is_told(
    *, server: RunningServer, repo: Repository, told: Told, source: str, chart: str, method: str, part: str,
    status: int, error: tuple[int, str], said: str,
):  # fmt: skip
    told.instead = on(method, part, Reply(b"said by the registry", status, {"Location": f"{repo.url}/elsewhere"}))
    if status == 202:  # and then takes nothing there
        told.instead = on("POST", part, Reply(b"", 202, {"Location": "https://localhost:1/v2/"}))
    answer = push(server, source, chart)
    assert_error(answer, *error, said)
    assert "said by the registry" not in answer.text
    assert not told.manifests
    assert not [one for one in repo.requests if "elsewhere" in one.path]


def test_credentials_and_states_of_uploads_are_in_no_text(
    server: RunningServer, repo: Repository, told: Told, source: str, chart: str
):
    challenge = Reply(b"", 401, {"WWW-Authenticate": 'Basic realm="tests"'})
    told.instead = lambda request: challenge if "authorization" not in request.headers else None
    assert push(server, source, chart).status_code == 201
    assert "authorization" in repo.requests[-1].headers
    told.instead = lambda _request: challenge
    refused = push(server, source, chart)
    assert_error(refused, *FAILED, "it refuses the credentials given for it; 'pilothouse source update ")
    told.instead = on("PUT", "/uploads/", Reply(b"", 502))
    told.blobs.clear()
    failed = push(server, source, chart, replace=True)
    assert "secret-state" not in failed.text
    assert "the-password" not in refused.text + failed.text


def test_a_token_is_asked_for_with_the_right_to_push(
    server: RunningServer, repo: Repository, told: Told, source: str, chart: str
):
    def instead(request: Request) -> Reply | None:
        if request.path.startswith("/token"):
            return Reply(b'{"token": "t"}')
        if request.headers.get("authorization") != "Bearer t":
            return Reply(b"", 401, {"WWW-Authenticate": f'Bearer realm="{repo.url}/token",service="s"'})
        return None

    told.instead = instead
    assert push(server, source, chart).status_code == 201
    (asked, *_) = [one.path for one in repo.requests if one.path.startswith("/token")]
    assert asked.endswith("%3Apull%2Cpush"), asked


def test_a_registry_that_stores_another_manifest_is_found_out(
    server: RunningServer, told: Told, source: str, chart: str
):
    digest = f"sha256:{'0' * 64}"
    layer = {"mediaType": CHART, "digest": digest, "size": 1}
    config = {"mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": digest, "size": 1}
    other = json.dumps({"mediaType": MANIFEST, "config": config, "layers": [layer]}).encode()

    def instead(request: Request) -> Reply | None:
        if request.method == "GET" and "/manifests/" in request.path and told.manifests:
            return Reply(other, headers={"Content-Type": MANIFEST})
        return None

    told.instead = instead
    assert_error(push(server, source, chart), *INVALID, "somebody else may have pushed")


def test_a_tag_that_is_no_chart_is_taken_too(server: RunningServer, told: Told, source: str, chart: str):
    told.manifests["1.0.0"] = b'{"mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": []}'
    assert_error(push(server, source, chart), *TAKEN, "(no chart)")
    assert push(server, source, chart, replace=True).status_code == 201


def test_a_repository_takes_no_pushes(server: RunningServer, repo: Repository, chart: str):
    repo.files["index.yaml"] = b'{"apiVersion": "v1", "entries": {}}'
    with added(server, {"name": named(), "kind": "http", "url": repo.url, "ca": repo.ca, "sync_seconds": 0}) as made:
        assert_error(push(server, made, chart), *INVALID, "is an HTTP repository")
