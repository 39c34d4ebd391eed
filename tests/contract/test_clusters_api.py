"""Clusters are registered, shown, probed and forgotten; what could run code or leak is refused by name."""

import copy
import json
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
import yaml

from tests.support.hostile_clusters import hostile_cluster, release_secret
from tests.support.servers import RunningServer, free_port, wait_for
from tests.support.tenants import add_tenant
from tests.support.wire import assert_error

INVALID = (400, "CCE.01400001")
NOT_FOUND = (404, "CCE.01404001")
AWAY = (500, "CCE.01500001")


def fresh_name() -> str:
    return f"cluster-{uuid.uuid4().hex[:10]}"


@pytest.fixture(scope="module")
def document(kubeconfig: str) -> dict[str, Any]:
    """Return the cluster's kubeconfig, to be spoiled."""
    loaded: dict[str, Any] = yaml.safe_load(kubeconfig)
    return loaded


@pytest.fixture
def register(server: RunningServer) -> Iterator[Callable[..., httpx2.Response]]:
    """Register clusters that are forgotten after the test."""
    made = []

    def call(kubeconfig: str, *, name: str | None = None, **more: Any) -> httpx2.Response:
        body = {"name": name or fresh_name(), "kubeconfig": kubeconfig, **more}
        answer = server.send("POST", "/api/v1/clusters", json_body=body)
        if answer.status_code == 201:
            made.append(answer.json()["id"])
        return answer

    yield call
    for cluster_id in made:
        server.send("DELETE", f"/api/v1/clusters/{cluster_id}")


def spoiled(document: dict[str, Any], kind: str, **change: Any) -> str:
    """Return the kubeconfig with every cluster or user changed."""
    changed = copy.deepcopy(document)
    for entry in changed[f"{kind}s"]:
        entry[kind].update(change)
        entry[kind] = {key: value for key, value in entry[kind].items() if value is not None}
    return json.dumps(changed)


def test_a_cluster_is_registered_shown_listed_probed_and_forgotten(
    server: RunningServer, register: Callable[..., httpx2.Response], kubeconfig: str
):
    name = fresh_name()
    answer = register(kubeconfig, name=name)
    assert answer.status_code == 201, answer.text
    cluster = answer.json()
    assert set(cluster) == {"id", "name", "server", "wait", "created_at", "wall", "drift_seconds"}
    assert (cluster["name"], cluster["server"][:8], cluster["wait"]) == (name, "https://", "hooks")
    assert cluster["wall"] is None, "none unless an administrator of the account sets one"
    path = f"/api/v1/clusters/{cluster['id']}"
    shown = server.send("GET", path).json()
    told = {"listed", "age_seconds", "error", "truncated", "unreadable", "unreadable_secrets"}
    assert set(shown.pop("index")) == told
    assert shown.pop("drift") == {"seconds": 0, "requests_per_second": 0}
    others = shown.pop("also_registered_as")
    assert server.send("GET", f"/api/v1/clusters/{server.cluster_id}").json()["name"] in others
    assert name not in others
    assert shown == cluster
    assert cluster in server.send("GET", "/api/v1/clusters").json()
    probe = server.send("GET", f"{path}/probe")
    assert (probe.status_code, probe.json()["reachable"]) == (200, True)
    assert probe.json()["version"].startswith("v1.")
    releases = f"/cce/cam/v3/clusters/{cluster['id']}/releases"
    assert server.send("GET", releases).status_code == 200

    removed = server.send("DELETE", path)
    assert (removed.status_code, removed.content) == (204, b"")
    assert len(removed.headers["x-request-id"]) == 32
    for method, gone in (("GET", path), ("GET", f"{path}/probe"), ("DELETE", path), ("GET", releases)):
        assert_error(server.send(method, gone), *NOT_FOUND, cluster["id"])
    assert cluster not in server.send("GET", "/api/v1/clusters").json()


def test_a_name_in_use_is_a_conflict(server: RunningServer, register: Callable[..., httpx2.Response], kubeconfig: str):
    name = fresh_name()
    first = register(kubeconfig, name=name)
    assert first.status_code == 201, first.text
    assert_error(register(kubeconfig, name=name), 409, "CCE.01409001", name)
    assert server.send("DELETE", f"/api/v1/clusters/{first.json()['id']}").status_code == 204
    assert register(kubeconfig, name=name).status_code == 201


def test_another_projects_cluster_does_not_exist(server: RunningServer, kubeconfig: str):
    other = add_tenant(server)
    path = f"/api/v1/clusters/{server.cluster_id}"
    for method, target in (("GET", path), ("GET", f"{path}/probe"), ("DELETE", path)):
        assert_error(other.send(method, target), *NOT_FOUND)
    assert server.send("GET", path).status_code == 200
    name = server.send("GET", path).json()["name"]
    body = {"name": name, "kubeconfig": kubeconfig}
    made = other.send("POST", "/api/v1/clusters", json_body=body)
    assert made.status_code == 201, made.text
    assert other.send("DELETE", f"/api/v1/clusters/{made.json()['id']}").status_code == 204


REFUSED: list[tuple[str, str, Any]] = [
    ("user", "exec", {"apiVersion": "client.authentication.k8s.io/v1", "command": "touch", "args": ["/tmp/pwned"]}),
    ("user", "auth-provider", {"name": "gcp", "config": {"cmd-path": "/bin/sh"}}),
    ("user", "tokenFile", "/etc/passwd"),
    ("user", "client-certificate", "/etc/ssl/cert.pem"),
    ("user", "client-key", "/etc/ssl/key.pem"),
    ("user", "username", "admin"),
    ("user", "password", "hunter2hunter2"),
    ("cluster", "proxy-url", "http://evil.example:3128"),
    ("cluster", "certificate-authority", "/etc/ssl/ca.pem"),
    ("cluster", "insecure-skip-tls-verify", True),
]


@pytest.mark.parametrize(("kind", "key", "value"), REFUSED, ids=[key for _, key, _ in REFUSED])
def test_what_runs_code_reads_files_or_leads_away_is_refused_by_name(
    register: Callable[..., httpx2.Response], document: dict[str, Any], kind: str, key: str, value: Any
):
    message = assert_error(register(spoiled(document, kind, **{key: value})), *INVALID, key, "refused")
    assert "hunter2" not in message


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "kubeconfig"),
        ("{", "YAML"),
        ("- a\n- b\n", "map"),
        ("just text", "map"),
        ("kind: Pod\n", "Pod"),
        ("apiVersion: v1\nkind: Config\n", "contexts"),
        ("a: &x [1]\nb: *x\n", "aliases"),
        ("a: !!python/object/apply:os.system ['true']\n", "tags"),
        ("[" * 5000, "levels"),
        ("contexts:\n- name: \u0001\n", ""),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_text_that_is_no_kubeconfig_is_refused(register: Callable[..., httpx2.Response], text: str, word: str):
    assert_error(register(text), *INVALID, word)


def test_a_body_that_is_too_large_for_a_kubeconfig_is_refused(register: Callable[..., httpx2.Response]):
    assert_error(register("x" * (1024 * 1024 + 1)), 413, "APIGW.0201", "1048576")


@pytest.mark.parametrize(
    ("kind", "change", "word"),
    [
        ("cluster", {"server": None}, "server"),
        ("cluster", {"server": "http://127.0.0.1:6443"}, "https"),
        ("cluster", {"server": "https://admin:s3cr3t-pass@127.0.0.1:6443"}, "https"),
        ("cluster", {"server": "https://169.254.169.254/"}, "metadata"),
        ("cluster", {"server": "https://0.0.0.0"}, "server"),
        ("cluster", {"certificate-authority-data": "not base64!"}, "certificate-authority-data"),
        ("cluster", {"certificate-authority-data": "YWJj"}, "certificate-authority-data"),
        ("user", {"client-certificate-data": "YWJj", "client-key-data": None, "token": None}, "client-key-data"),
        ("user", {"client-certificate-data": None, "client-key-data": None, "token": None}, "credentials"),
        ("user", {"token": "s3cr3t-pass with blanks"}, "token"),
        ("user", {"client-certificate-data": "YWJj", "client-key-data": "czNjcjN0LXBhc3M="}, "certificate-data"),
    ],
)
def test_a_kubeconfig_that_cannot_work_is_refused_with_the_name_of_its_key(
    register: Callable[..., httpx2.Response], document: dict[str, Any], kind: str, change: dict[str, Any], word: str
):
    answer = register(spoiled(document, kind, **change))
    message = assert_error(answer, *INVALID, word)
    assert "s3cr3t-pass" not in message
    assert "czNjcjN0LXBhc3M=" not in message


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": "x"}, "kubeconfig"),
        ({"name": 7, "kubeconfig": "x"}, "name"),
        ({"name": "x", "kubeconfig": {}}, "kubeconfig"),
        ({"name": "x", "kubeconfig": "x", "context": 1}, "context"),
        ({"name": "x", "kubeconfig": "x", "kubeConfig": "x"}, "kubeConfig"),
        ({"name": "x", "kubeconfig": "a\u0000b"}, "kubeconfig"),
        *[
            ({"name": name, "kubeconfig": "x"}, "name")
            for name in ("", "Upper", "a" * 129, "1a", "a-", "\u00e9", "a_b")
        ],
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_bad_registration_is_refused_with_the_name_of_its_field(
    server: RunningServer, body: dict[str, Any], field: str
):
    assert_error(server.send("POST", "/api/v1/clusters", json_body=body), *INVALID, field)


def test_an_unknown_context_is_refused_and_the_known_ones_are_told(
    register: Callable[..., httpx2.Response], document: dict[str, Any]
):
    answer = register(json.dumps(document), context="elsewhere")
    assert_error(answer, *INVALID, "elsewhere", document["contexts"][0]["name"])
    chosen = register(json.dumps(document | {"current-context": ""}), context=document["contexts"][0]["name"])
    assert chosen.status_code == 201, chosen.text


def test_a_wrong_token_is_told_apart_from_an_unreachable_server(
    register: Callable[..., httpx2.Response], document: dict[str, Any]
):
    token = {"client-certificate-data": None, "client-key-data": None, "token": "wrong-but-secret-token"}
    message = assert_error(register(spoiled(document, "user", **token)), *AWAY, "refuses the registered account", "401")
    assert "wrong-but-secret-token" not in message


def test_a_server_that_cannot_be_reached_is_named_and_only_the_log_has_the_cause(
    server: RunningServer, register: Callable[..., httpx2.Response], document: dict[str, Any]
):
    places = {
        f"https://127.0.0.1:{free_port()}": "Connection refused",
        server.url.replace("http://", "https://"): "TLS failed",
    }
    texts = [spoiled(document, "cluster", server=address) for address in places]
    texts.append(spoiled(document, "cluster", **{"certificate-authority-data": None}))
    for text in texts:
        told = assert_error(register(text), *AWAY, "cannot be reached as a Kubernetes API server")
        assert not any(word in told for word in ("refused", "TLS", "certificate"))
    log = (server.data_dir.parent / "serve.log").read_text()
    assert all(cause in log for cause in (*places.values(), "certificate is not trusted"))


def test_the_command_line_names_the_request_of_a_failure(
    server: RunningServer, document: dict[str, Any], tmp_path: Path
):
    file = tmp_path / "kubeconfig"
    file.write_text(spoiled(document, "cluster", server=f"https://127.0.0.1:{free_port()}"))

    done = server.command("cluster", "add", fresh_name(), "--kubeconfig", str(file))

    assert (done.returncode, done.stdout) == (1, "")
    told = re.fullmatch(
        r"pilothouse: .*cannot be reached as a Kubernetes API server.*\(in the server's log: request (\S+)\)\n",
        done.stderr,
    )
    assert told is not None, done.stderr
    log = (server.data_dir.parent / "serve.log").read_text()
    assert any("Connection refused" in line and told[1] in line for line in log.splitlines())


def test_credentials_never_appear_in_an_answer(
    server: RunningServer, register: Callable[..., httpx2.Response], document: dict[str, Any], kubeconfig: str
):
    secrets = [
        value
        for entry in document["users"]
        for key, value in entry["user"].items()
        if key in {"token", "client-key-data", "client-certificate-data"}
    ]
    assert secrets
    name = fresh_name()
    made = register(kubeconfig, name=name)
    path = f"/api/v1/clusters/{made.json()['id']}"
    answers = [made, register(kubeconfig, name=name), register(kubeconfig, name="Bad Name"), server.send("GET", path)]
    answers += [server.send("GET", "/api/v1/clusters"), server.send("GET", f"{path}/probe")]
    answers += [register(kubeconfig + "\x00"), register(kubeconfig, context="none")]
    for answer in answers:
        for secret in secrets:
            assert secret not in answer.text
            assert secret[40:100] not in answer.text
        assert "PRIVATE KEY" not in answer.text


def test_the_command_line_registers_lists_probes_and_forgets(server: RunningServer, kubeconfig: str, tmp_path: Path):
    file = tmp_path / "kube config"
    file.write_text(kubeconfig)
    name = fresh_name()
    added = server.command("cluster", "add", name, "--kubeconfig", str(file), "-o", "json")
    assert (added.returncode, "the same API server is registered as" in added.stderr) == (0, True), added.stderr
    cluster = json.loads(added.stdout)
    assert cluster["name"] == name
    listed = server.command("cluster", "list", "-o", "json")
    assert cluster in json.loads(listed.stdout)
    assert "reachable, Kubernetes v1." in server.command("cluster", "probe", cluster["id"]).stdout
    again = server.command("cluster", "add", name, "--kubeconfig", str(file))
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr.startswith("pilothouse: ")
    assert name in again.stderr
    removed = server.command("cluster", "remove", cluster["id"])
    assert removed.returncode == 0
    assert cluster["id"] in removed.stdout
    gone = server.command("cluster", "show", cluster["id"])
    assert (gone.returncode, gone.stdout) == (1, "")
    assert "does not exist" in gone.stderr


def test_credentials_are_replaced_by_the_same_checks_as_at_registration(
    server: RunningServer, register: Callable[..., httpx2.Response], kubeconfig: str, document: dict[str, Any]
):
    cluster = register(kubeconfig).json()
    path = f"/api/v1/clusters/{cluster['id']}"

    def replace(text: str, *, query: str = "", **more: Any) -> httpx2.Response:
        return server.send("PUT", f"{path}/kubeconfig{query}", json_body={"kubeconfig": text, **more})

    assert_error(replace(spoiled(document, "user", exec={"command": "touch"})), *INVALID, "exec", "refused")
    token = {"client-certificate-data": None, "client-key-data": None, "token": "wrong-but-secret-token"}
    assert_error(replace(spoiled(document, "user", **token)), *AWAY, "refuses the registered account")
    assert_error(replace(kubeconfig, query="?force=maybe"), *INVALID, "force")
    assert_error(replace(kubeconfig, context="elsewhere"), *INVALID, "elsewhere")
    assert server.send("GET", f"{path}/probe").status_code == 200, "the old ones stay"
    named = spoiled(document, "cluster", **{"tls-server-name": "kubernetes.default.svc"})
    done = replace(named)
    assert (done.status_code, done.json()) == (200, cluster)
    assert server.send("GET", f"{path}/probe").status_code == 200
    with psycopg.connect(server.database_url) as connection:
        rows = connection.execute("SELECT action FROM audit WHERE target = %s ORDER BY id", [cluster["id"]]).fetchall()
    assert rows == [("cce:cluster:create",), ("cce:cluster:update",)]
    assert_error(add_tenant(server).send("PUT", f"{path}/kubeconfig", json_body={"kubeconfig": named}), *NOT_FOUND)


def test_another_cluster_in_its_place_is_refused_unless_forced(
    server: RunningServer, register: Callable[..., httpx2.Response], kubeconfig: str, tmp_path: Path
):
    cluster_id = register(kubeconfig).json()["id"]
    server.wait_until_listed(cluster_id)
    path = f"/api/v1/clusters/{cluster_id}/kubeconfig"
    with hostile_cluster(tmp_path) as other:
        other.secrets = [release_secret("theirs")]
        body = {"kubeconfig": other.kubeconfig}
        assert_error(server.send("PUT", path, json_body=body), *INVALID, "another cluster", "force")
        assert server.send("PUT", f"{path}?force=true", json_body=body).status_code == 200
        releases = f"/cce/cam/v3/clusters/{cluster_id}/releases"
        wait_for(lambda: [one["name"] for one in server.send("GET", releases).json()] == ["theirs"], seconds=10)
        server.wait_until_listed(cluster_id)
        assert [one["name"] for one in server.send("GET", releases).json()] == ["theirs"]
        assert server.send("DELETE", f"/api/v1/clusters/{cluster_id}").status_code == 204


def test_commands_take_a_clusters_name(server: RunningServer, kubeconfig: str, tmp_path: Path):
    file = tmp_path / "config"
    file.write_text(kubeconfig)
    name = fresh_name()
    made = json.loads(server.command("cluster", "add", name, "--kubeconfig", str(file), "-o", "json").stdout)
    updated = server.command("cluster", "update", name, "--kubeconfig", str(file), "-o", "json")
    assert (updated.stderr, json.loads(updated.stdout)) == ("", made)
    assert "reachable" in server.command("cluster", "probe", name).stdout
    assert json.loads(server.command("cluster", "show", name, "-o", "json").stdout)["id"] == made["id"]
    assert server.command("operation", "list", "--cluster", name, "-o", "json").stdout.strip() == "[]"
    unlocked = server.command("release", "unlock", "web", "--cluster", name, "-n", "default", "--reason", "test")
    assert "does not exist" in unlocked.stderr
    assert name in server.command("cluster", "remove", name).stdout
    gone = server.command("cluster", "show", name)
    assert (gone.returncode, gone.stdout) == (1, "")
    assert f"no cluster of this project is named {name!r}" in gone.stderr


@pytest.mark.parametrize(
    ("variables", "word"),
    [
        ({"PILOTHOUSE_URL": "http://127.0.0.1:AWAY"}, "no Pilothouse server answers"),
        ({"CLOUD_SDK_AK": ""}, "CLOUD_SDK_AK"),
        ({"CLOUD_SDK_SK": "wrong" * 8}, "the secret key is not that of access key"),
    ],
    ids=["server-away", "no-key", "wrong-secret"],
)
def test_the_command_line_says_what_went_wrong_without_a_traceback(
    server: RunningServer, variables: dict[str, str], word: str
):
    given = {name: value.replace("AWAY", str(free_port())) for name, value in variables.items()}
    done = server.command("cluster", "list", "-o", "json", variables=given)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("pilothouse: ")
    assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert server.secret_key not in done.stderr


def test_how_often_a_cluster_is_looked_at_for_drift_is_set_told_and_audited(
    server: RunningServer, register: Callable[..., httpx2.Response], kubeconfig: str
):
    """The server of the tests makes no periodic looks: an interval is refused, with who can change that."""
    name = fresh_name()
    path = f"/api/v1/clusters/{register(kubeconfig, name=name).json()['id']}"
    shown = server.send("GET", path).json()
    assert (shown["drift_seconds"], shown["drift"]) == (None, {"seconds": 0, "requests_per_second": 0})
    assert "not looked at (the server makes no looks)" in server.command("cluster", "show", name).stdout

    refused = server.send("PUT", f"{path}/drift", json_body={"seconds": 600})
    assert_error(refused, *INVALID, "seconds: this server makes no periodic looks at drift")
    for seconds in (59, 2_592_001, -1):
        refused = server.send("PUT", f"{path}/drift", json_body={"seconds": seconds})
        assert_error(refused, *INVALID, f"seconds: {seconds} is not between 60 and 2592000")
    for body in ({}, {"seconds": "600"}, {"seconds": 1.5}):
        assert_error(server.send("PUT", f"{path}/drift", json_body=body), *INVALID, "seconds")

    assert server.send("PUT", f"{path}/drift", json_body={"seconds": 0}).json()["drift_seconds"] == 0
    audit = server.send("GET", f"/api/v1/audit?target={path.rpartition('/')[2]}").json()
    assert "looks at drift: none" in [one["detail"] for one in audit], audit
    assert server.command("cluster", "update", name, "--drift-seconds", "default").returncode == 0
    assert server.send("GET", path).json()["drift_seconds"] is None
    wrong = server.command("cluster", "update", name, "--drift-seconds", "soon")
    assert wrong.returncode == 2
    assert "'soon' is neither a whole number of seconds nor 'default'" in wrong.stderr
