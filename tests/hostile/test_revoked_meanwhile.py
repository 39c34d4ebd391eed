"""Who loses its rights while a request of its own goes on is told nothing more, and stores nothing."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest

from pilothouse.auth.signing import SignedRequest, body_digest, sign
from tests.contract.test_policies import attach, statement
from tests.support.charts import build_chart, config_map_template, hook_job_template
from tests.support.hostile_clusters import answer, hostile_cluster, release_secret
from tests.support.servers import RunningServer, open_folder, run_server, wait_for
from tests.support.tokens import send
from tests.support.users import PASSWORD, Person, add_person
from tests.support.wire import assert_error

SLOW = """\
    metadata: {annotations: {pilothouse.dev/simulate: slow, pilothouse.dev/simulate-delay: 60s}}
    spec:
      restartPolicy"""
#: Some seconds of an engine child.
COUNTING = "{{ range until 15000 }}{{ range until 8000 }}{{ end }}{{ end }}"


@pytest.fixture(scope="module")
def asking(kubeconfig: str) -> Iterator[RunningServer]:
    """Yield a server whose streams ask every second, and that lets a user wait for three releases."""
    often = {"PILOTHOUSE_IDENTITY__ASK_AGAIN_SECONDS": "1", "PILOTHOUSE_WAITS_PER_USER": "3"}
    with open_folder() as folder, run_server(folder, kubeconfig=kubeconfig, environment=often) as running:
        yield running


class Follower:
    """An event stream that is read beside the test; ``last`` is what it was told last, ``over`` that it ended."""

    def __init__(self, server: RunningServer, operation_id: str, *, token: str = "") -> None:
        self.last, self.over, self.open = "", False, threading.Event()
        self._request = httpx2.Request(
            "GET", f"{server.url}/api/v1/operations/{operation_id}/events", headers={"Accept": "text/event-stream"}
        )
        if token:
            self._request.headers["X-Auth-Token"] = token
        else:
            signed = SignedRequest(
                method="GET",
                raw_path=self._request.url.raw_path,
                query_string=b"",
                headers=[(b"host", self._request.headers["host"].encode())],
                body_digest=body_digest(b""),
                body_empty=True,
            )
            proof = sign(signed, access_key=server.access_key, secret_key=server.secret_key, now=datetime.now(UTC))
            self._request.headers.update(proof)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        assert self.open.wait(30)

    def close(self) -> None:
        self._thread.join(60)

    def _read(self) -> None:
        with httpx2.Client(timeout=90, trust_env=False) as http:
            answer = http.send(self._request, stream=True)
            assert answer.status_code == 200, answer.read()
            self.open.set()
            for line in answer.iter_lines():
                if line.startswith("event: "):
                    self.last = line.removeprefix("event: ")
            answer.close()
        self.over = True


def install_slowly(server: RunningServer, namespace: str) -> str:
    """Return the id of an operation that is at work for a minute, on the release "slow"."""
    hook = hook_job_template("pre-install").replace("    spec:\n      restartPolicy", SLOW)
    archive = build_chart("slow", templates={"c.yaml": config_map_template(), "hook.yaml": hook}, values={"text": "x"})
    chart = server.upload(archive, parameters='{"override": true}').json()["id"]
    made = server.create(chart_id=chart, namespace=namespace, name="slow", version="0.1.0", values={})
    assert made.status_code == 201, made.text
    return str(made.headers["x-operation-id"])


def take_away(server: RunningServer, people: list[Person], tokens: dict[str, str]) -> None:
    """From each of six people its rights in another way; the fourth and the fifth use their token."""
    disabled, deleted, withdrawn, revoked, renewed, keyless = people
    for method, path, body in (
        ("PATCH", f"/api/v1/users/{disabled.id}", {"enabled": False}),
        ("DELETE", f"/api/v1/users/{deleted.id}", None),
        ("DELETE", f"/api/v1/users/{withdrawn.id}/roles/readonly", None),
        ("PUT", f"/api/v1/users/{renewed.id}/password", {"password": "another password"}),
        ("DELETE", f"/api/v1/accesskeys/{keyless.server.access_key}", None),
    ):
        assert server.send(method, path, json_body=body).is_success
    ended = server.send("DELETE", "/v3/auth/tokens", headers={"X-Subject-Token": tokens[revoked.id]})
    assert ended.status_code == 204


def cancel(server: RunningServer, operation: str) -> None:
    assert server.send("POST", f"/api/v1/operations/{operation}/cancel", json_body={}).is_success


def wait_for_release(server: RunningServer, namespace: str, *, token: str = "") -> tuple[httpx2.Response, float]:
    """Return the answer to a request that waits for the release "slow", and how long it took."""
    path = f"/cce/cam/v3/clusters/{server.cluster_id}/namespace/{namespace}/releases/slow"
    headers, started = {"Prefer": "wait=30"}, time.monotonic()
    found = (
        send(server, "GET", path, token=token, headers=headers) if token else server.send("GET", path, headers=headers)
    )
    return found, time.monotonic() - started


def test_every_way_of_losing_them_ends_the_stream_and_nobody_elses(asking: RunningServer, namespace: str):
    operation = install_slowly(asking, namespace)
    people = [add_person(asking, "readonly") for _ in range(6)]
    tokens = {one.id: one.token() for one in people[3:5]}
    control = Follower(asking, operation)
    followers = [Follower(one.server, operation, token=tokens.get(one.id, "")) for one in people]
    time.sleep(2.5)
    assert [one.over for one in followers] == [False] * 6

    take_away(asking, people, tokens)

    wait_for(lambda: all(one.over for one in followers), seconds=15)
    assert [one.last for one in followers] == ["refused"] * 6
    assert not control.over
    cancel(asking, operation)
    wait_for(lambda: control.over, seconds=60)
    assert control.last == "end"
    for one in (control, *followers):
        one.close()


def test_every_way_of_losing_them_ends_a_wait_and_nobody_elses(asking: RunningServer, namespace: str):
    operation = install_slowly(asking, namespace)
    people = [add_person(asking, "readonly") for _ in range(6)]
    tokens = {one.id: one.token() for one in people[3:5]}
    with ThreadPoolExecutor(7) as pool:
        control = pool.submit(wait_for_release, asking, namespace)
        waiting = [pool.submit(wait_for_release, one.server, namespace, token=tokens.get(one.id, "")) for one in people]
        time.sleep(2.5)
        assert [one.done() for one in waiting] == [False] * 6
        take_away(asking, people, tokens)
        answers = [one.result(60) for one in waiting]
        assert [found.status_code for found, _ in answers] == [401, 401, 403, 401, 401, 401]
        assert max(seconds for _, seconds in answers) < 20
        assert not control.done()
        cancel(asking, operation)
        assert control.result(60)[0].status_code in {200, 404}


def test_a_user_has_only_so_many_requests_wait(asking: RunningServer, namespace: str):
    operation = install_slowly(asking, namespace)
    person = add_person(asking, "readonly")
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(wait_for_release, person.server, namespace) for _ in range(4)]
        wait_for(lambda: any(one.done() for one in waiting), seconds=15)
        refused = next(one for one in waiting if one.done()).result()[0]
        assert_error(refused, 429, "APIGW.0308", "requests that wait", "(3)")
        assert int(refused.headers["retry-after"]) >= 1
        assert sum(one.done() for one in waiting) == 1
        cancel(asking, operation)
        assert {one.result(60)[0].status_code for one in waiting} <= {200, 404, 429}


def test_a_followed_log_ends_with_the_right_to_values_that_are_in_it(asking: RunningServer, tmp_path: Path):
    person, pod = add_person(asking, "te_admin"), "/api/v1/namespaces/shop/pods/web-1"
    value, over = "a-value-of-the-release", threading.Event()

    async def talk(_: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        until = time.monotonic() + 20
        while time.monotonic() < until:
            writer.write(b"%x\r\nread %s\n\r\n" % (len(value) + 6, value.encode()))
            await writer.drain()
            if over.is_set():
                break
            await asyncio.sleep(0.1)
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async def show(_: str, writer: asyncio.StreamWriter) -> None:
        annotations = {"meta.helm.sh/release-name": "web", "meta.helm.sh/release-namespace": "shop"}
        marks = {"labels": {"app.kubernetes.io/managed-by": "Helm"}, "annotations": annotations}
        metadata = {"name": "web-1", "uid": "u", **marks}
        await answer(writer, {"kind": "Pod", "metadata": metadata, "spec": {"containers": [{"name": "main"}]}})

    with hostile_cluster(tmp_path) as cluster, httpx2.Client(base_url=asking.url, trust_env=False, timeout=60) as http:
        manifest = "apiVersion: v1\nkind: Pod\nmetadata: {name: web-1}\n"
        cluster.secrets = [release_secret("web", manifest=manifest, values={"text": value})]
        cluster.attacks |= {f"{pod}/log": talk, pod: show}
        body = {"name": "followed", "kubeconfig": cluster.kubeconfig}
        assert asking.send("POST", "/api/v1/clusters", json_body=body).status_code == 201
        login = {"account": "pilothouse", "name": person.name, "password": PASSWORD}
        assert http.post("/console/login", data=login, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 303
        path = "/console/p/cn-north-4/releases/followed/shop/web/pod/live?pod=web-1"
        with http.stream("GET", path) as followed:
            lines = followed.iter_lines()
            assert any(value in line for line in lines)
            attach(asking, person, statement("Deny", "pilothouse:values:read"))
            told = [line for line in lines if line.startswith("event: ")]
        over.set()
        with http.stream("GET", path) as followed:
            shown = "\n".join(followed.iter_lines())
    assert told[-1] == "event: refused"
    assert "read ***" in shown
    assert value not in shown


def delete_meanwhile(asking: RunningServer, person: Person, ask: Callable[[], httpx2.Response]) -> httpx2.Response:
    """Return the answer to a request of somebody who is deleted while it is worked on."""
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask)
        time.sleep(1.5)
        assert not asked.done(), asked.result().text
        assert asking.send("DELETE", f"/api/v1/users/{person.id}").status_code == 204
        return asked.result(60)


def test_an_upload_is_not_stored_for_who_was_deleted_during_its_lint(asking: RunningServer):
    person = add_person(asking, "CCE FullAccess")
    archive = build_chart("overtaken", templates={"a.yaml": COUNTING}, values={})
    answered = delete_meanwhile(asking, person, lambda: person.server.upload(archive))
    assert answered.status_code == 401, answered.text
    assert "overtaken" not in [chart["name"] for chart in asking.send("GET", "/v2/charts").json()]


def test_a_dry_run_is_not_told_to_who_was_deleted_during_it(asking: RunningServer, namespace: str):
    person = add_person(asking, "CCE FullAccess")
    archive = build_chart(
        "tried", templates={"a.yaml": COUNTING, "c.yaml": config_map_template()}, values={"text": "x"}
    )
    chart = asking.upload(archive, parameters='{"skip_lint": true}').json()["id"]
    body = {"chart_id": chart, "namespace": namespace, "name": "tried", "parameters": {"dry_run": True}}
    answered = delete_meanwhile(asking, person, lambda: person.server.create(**body))
    assert answered.status_code == 401, answered.text


@pytest.mark.parametrize("what", ["registered", "updated"])
def test_a_cluster_is_not_changed_for_who_was_deleted_while_it_was_asked(
    asking: RunningServer, tmp_path: Path, what: str
):
    person = add_person(asking, "CCE FullAccess")
    with hostile_cluster(tmp_path) as cluster:
        method, path, body = "POST", "/api/v1/clusters", {"name": "registered", "kubeconfig": cluster.kubeconfig}
        if what == "updated":
            made = asking.send(method, path, json_body={**body, "name": "updated"})
            method, path = "PUT", f"{path}/{made.json()['id']}/kubeconfig"
            body = {"kubeconfig": cluster.kubeconfig}

        async def take_long(_: str, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(3)
            await answer(writer, {"gitVersion": "v1.36.0"})

        cluster.attacks["/version"] = take_long
        answered = delete_meanwhile(asking, person, lambda: person.server.send(method, path, json_body=body))
    assert answered.status_code == 401, answered.text
    assert "registered" not in [one["name"] for one in asking.send("GET", "/api/v1/clusters").json()]
    assert "kubeconfig" not in [
        row["detail"] for row in asking.send("GET", "/api/v1/audit?action=cce:cluster:*").json()
    ]


def test_a_release_is_not_unlocked_for_who_was_deleted_while_it_was_read(asking: RunningServer, tmp_path: Path):
    person = add_person(asking, "CCE FullAccess")
    with hostile_cluster(tmp_path) as cluster:
        cluster.secrets = [release_secret("locked", status="pending-upgrade")]
        made = asking.send("POST", "/api/v1/clusters", json_body={"name": "locked", "kubeconfig": cluster.kubeconfig})
        path = f"/api/v1/clusters/{made.json()['id']}/unlock"

        async def take_long(_: str, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(3)
            await answer(writer, {"metadata": {"resourceVersion": "100"}, "items": cluster.secrets})

        cluster.attacks["/api/v1/namespaces/shop/secrets?"] = take_long
        body = {"namespace": "shop", "name": "locked", "reason": "its writer is dead"}
        answered = delete_meanwhile(asking, person, lambda: person.server.send("POST", path, json_body=body))
        assert answered.status_code == 401, answered.text
        assert not [one for one in cluster.requests if one.startswith(("PUT", "PATCH"))]
        # The same request of somebody who still may: the release was there to be unlocked.
        asking.send("POST", path, json_body=body)
        assert [one for one in cluster.requests if one.startswith(("PUT", "PATCH"))]
