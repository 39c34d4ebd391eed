"""``make console``: the demo's server with sample data, so that the console shows what it is for.

Three registrations of the local cluster, thirty releases of a few charts: some with a history, some that failed in
different ways, one that is rolling out and cannot, one changed by hand. What an earlier run made is kept.
"""

import gzip
import io
import json
import shlex
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from lightkube import ApiError
from lightkube import Client as Kubernetes
from lightkube.config.kubeconfig import KubeConfig
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import ConfigMap, Namespace
from lightkube.types import PatchType

from pilothouse.cli.client import Client, ServerRefused
from pilothouse.errors import PilothouseError
from tools.demo import DEMO, DemoFailed, Server, console, start_server, step, stop_server, wait_for_interrupt
from tools.localcluster import cluster as local
from tools.localcluster.errors import LocalClusterError

CLUSTERS: Final = ("eu-west", "eu-east", "staging")
NAMESPACES: Final = ("shop", "data", "platform")
FINE: Final = (
    *("storefront", "checkout", "catalog", "cart", "search", "payments"),
    *("orders", "warehouse", "events", "reports", "sessions", "mail"),
    *("gateway", "metrics", "logs", "registry", "certificates", "dns"),
    *("flags", "assets", "exports", "imports", "alerts", "backups"),
)
_MINUTE, _LONG = 60, 3000
_SETTLED: Final = {"Prefer": "wait=30"}


@dataclass(frozen=True)
class Scene:
    """One release: its chart, what it is given, how long its operation waits, and how often it is upgraded."""

    name: str
    chart: str
    values: dict[str, Any]
    wait_seconds: int = 0
    upgrades: int = 0


def scenes() -> Iterator[Scene]:
    """All releases."""
    for number, name in enumerate(FINE):
        chart = ("web", "worker", "settings")[number % 3]
        yield Scene(name, chart, {"replicas": 1 + number % 3, "greeting": f"I am {name}"}, upgrades=number % 4)
    yield Scene("recommendations", "web", {"replicas": 3, "node": "gpu"}, wait_seconds=_LONG)
    yield Scene("invoices", "web", {"replicas": 2, "node": "retired"}, wait_seconds=8)
    yield Scene("thumbnails", "worker", {"replicas": 1, "fate": "fail"}, wait_seconds=20)
    yield Scene("migrations", "hooked", {"fate": "fail"}, wait_seconds=20)
    yield Scene("pricing", "settings", {"greeting": "as the chart says"})
    yield Scene("broken", "settings", {"breaks": True})


def main() -> int:
    """Serve the console with sample data until Ctrl-C."""
    leaves = "--exit" in sys.argv[1:]
    try:
        DEMO.mkdir(mode=0o700, exist_ok=True)
        step("1", "a Kubernetes cluster", "etcd, kube-apiserver, controllers; nodes are simulated")
        kubernetes = local.obtain()
        step("2", "Pilothouse", "PostgreSQL, API, observer and worker")
        server = start_server()
        try:
            step("3", "sample data", f"{len(CLUSTERS)} clusters, {len(list(scenes()))} releases")
            fill(server, kubernetes)
            say(server, kubernetes)
            if not leaves:
                wait_for_interrupt(server)
        finally:
            stop_server()
    except (DemoFailed, LocalClusterError, PilothouseError) as error:
        console.print(f"[bold red]stopped:[/] {error}", soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("\ninterrupted; [bold]make demo-down[/] stops what still runs")
        return 130
    return 0


def say(server: Server, kubernetes: local.RunningCluster) -> None:
    """Say where to look, and as whom."""
    console.print(
        f"\n[bold green]open[/] {server.url}/  and log in as [bold]{server.first['user_name']}[/] with "
        f"[bold]{server.first['password']}[/]\n"
        f"kubectl and helm see the same cluster with KUBECONFIG={shlex.quote(str(kubernetes.kubeconfig))}\n"
        "Serving until Ctrl-C; make demo-down stops the local cluster, too.",
        soft_wrap=True,
    )


def fill(server: Server, kubernetes: local.RunningCluster) -> None:
    """Make what is not there yet; operations that end badly are left to do so."""
    client, api = server.client(), Kubernetes(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False)
    with api:
        for one in NAMESPACES:
            try:
                api.create(Namespace(metadata=ObjectMeta(name=one)))
            except ApiError as error:
                if error.status.reason != "AlreadyExists":
                    raise DemoFailed(f"namespace {one} cannot be made: {error}") from error
        clusters = [_register(client, name, kubernetes.kubeconfig.read_text()) for name in CLUSTERS]
        charts = {name: _upload(client, name, templates) for name, templates in _CHARTS.items()}
        for number, scene in enumerate(scenes()):
            place = number % len(CLUSTERS)
            namespace = NAMESPACES[number // len(CLUSTERS) % len(NAMESPACES)]
            _install(client, clusters[place], namespace, scene, charts)
            if scene.name == "pricing":
                _change_by_hand(api, namespace, scene.name)


def _register(client: Client, name: str, kubeconfig: str) -> str:
    known = {one["name"]: str(one["id"]) for one in client.call("GET", "/api/v1/clusters")}
    if name not in known:
        made = client.call("POST", "/api/v1/clusters", body={"name": name, "kubeconfig": kubeconfig})
        return str(made["id"])
    client.call("PUT", f"/api/v1/clusters/{known[name]}/kubeconfig", body={"kubeconfig": kubeconfig})
    return known[name]


def _upload(client: Client, name: str, templates: dict[str, str]) -> str:
    content = (f"{name}-1.4.0.tgz", _packed(name, templates))
    parameters = json.dumps({"override": True, "skip_lint": True})
    made, _ = client.send_chart("POST", "/v2/charts", content=content, parameters=parameters)
    return str(made["id"])


def _install(client: Client, cluster_id: str, namespace: str, scene: Scene, charts: dict[str, str]) -> None:
    path = f"/cce/cam/v3/clusters/{cluster_id}/releases"
    body = {"chart_id": charts[scene.chart], "name": scene.name, "namespace": namespace, "values": scene.values}
    headers = {"X-Pilothouse-Wait": "ready" if scene.wait_seconds else "none"}
    headers["X-Pilothouse-Timeout"] = str(scene.wait_seconds or _MINUTE)
    try:
        client.call("POST", path, body=body, headers=headers)
    except ServerRefused as error:
        if error.status != HTTPStatus.CONFLICT:
            console.print(f"  {scene.name}: {error}", soft_wrap=True)
        return
    one = f"/cce/cam/v3/clusters/{cluster_id}/namespace/{namespace}/releases/{scene.name}"
    if not scene.wait_seconds:
        client.call("GET", one, headers=_SETTLED)
    for number in range(scene.upgrades):
        values = {**scene.values, "replicas": 1 + number, "greeting": f"I am {scene.name}, for the {number + 2}. time"}
        client.call("PUT", one, body={**body, "action": "upgrade", "parameters": {}, "values": values})
        client.call("GET", one, headers=_SETTLED)
    console.print(f"  [dim]{scene.name}[/]", soft_wrap=True)


def _change_by_hand(api: Kubernetes, namespace: str, name: str) -> None:
    """Somebody edits an object of the release: it drifts."""
    try:
        api.patch(
            ConfigMap, name, {"data": {"greeting": "changed by hand"}}, namespace=namespace, patch_type=PatchType.MERGE
        )
    except ApiError:  # it is not there yet: the operation is still queued
        console.print(f"  {name} was not changed by hand", soft_wrap=True)


def _packed(name: str, templates: dict[str, str]) -> bytes:
    """Return the chart as ``helm package`` would."""
    described = {"apiVersion": "v2", "name": name, "version": "1.4.0", "appVersion": "2026.11", "description": _SAMPLE}
    values = {"replicas": 1, "greeting": "hello", "fate": "", "node": "", "breaks": False}
    files = {"Chart.yaml": json.dumps(described), "values.yaml": json.dumps(values, indent=2)}
    files |= {f"templates/{file}": text for file, text in templates.items()}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as out:
        for file, text in files.items():
            entry = tarfile.TarInfo(f"{name}/{file}")
            entry.size = len(text.encode())
            out.addfile(entry, io.BytesIO(text.encode()))
    return gzip.compress(packed.getvalue(), mtime=0)


_SAMPLE = "a sample of the console's demo"
_SETTINGS = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: "{{ .Release.Name }}"}
data: {greeting: {{ .Values.greeting | quote }}{{ if .Values.breaks }}, wrong: [no, text]{{ end }}}
"""
_PODS = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: "{{ .Release.Name }}", labels: {app: "{{ .Release.Name }}"}}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: "{{ .Release.Name }}"}}
  template:
    metadata:
      labels: {app: "{{ .Release.Name }}"}
      annotations: {pilothouse.dev/simulate: {{ .Values.fate | quote }}}
    spec:
      {{- if .Values.node }}
      nodeSelector: {pool: {{ .Values.node | quote }}}
      {{- end }}
      containers: [{name: main, image: "registry.example/{{ .Chart.Name }}:{{ .Chart.AppVersion }}"}]
"""
_SERVICE = """\
apiVersion: v1
kind: Service
metadata: {name: "{{ .Release.Name }}"}
spec: {selector: {app: "{{ .Release.Name }}"}, ports: [{port: 80, targetPort: 8080}]}
"""
_HOOK = """\
apiVersion: batch/v1
kind: Job
metadata: {name: "{{ .Release.Name }}-schema", annotations: {helm.sh/hook: pre-install}}
spec:
  backoffLimit: 0
  template:
    metadata: {annotations: {pilothouse.dev/simulate: {{ .Values.fate | quote }}}}
    spec: {restartPolicy: Never, containers: [{name: schema, image: "registry.example/schema:7"}]}
"""
_NOTES = """\
{{ .Release.Name }} says {{ .Values.greeting }}.
Reach it at http://{{ .Release.Name }}.{{ .Release.Namespace }}
"""
_CHARTS: Final[dict[str, dict[str, str]]] = {
    "web": {"pods.yaml": _PODS, "service.yaml": _SERVICE, "settings.yaml": _SETTINGS, "NOTES.txt": _NOTES},
    "worker": {"pods.yaml": _PODS, "settings.yaml": _SETTINGS},
    "settings": {"settings.yaml": _SETTINGS, "NOTES.txt": _NOTES},
    "hooked": {"hook.yaml": _HOOK, "settings.yaml": _SETTINGS},
}

if __name__ == "__main__":
    sys.exit(main())
