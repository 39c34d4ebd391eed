"""A backup of a server that serves, put into an empty data folder: clients go on there with what they have."""

import json
import os
import ssl
import subprocess
import sys
from pathlib import Path

import httpx2
from huaweicloudsdkcce.v3 import ListChartsRequest

from tests.support.charts import config_map_chart
from tests.support.servers import RunningServer, open_folder, run_server


def pilothouse(data_dir: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pilothouse", *words],
        env={"PATH": os.environ["PATH"], "PILOTHOUSE_DATA_DIR": str(data_dir)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_restored_server_serves_old_clients_with_old_charts_clusters_and_certificates(server: RunningServer):
    archive = config_map_chart("kept", "1.2.3")
    uploaded = server.upload(archive).json()
    with open_folder() as folder:
        file = folder / "backup.zip"
        made = pilothouse(server.data_dir, "backup", str(file), "--output", "json")
        assert made.returncode == 0, made.stderr
        assert json.loads(made.stdout)["has_key"] is True

        restored = pilothouse(folder / "data", "restore", str(file))
        assert restored.returncode == 0, restored.stderr
        # The first start's credentials are the old server's: no new ones are made.
        first = {name: getattr(server, name) for name in ("access_key", "secret_key", "project_id", "password")}
        (folder / "first.json").write_text(json.dumps(first))
        with run_server(folder, kubeconfig=None) as second:
            assert uploaded["id"] in {one.id for one in second.sdk().list_charts(ListChartsRequest()).body}
            assert second.send("GET", f"/v2/charts/{uploaded['id']}/archive").content == archive
            assert second.send("GET", f"/api/v1/clusters/{server.cluster_id}/probe").status_code == 200
            trust = ssl.create_default_context(cafile=server.ca)
            with httpx2.Client(verify=trust, trust_env=False) as http:
                assert http.get(second.tls_url + "/api/v1/health").status_code == 200


def test_a_restore_never_touches_a_server_that_runs(server: RunningServer):
    with open_folder() as folder:
        file = folder / "backup.zip"
        assert pilothouse(server.data_dir, "backup", str(file)).returncode == 0
        refused = pilothouse(server.data_dir, "restore", str(file), "--replace")
        assert refused.returncode == 1
        assert "stop them first" in refused.stderr


def test_a_backup_without_keys_says_what_is_missing_and_needs_the_key_file(server: RunningServer):
    with open_folder() as folder:
        file = folder / "backup.zip"
        made = pilothouse(server.data_dir, "backup", str(file), "--without-key")
        assert f"Not included: {server.data_dir / 'master.key'}" in made.stdout
        refused = pilothouse(folder / "data", "restore", str(file))
        assert refused.returncode == 1
        assert "there is no master key file" in refused.stderr
        key = str(server.data_dir / "master.key")
        done = pilothouse(folder / "data", "restore", str(file), "--key", key, "--output", "json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["has_key"] is False
        assert (folder / "data" / "master.key").exists()
