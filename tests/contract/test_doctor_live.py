"""The doctor beside a server that serves."""

import json
import os
import subprocess
import sys
from urllib.parse import urlsplit

from tests.support.servers import RunningServer


def test_a_server_that_serves_is_healthy_with_its_cluster(server: RunningServer):
    done = subprocess.run(
        [sys.executable, "-m", "pilothouse", "doctor", "--output", "json"],
        env={
            "PATH": os.environ["PATH"],
            "PILOTHOUSE_DATA_DIR": str(server.data_dir),
            "PILOTHOUSE_PORT": str(urlsplit(server.url).port),
            "PILOTHOUSE_TLS__PORT": str(urlsplit(server.tls_url).port),
            "PILOTHOUSE_CLUSTER__ALLOW_LOOPBACK": "true",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    found = {one["check"]: one for one in json.loads(done.stdout)["findings"]}
    assert "serves" in found["http listener"]["found"]
    assert "serves" in found["https listener"]["found"]
    assert "Kubernetes v" in found["cluster test"]["found"]
    assert found["schema"]["state"] == found["clock"]["state"] == found["certificate"]["state"] == "ok"
