"""What hooks and tests log is told while they run: by the API, on the command line, and never a secret of it."""

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.charts import build_chart, config_map_template
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import RunningServer, wait_for
from tests.support.terminals import open_terminal
from tests.support.typed import Start, Typed, done
from tests.support.users import add_person
from tests.support.workloads import hook_template

#: The log of every container of the local cluster.
FIRST, LAST = "simulated container: started", "simulated container: this line is on standard error"
SECRET = """\
apiVersion: v1
kind: Secret
metadata: {name: "{{ .Release.Name }}-own"}
stringData: {password: "only plays its part"}
"""


@pytest.fixture
def release(server: RunningServer, namespace: str, helm_cli: HelmCommand) -> OneRelease:
    return OneRelease(server, namespace, "logs", helm_cli)


def upload(server: RunningServer, **templates: str) -> str:
    named = {f"{name}.yaml": text for name, text in templates.items()}
    answer = server.upload(
        build_chart("logging", templates=named, values={"text": "x"}), parameters='{"override": true}'
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def logged(server: RunningServer, answer: httpx2.Response) -> list[dict[str, Any]]:
    path = f"/api/v1/operations/{answer.headers['x-operation-id']}/events"
    return [event for event in server.send("GET", path).json() if event["kind"] == "hook_log"]


def test_lines_of_a_hook_are_told_while_it_runs_and_its_releases_secrets_are_not(release: OneRelease):
    server = release.server
    chart = upload(server, hook=hook_template("pre-install", fate="never-ready"), secret=SECRET)
    answer = release.create(chart, values={"text": "on standard error"})
    (event,) = wait_for(lambda: logged(server, answer))
    operation = server.send("GET", f"/api/v1/operations/{answer.headers['x-operation-id']}").json()
    assert operation["state"] == "running"
    pod = event["data"].pop("pod")
    assert pod.startswith("logs-hook-")
    assert event["data"] == {
        "hook": "Job/logs-hook",
        "namespace": release.namespace,
        "container": "main",
        "run": 0,
        "first": 1,
        "lines": [
            FIRST,
            "simulated container: no process runs here, the local cluster ***",
            "simulated container: this line is ***",
        ],
    }
    assert event["attempt"] == 1
    assert event["text"] == "Job logs-hook logs: simulated container: this line is *** (3 lines)"
    assert release.delete().is_success
    release.gone()
    assert len(logged(server, answer)) == 1


def test_the_last_lines_of_a_hook_that_succeeds_and_is_deleted_at_once_are_told(release: OneRelease):
    hook = hook_template("pre-install", fate="slow, pilothouse.dev/simulate-delay: 1s", policy="hook-succeeded")
    answer = release.create(upload(release.server, hook=hook))
    assert release.settled()["status"] == "DEPLOYED"
    (event,) = logged(release.server, answer)
    assert event["data"]["lines"][-1] == LAST
    assert release.show().json()["status"] == "DEPLOYED"


def test_lines_of_tests_are_told_while_they_run(release: OneRelease):
    server = release.server
    test = hook_template("test", fate="never-ready", kind="Pod", name="test")
    release.create(upload(server, test=test, config=config_map_template()))
    release.settled()
    path = f"/api/v1/clusters/{server.cluster_id}/namespaces/{release.namespace}/releases/logs/test"
    answer = server.send("POST", path, json_body={})
    assert answer.is_success, answer.text
    (event,) = wait_for(lambda: logged(server, answer))
    assert (event["data"]["hook"], event["data"]["pod"]) == ("Pod/logs-test", "logs-test")
    operation = f"/api/v1/operations/{answer.headers['x-operation-id']}"
    assert server.send("GET", operation).json()["state"] == "running"
    assert server.send("POST", f"{operation}/cancel").is_success


def test_whoever_may_not_read_logs_sees_no_line_of_them(release: OneRelease):
    server, reader = release.server, add_person(release.server, "readonly").server
    test = hook_template("test", fate="slow", kind="Pod", name="test")
    release.create(upload(server, test=test, config=config_map_template()))
    release.settled()
    path = f"/api/v1/clusters/{server.cluster_id}/namespaces/{release.namespace}/releases/logs/test"
    answer = server.send("POST", path, json_body={}, headers={"Prefer": "wait=60"}, timeout=90)
    operation = f"/api/v1/operations/{answer.json()['id']}"
    assert LAST in server.send("GET", f"{operation}/events").text
    [evidence] = server.send("GET", f"{operation}/evidence").json()
    assert [one["containers"][0]["log"][-1] for one in evidence["pods"]] == [LAST]
    assert evidence["missing"] == []

    seen = reader.send("GET", f"{operation}/events")
    assert seen.json()
    assert LAST not in seen.text
    stream = reader.send("GET", f"{operation}/events", headers={"Accept": "text/event-stream"})
    assert "event: end" in stream.text
    assert LAST not in stream.text
    [withheld] = reader.send("GET", f"{operation}/evidence").json()
    assert [one["containers"][0]["log"] for one in withheld["pods"]] == [[]]
    assert withheld["missing"] == ["lines of logs: to see them takes pilothouse:logs:read"]

    key = f"{server.cluster_id}/{release.namespace}/logs"
    query = f"/api/v1/audit?action=pilothouse:logs:read&target={key}&outcome=done"
    told = f"logs of operation {answer.json()['id']}"
    wait_for(lambda: [row["detail"] for row in server.send("GET", query).json()] == [told])


def test_without_hooks_nothing_of_a_log_is_written(release: OneRelease):
    answer = release.create(upload(release.server, config=config_map_template()))
    release.settled()
    path = f"/api/v1/operations/{answer.headers['x-operation-id']}/events"
    assert not [one for one in release.server.send("GET", path).json() if one["kind"].startswith("hook")]


def test_the_command_line_shows_lines_below_the_name_of_the_hook(*, typed: Typed, hooked: Path, start: Start):
    done(typed("install", "web", str(hooked)))
    process = start("upgrade", "web", ".", "-o", "json")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert json.loads(out)
    lines = err.splitlines()
    name = next(at for at, line in enumerate(lines) if "log of hook Job web-hook, pod web-hook-" in line)
    assert lines[name].endswith(", container hook:")
    assert (lines[name + 1], lines[name + 3]) == (f"    {FIRST}", f"    {LAST}")
    assert err.count(LAST) == 1
    operation = json.loads(done(typed("operation", "list", "--release", "web", "-o", "json")))[0]
    events = json.loads(done(typed("operation", "events", operation["id"], "-o", "json")))
    assert [one["data"]["lines"][0] for one in events if one["kind"] == "hook_log"] == [FIRST]


def test_the_command_line_is_quiet_if_it_is_told_to(*, typed: Typed, hooked: Path, start: Start):
    done(typed("install", "web", str(hooked)))
    process = start("upgrade", "web", ".", "-q")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")


def test_lines_stay_on_a_terminal_and_what_is_awaited_is_below_them(*, typed: Typed, hooked: Path, start: Start):
    done(typed("install", "web", str(hooked)))
    with open_terminal(columns=100) as terminal:
        process = start("upgrade", "web", ".", stdin=terminal.device, stderr=terminal.device)
        seen = terminal.read_to_end().decode()
    process.communicate(timeout=60)
    after = seen[seen.index(f"    {LAST}") :]
    assert "s left" in after
    assert seen.count(LAST) == 1
