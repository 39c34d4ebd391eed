"""Secrets do not leave: a marker is planted in every kind, everything is made to go well and wrong, and all that left
is searched: answers, logs, what the commands print, and every column of the database that is not sealed."""

import base64
import json
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
import psycopg
import pytest
import yaml
from lightkube import Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Secret

from pilothouse.auth.key_file import read_keys
from pilothouse.store.sealed import SUFFIX
from tests.support.chart_sources import Reply, repository
from tests.support.charts import build_chart, config_map_template
from tests.support.servers import RunningServer, open_folder, run_server
from tests.support.tokens import ask, login, send, token_of
from tools.localcluster.cluster import RunningCluster

SCHEMA = json.dumps({"type": "object", "properties": {"picky": {"type": "string", "pattern": "^[0-9]*$"}}})
TEMPLATES = {
    "config.yaml": config_map_template(),
    "fails.yaml": '{{ if .Values.fails }}{{ fail (printf "will not have %s" .Values.word) }}{{ end }}',
    "types.yaml": "{{ if .Values.types }}{{ add1 .Values.word | int | .Values.word.nothing }}{{ end }}",
    "broken.yaml": "{{ if .Values.breaks }}a: [{{ .Values.word }}\n{{ end }}",
    "service.yaml": (
        "{{ if .Values.refused }}\napiVersion: v1\nkind: Service\nmetadata: {name: {{ .Release.Name }}}\n"
        "spec: {type: {{ .Values.word | quote }}, ports: [{port: 80}]}\n{{ end }}"
    ),
    "lookup.yaml": (
        '{{ if .Values.looks }}{{ $found := lookup "v1" "Secret" .Release.Namespace .Values.looks }}'
        '{{ fail (printf "found %s and %s" $found.data.word ($found.data.word | b64dec)) }}{{ end }}'
    ),
    "spins.yaml": "{{ if .Values.spins }}{{ tpl .Values.spins . }}{{ end }}",
}


@dataclass
class Left:
    """What left the server, and where it was seen."""

    texts: list[tuple[str, str]] = field(default_factory=list)

    def answer(self, answer: httpx2.Response, *, without: str = "") -> httpx2.Response:
        """Return an answer whose ``without`` key is what it was asked for."""
        text = answer.text
        if without and answer.content:
            body = answer.json()
            for one in body if isinstance(body, list) else [body]:
                one.pop(without, None)
            text = json.dumps(body)
        where = f"{answer.request.method} {answer.request.url.path} → {answer.status_code}"
        self.texts.append((where, text))
        headers = {name: value for name, value in answer.headers.items() if name != "x-subject-token"}
        self.texts.append((f"{where}, headers", json.dumps(headers)))
        return answer


def marker(kind: str) -> str:
    return f"{kind}x{uuid.uuid4().hex[:16]}"


@pytest.fixture(scope="module")
def debug_server(kubeconfig: str) -> Iterator[RunningServer]:
    with open_folder() as folder:
        environment = {"PILOTHOUSE_LOG_LEVEL": "debug", "PILOTHOUSE_LOG_FORMAT": "json"}
        with run_server(folder, kubeconfig=kubeconfig, environment=environment) as running:
            yield running


@pytest.fixture
def secret_in_cluster(kubernetes: RunningCluster, namespace: str) -> tuple[str, str]:
    """Name and content of a Secret that the release's chart can look up."""
    word = marker("secretdata")
    api = Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False)
    api.create(Secret(metadata=ObjectMeta(name="kept", namespace=namespace), stringData={"word": word}))
    api.close()
    return "kept", word


def columns(url: str) -> Iterator[tuple[str, str]]:
    """Every value of the database that is not sealed, as text."""
    with psycopg.connect(url) as connection:
        named = connection.execute(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
            " AND table_name || '.' || column_name <> 'chart_archives.content'"
        ).fetchall()
        for table, column in named:
            if not column.endswith(SUFFIX):
                query = psycopg.sql.SQL("SELECT {}::text FROM {}").format(
                    psycopg.sql.Identifier(column), psycopg.sql.Identifier(table)
                )
                for (text,) in connection.execute(query):
                    yield f"{table}.{column}", text or ""


def search(left: Left, secrets: dict[str, str]) -> list[str]:
    """Where which secret was seen, in any of its usual spellings."""
    found = []
    for kind, secret in secrets.items():
        encoded = base64.b64encode(secret.encode()).decode()
        # Base64 inside a longer one begins at any of three places; without the ends, two of three thirds are equal.
        spellings = {secret, json.dumps(secret)[1:-1], encoded, encoded.rstrip("=")[:-1]}
        found += [
            f"{kind} in {where}: …{text[max(0, place - 80) : place + 80]}…"
            for where, text in left.texts
            for spelling in spellings
            if (place := text.find(spelling)) >= 0
        ]
    return found


def drive_releases(server: RunningServer, left: Left, *, namespace: str, word: str, looks: str) -> None:
    """Create releases with every outcome, dry and real, with the marker among the values."""
    chart = build_chart("leaky", "1.0.0", templates=TEMPLATES, values={"text": "hello"}, schema=SCHEMA)
    chart_id = left.answer(server.upload(chart)).json()["id"]
    spin = "{{ tpl .Values.spins . }}"
    cases: dict[str, dict[str, Any]] = {
        "works": {},
        "fails": {"fails": True},
        "types": {"types": True},
        "breaks": {"breaks": True},
        "picky": {"picky": word},
        "refused": {"refused": True},
        "looks": {"looks": looks},
        "spins": {"spins": spin},
    }
    for name, more in cases.items():
        values = {"text": word, "word": word, "db": {"password": word, "list": [{"x": f"{word}-nested"}]}, **more}
        body = {"name": name, "namespace": namespace, "chart_id": chart_id, "version": "1.0.0", "values": values}
        dry = left.answer(server.create(**body, parameters={"dry_run": True}), without="values")
        assert dry.status_code == (201 if name in {"works", "refused"} else 400), dry.text
        if name == "spins":
            continue
        made = left.answer(server.create(**body), without="values")
        assert made.status_code == 201, made.text
        ended = server.wait_until_final(namespace, name)
        assert ended["status"] == ("DEPLOYED" if name == "works" else "FAILED"), ended
        left.answer(server.show(namespace, name), without="values")
    left.answer(server.send("GET", f"/cce/cam/v3/clusters/{server.cluster_id}/releases"), without="values")
    history = f"/cce/cam/v3/clusters/{server.cluster_id}/namespace/{namespace}/releases/refused/history"
    left.answer(server.send("GET", history), without="values")


def drive_identity(server: RunningServer, left: Left, *, password: str) -> str:
    """Log-ins and users, right and wrong; gives a token."""
    token = token_of(server)
    left.answer(send(server, "GET", "/v2/charts", token=token))
    left.answer(send(server, "GET", "/v2/charts", token=token[:-1] + ("A" if token[-1] != "A" else "B")))
    left.answer(ask(server, login(password)))
    left.answer(ask(server, {"auth": {"identity": {"methods": ["password"], "password": password}}}))
    left.answer(
        server.send("POST", "/api/v1/users", json_body={"name": "ann", "password": password}), without="password"
    )
    left.answer(server.send("POST", "/api/v1/users", json_body={"name": 5, "password": password}))
    left.answer(server.send("POST", "/api/v1/users", body=b'{"password": "' + password.encode() + b'", '))
    left.answer(server.send("GET", "/v2/charts", secret_key=server.secret_key[::-1]))
    left.answer(server.send("GET", "/v2/charts", headers={"X-Sdk-Content-Sha256": "x"}))
    return token


def drive_clusters(server: RunningServer, left: Left, *, kubeconfig: str, word: str) -> None:
    """Kubeconfigs that work, are refused, lead nowhere, or hold wrong credentials."""

    def register(change: Callable[[dict[str, Any]], object]) -> None:
        changed = yaml.safe_load(kubeconfig)
        changed["users"][0]["user"] = {"token": word}
        change(changed)
        body = {"name": marker("cluster"), "kubeconfig": yaml.safe_dump(changed)}
        left.answer(server.send("POST", "/api/v1/clusters", json_body=body))

    register(lambda _: None)
    register(lambda config: config["users"][0]["user"].update(exec={"command": word}))
    register(lambda config: config["clusters"][0]["cluster"].update(server="https://127.0.0.1:1"))
    register(lambda config: config["users"][0]["user"].update({"client-key-data": word}))
    register(lambda config: config.update(users=[]))
    body = {"name": "torn", "kubeconfig": f"users: [{{user: {{token: {word}"}
    left.answer(server.send("POST", "/api/v1/clusters", json_body=body))
    left.answer(server.send("GET", "/api/v1/clusters"))
    left.answer(server.send("GET", f"/api/v1/clusters/{server.cluster_id}/probe"))


def drive_sources(server: RunningServer, left: Left, *, word: str) -> None:
    """Sources of both kinds whose password is taken, refused, sent back, or given again."""
    given = {"username": "reader", "password": word}
    bad = [
        Reply(status=401, headers={"WWW-Authenticate": f'Basic realm="{word}"'}),
        Reply(status=302, headers={"Location": f"https://169.254.169.254/?password={word}"}),
        Reply(f"apiVersion: v1\nentries: [{word}".encode()),
        Reply(word.encode(), headers={"Content-Type": "application/json"}),
        Reply(f'{{"errors": [{{"message": "{word}"}}]}}'.encode(), status=503),
    ]
    with repository() as serving:
        for kind, good in (("http", b"apiVersion: v1\nentries: {}\n"), ("oci", b'{"repositories": []}')):
            url = serving.url if kind == "http" else serving.url.replace("https", "oci")
            name = f"leaky-{kind}"
            body = {"name": name, "kind": kind, "url": url, "ca": serving.ca, "credentials": given, "sync_seconds": 0}
            path = f"/api/v1/sources/{name}"

            def answer_by(reply: Reply) -> None:
                serving.answers = lambda _request: reply

            for reply in bad:
                answer_by(reply)
                assert left.answer(server.send("POST", "/api/v1/sources", json_body=body)).status_code >= 400
            answer_by(Reply(good))
            assert left.answer(server.send("POST", "/api/v1/sources", json_body=body)).status_code == 201
            for reply in bad:
                answer_by(reply)
                left.answer(server.send("POST", f"{path}/sync"))
                left.answer(server.send("PATCH", path, json_body={"credentials": given}))
                left.answer(server.send("GET", f"{path}/charts/web/1.0.0"))
                left.answer(server.send("GET", path))
            left.answer(server.send("PATCH", path, json_body={"credentials": {"username": word[:5], "password": 5}}))
            left.answer(server.send("GET", f"/api/v1/audit?target={name}"))
            left.texts.append(("source show", server.command("source", "show", name).stdout))


def test_no_secret_leaves(
    debug_server: RunningServer, namespace: str, secret_in_cluster: tuple[str, str], kubeconfig: str
):
    server, left = debug_server, Left()
    name, secret_data = secret_in_cluster
    planted = {
        "a value": marker("value"),
        "a password": marker("password"),
        "a kubeconfig's token": marker("kubetoken"),
        "data of a Secret": secret_data,
        "a source's password": marker("sourcepassword"),
    }
    drive_releases(server, left, namespace=namespace, word=planted["a value"], looks=name)
    token = drive_identity(server, left, password=planted["a password"])
    drive_clusters(server, left, kubeconfig=kubeconfig, word=planted["a kubeconfig's token"])
    drive_sources(server, left, word=planted["a source's password"])
    for words in (
        ("cluster", "list"),
        ("chart", "list"),
        ("user", "list"),
        ("cluster", "show", "nothing"),
        ("--help",),
    ):
        done = server.command(*words)
        left.texts.append((f"pilothouse {' '.join(words)}", done.stdout + done.stderr))

    folder = server.data_dir.parent
    log = (folder / "serve.log").read_text()
    assert "request_served" in log
    left.texts += [("serve.log", line) for line in log.splitlines()]
    left.texts += [(path.name, path.read_text(errors="replace")) for path in folder.rglob("*.log") if path.is_file()]
    left.texts += list(columns(server.database_url))

    keys = read_keys(server.data_dir / "master.key").keys
    secrets = planted | {
        "the access key's secret": server.secret_key,
        "the first password": server.password,
        "a token": token,
        "the cluster's own token": yaml.safe_load(kubeconfig)["users"][0]["user"]["token"],
        "the database's password": (server.data_dir / "postgres.password").read_text().strip(),
        "the master key": base64.b64encode(keys[0].secret).decode(),
        "the server's private key": (server.data_dir / "tls" / "server.key").read_text().splitlines()[1],
    }
    assert search(left, secrets) == []
    said = "\n".join(text for _, text in left.texts)
    assert "will not have ***" in said
    assert "found *** and ***" in said
    assert 'Unsupported value: \\"***\\"' in said


def test_the_search_finds_what_is_there():
    left = Left([("here", "a " + base64.b64encode(b"markerx0123456789").decode() + " b")])
    assert re.match("it in here", search(left, {"it": "markerx0123456789"})[0])
