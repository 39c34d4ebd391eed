"""The chart that installs Pilothouse itself: by helm, and by Pilothouse. The nodes here are simulated."""

import base64
import io
import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pilothouse.auth.key_file import parse_keys
from pilothouse.cli import COMMANDS
from pilothouse.settings import Settings, unknown_variables
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import RunningServer

_DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
_CHART = _DEPLOY / "chart" / "pilothouse"
_EXTERNAL = ("--set", "database.existingSecret=database")
#: Every switch of values.yaml, on and off, as far as the local cluster has the kinds.
_SWITCHES: dict[str, tuple[str, ...]] = {
    "external": _EXTERNAL,
    "embedded": ("--set", "mode=embedded,embedded.storage.storageClassName=fast"),
    "tls": (*_EXTERNAL, "--set", "tls.existingSecret=tls,masterKeys.existingSecret=keys"),
    "ingress": (*_EXTERNAL, "--set", "ingress.enabled=true,ingress.className=nginx,ingress.tlsSecret=outside"),
    "scaled": (*_EXTERNAL, "--set", "api.autoscaling.enabled=true,worker.replicas=1,topologySpread.enabled=false"),
    "closed": (*_EXTERNAL, "--set-json", 'networkPolicy={"enabled":true,"apiFrom":[{"podSelector":{}}]}'),
    "placed": (
        *_EXTERNAL,
        "--set",
        "priorityClassName=system-cluster-critical,nodeSelector.disk=fast,podLabels.team=one,podAnnotations.note=two",
        "--set-json",
        'tolerations=[{"operator":"Exists"}]',
        "--set-json",
        'imagePullSecrets=[{"name":"registry"}]',
    ),
    "set": (*_EXTERNAL, "--set-string", "settings.WORKER__OPERATIONS=8,settings.REGION=eu-west-0"),
}
_MONITORED = ("--set", "monitoring.podMonitor=true,monitoring.prometheusRule=true,httpRoute.enabled=true")


def rendered(helm_cli: HelmCommand, *flags: str) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(helm_cli("template", "own", str(_CHART), *flags)) if one]


def containers(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    pods = [one["spec"]["template"]["spec"] for one in objects if one["kind"] in ("Deployment", "StatefulSet")]
    return [container for pod in pods for container in (*pod.get("initContainers", ()), *pod["containers"])]


@pytest.mark.parametrize("switch", _SWITCHES)
def test_the_cluster_accepts_the_chart_with_every_switch(helm_cli: HelmCommand, namespace: str, switch: str):
    helm_cli("install", "own", str(_CHART), "-n", namespace, "--dry-run=server", *_SWITCHES[switch])


@pytest.mark.parametrize("switch", _SWITCHES)
def test_its_containers_run_commands_and_settings_that_there_are(helm_cli: HelmCommand, switch: str):
    for container in containers(rendered(helm_cli, *_SWITCHES[switch])):
        program, command = container["command"][:2]
        assert (program, command in COMMANDS) in (("pilothouse", True), ("install", False))
        variables = {one["name"]: one.get("value", "") for one in container.get("env", ())}
        assert unknown_variables(variables) == {}
        assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_its_settings_do_not_contradict_each_other(helm_cli: HelmCommand, monkeypatch: pytest.MonkeyPatch):
    for flags in _SWITCHES.values():
        (environment, *_) = (one["env"] for one in containers(rendered(helm_cli, *flags)) if "env" in one)
        with monkeypatch.context() as patched:
            for one in environment:
                patched.setenv(one["name"], one.get("value", "postgresql://nobody@nowhere/none"))
            assert Settings().monitoring.port == 9464


def test_monitoring_has_the_alert_rules_of_the_project(helm_cli: HelmCommand):
    objects = {one["kind"]: one for one in rendered(helm_cli, *_EXTERNAL, *_MONITORED)}
    rules = yaml.safe_load((_DEPLOY / "monitoring" / "alerts.yaml").read_text())
    assert (_CHART / "files" / "alerts.yaml").read_text() == (_DEPLOY / "monitoring" / "alerts.yaml").read_text()
    assert objects["PrometheusRule"]["spec"] == rules
    assert {"PodMonitor", "HTTPRoute"} <= set(objects)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ((), "database.existingSecret: name a Secret"),
        (("--set", "mode=both"), "mode"),
        ((*_EXTERNAL, "--set", "api.replica=3"), "replica"),
        ((*_EXTERNAL, "--set", "settings.worker__operations=8"), "worker__operations"),
        ((*_EXTERNAL, "--set", "image.digest=latest"), "digest"),
    ],
)
def test_a_wrong_value_is_refused_by_name(helm_cli: HelmCommand, flags: tuple[str, ...], named: str):
    with pytest.raises(subprocess.CalledProcessError) as refused:
        helm_cli("template", "own", str(_CHART), *flags)
    assert named in refused.value.stderr


def test_helm_installs_tests_upgrades_and_removes_it_and_the_keys_stay(helm_cli: HelmCommand, namespace: str):
    of_release = ("own", str(_CHART), "-n", namespace, *_EXTERNAL)
    helm_cli("install", *of_release, "--wait", "--timeout", "60s")
    first = master_key(helm_cli, namespace)
    assert parse_keys(first, Path("master.key")).keys

    helm_cli("upgrade", *of_release, "--set", "api.replicas=3", "--wait", "--timeout", "60s")
    helm_cli("test", "own", "-n", namespace, "--timeout", "60s")
    helm_cli("uninstall", "own", "-n", namespace)
    helm_cli("install", *of_release, "--take-ownership")

    assert master_key(helm_cli, namespace) == first


def master_key(helm_cli: HelmCommand, namespace: str) -> bytes:
    found = yaml.safe_load_all(helm_cli("get", "manifest", "own", "-n", namespace))
    return next(base64.b64decode(one["data"]["master.key"]) for one in found if one["kind"] == "Secret")


def test_pilothouse_installs_it(
    server: RunningServer, namespace: str, helm_cli: HelmCommand, packed: Callable[[], bytes]
):
    uploaded = server.upload(packed(), parameters='{"override": true}')
    assert uploaded.status_code == 201, uploaded.text
    release = OneRelease(server, namespace, "own", helm_cli)

    answer = release.create(str(uploaded.json()["id"]), values={"database": {"existingSecret": "database"}})

    assert answer.status_code == 201, answer.text
    assert release.settled()["status"] == "DEPLOYED"
    assert json.loads(helm_cli("list", "-n", namespace, "-o", "json"))[0]["status"] == "deployed"


@pytest.fixture
def packed() -> Callable[[], bytes]:
    """The chart as an archive."""

    def pack() -> bytes:
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w:gz") as tar:
            tar.add(_CHART, arcname="pilothouse")
        return archive.getvalue()

    return pack
