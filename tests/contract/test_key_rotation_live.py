"""Key rotation under a server that serves: its processes notice by themselves."""

import json
import os
import subprocess
import sys
import uuid

from huaweicloudsdkcce.v3 import ListChartsRequest

from tests.support.servers import RunningServer


def key(server: RunningServer, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pilothouse", "key", *words],
        env={"PATH": os.environ["PATH"], "PILOTHOUSE_DATA_DIR": str(server.data_dir)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def uses(server: RunningServer) -> dict[str, int]:
    return {row["role"]: row["values"] for row in json.loads(key(server, "list", "--output", "json"))}


def test_a_running_server_opens_and_seals_with_the_new_key_without_a_restart(server: RunningServer, kubeconfig: str):
    key(server, "rotate")
    assert server.sdk().list_charts(ListChartsRequest()).status_code == 200
    key(server, "reseal")  # what the observer had sealed before, and wrote after the first look
    before = uses(server)
    assert before["opens"] == 0

    body = {"name": f"rotated-{uuid.uuid4().hex[:8]}", "kubeconfig": kubeconfig}
    made = server.send("POST", "/api/v1/clusters", json_body=body)
    assert made.status_code == 201, made.text
    after = uses(server)
    assert after["opens"] == 0
    assert after["seals"] > before["seals"]
    assert server.send("GET", f"/api/v1/clusters/{made.json()['id']}/probe").status_code == 200
    server.send("DELETE", f"/api/v1/clusters/{made.json()['id']}")
