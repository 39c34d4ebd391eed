"""Chart archives made at test time, so that no test depends on a binary in the repository.

An archive is what ``helm package`` writes: a gzipped tar whose entries all lie in a folder named like the
chart. The same arguments give the same bytes, so that digests can be compared.
"""

import gzip
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from typing import Any


def build_chart(
    name: str = "demo",
    version: str = "0.1.0",
    *,
    templates: Mapping[str, str] | None = None,
    values: Mapping[str, Any] | str | None = None,
    schema: str | None = None,
    app_version: str | None = None,
    chart_type: str | None = None,
    subcharts: Mapping[str, bytes] | None = None,
    unpacked_subcharts: Sequence[bytes] = (),
    files: Mapping[str, str | bytes] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> bytes:
    """Return a valid chart archive with exactly the given content.

    ``templates`` and ``files`` map paths (below ``templates/`` and the chart's root) to text. ``subcharts`` maps
    file names to archives that are put into ``charts/`` as they are; ``unpacked_subcharts`` are archives whose
    files are put there one by one. ``metadata`` is laid over Chart.yaml; a None removes a key.
    """
    chart_yaml: dict[str, Any] = {"apiVersion": "v2", "name": name, "version": version}
    if app_version is not None:
        chart_yaml["appVersion"] = app_version
    if chart_type is not None:
        chart_yaml["type"] = chart_type
    chart_yaml.update(metadata or {})
    chart_yaml = {key: value for key, value in chart_yaml.items() if value is not None}
    entries: dict[str, bytes] = {"Chart.yaml": _yaml(chart_yaml)}
    if values is not None:
        entries["values.yaml"] = values.encode() if isinstance(values, str) else _yaml(values)
    if schema is not None:
        entries["values.schema.json"] = schema.encode()
    for path, text in (templates or {}).items():
        entries[f"templates/{path}"] = text.encode()
    for path, content in (files or {}).items():
        entries[path] = content.encode() if isinstance(content, str) else content
    for path, archive in (subcharts or {}).items():
        entries[f"charts/{path}"] = archive
    for archive in unpacked_subcharts:
        for path, content in read_archive(archive).items():
            entries[f"charts/{path}"] = content
    return pack_archive({f"{name}/{path}": content for path, content in entries.items()})


def pack_archive(entries: Mapping[str, bytes], *, level: int = 6) -> bytes:
    """Return a gzipped tar of regular files with the given paths, in the given order."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, content in entries.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(raw.getvalue(), compresslevel=level, mtime=0)


def read_archive(archive: bytes) -> dict[str, bytes]:
    """Every regular file of a gzipped tar by its path."""
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as opened:
        found = {}
        for entry in opened.getmembers():
            content = opened.extractfile(entry)
            if content is not None:
                found[entry.name] = content.read()
        return found


def config_map_template(suffix: str = "config", *, data: str = "{{ .Values.text | quote }}") -> str:
    """Return a template of one ConfigMap named ``<release>-<suffix>`` whose key ``text`` holds ``data``."""
    return f"""\
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{{{ .Release.Name }}}}-{suffix}
data:
  text: {data}
"""


def hook_job_template(event: str = "post-install", *, suffix: str = "hook") -> str:
    """Return a template of one Job that runs as a hook of ``event`` and completes at once on the simulated nodes."""
    return f"""\
apiVersion: batch/v1
kind: Job
metadata:
  name: {{{{ .Release.Name }}}}-{suffix}
  annotations:
    helm.sh/hook: {event}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers:
        - name: {suffix}
          image: busybox:1
          command: ["true"]
"""


def config_map_chart(name: str = "demo", version: str = "0.1.0", *, text: str = "hello") -> bytes:
    """Return the smallest useful chart: one ConfigMap ``<release>-config`` that shows ``.Values.text``."""
    return build_chart(name, version, templates={"config.yaml": config_map_template()}, values={"text": text})


def web_chart(name: str = "web", version: str = "1.0.0") -> bytes:
    """Build a chart of podinfo's size and kinds: Deployment, Service, ServiceAccount, ConfigMap, helpers, notes, test.

    Values: ``imageTag``, ``imagePullPolicy`` (the two of the vendor's page), ``replicaCount``, ``message``.
    """
    return build_chart(
        name,
        version,
        app_version="6.0.0",
        values={
            "replicaCount": 1,
            "imageTag": "1.0.0",
            "imagePullPolicy": "IfNotPresent",
            "image": "ghcr.io/example/web",
            "message": "greetings",
            "service": {"port": 9898, "type": "ClusterIP"},
            "resources": {"requests": {"cpu": "1m", "memory": "16Mi"}},
            "autoscaling": {"enabled": False},
        },
        templates={
            "_helpers.tpl": _WEB_HELPERS,
            "deployment.yaml": _WEB_DEPLOYMENT,
            "service.yaml": _WEB_SERVICE,
            "serviceaccount.yaml": _WEB_SERVICE_ACCOUNT,
            "config.yaml": _WEB_CONFIG,
            "hpa.yaml": _WEB_HPA,
            "tests/connection.yaml": _WEB_TEST,
            "NOTES.txt": '{{ include "web.fullname" . }} listens on port {{ .Values.service.port }}.\n',
        },
    )


def _yaml(value: Mapping[str, Any]) -> bytes:
    # JSON is YAML that every reader understands alike; PyYAML writes the key y bare, which Helm reads as true
    return json.dumps(value, ensure_ascii=False, indent=2).encode() + b"\n"


_WEB_HELPERS = """\
{{- define "web.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end -}}
{{- end }}
{{- define "web.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "web.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "web.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}
"""

_WEB_DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "web.fullname" . }}
  labels:
    {{- include "web.labels" . | nindent 4 }}
spec:
  {{- if not .Values.autoscaling.enabled }}
  replicas: {{ .Values.replicaCount }}
  {{- end }}
  selector:
    matchLabels:
      {{- include "web.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "web.labels" . | nindent 8 }}
      annotations:
        checksum/config: {{ .Values.message | sha256sum }}
    spec:
      serviceAccountName: {{ include "web.fullname" . }}
      containers:
        - name: {{ .Chart.Name }}
          image: "{{ .Values.image }}:{{ .Values.imageTag }}"
          imagePullPolicy: {{ .Values.imagePullPolicy }}
          ports:
            - name: http
              containerPort: {{ .Values.service.port }}
              protocol: TCP
          envFrom:
            - configMapRef:
                name: {{ include "web.fullname" . }}
          livenessProbe:
            httpGet: {path: /healthz, port: http}
            initialDelaySeconds: 1
          readinessProbe:
            httpGet: {path: /readyz, port: http}
            initialDelaySeconds: 1
          resources:
            {{- toYaml .Values.resources | nindent 12 }}
"""

_WEB_SERVICE = """\
apiVersion: v1
kind: Service
metadata:
  name: {{ include "web.fullname" . }}
  labels:
    {{- include "web.labels" . | nindent 4 }}
spec:
  type: {{ .Values.service.type }}
  ports:
    - name: http
      port: {{ .Values.service.port }}
      targetPort: http
      protocol: TCP
  selector:
    {{- include "web.selector" . | nindent 4 }}
"""

_WEB_SERVICE_ACCOUNT = """\
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "web.fullname" . }}
  labels:
    {{- include "web.labels" . | nindent 4 }}
"""

_WEB_CONFIG = """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "web.fullname" . }}
  labels:
    {{- include "web.labels" . | nindent 4 }}
data:
  MESSAGE: {{ .Values.message | quote }}
"""

_WEB_HPA = """\
{{- if .Values.autoscaling.enabled }}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ include "web.fullname" . }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ include "web.fullname" . }}
  minReplicas: 1
  maxReplicas: 3
{{- end }}
"""

_WEB_TEST = """\
apiVersion: v1
kind: Pod
metadata:
  name: {{ include "web.fullname" . }}-connection
  annotations:
    helm.sh/hook: test
spec:
  restartPolicy: Never
  containers:
    - name: connection
      image: busybox:1
      command: ["wget", "{{ include "web.fullname" . }}:{{ .Values.service.port }}"]
"""
