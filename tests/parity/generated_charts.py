"""Charts that hypothesis makes up: what real ones have, in combinations that nobody would write down.

A chart comes in two versions, so that an upgrade has something to add, change and drop. Everything in it is
deterministic: random values, dates and looks at the cluster would differ between two installs by design.
"""

from dataclasses import dataclass
from typing import Any

import yaml
from hypothesis import strategies as st

from tests.support.charts import build_chart

_NAMES = st.sampled_from(["a", "b", "c", "d"])
_SCALARS = (
    st.sampled_from(["", "plain", "ünïcode", "a: b", "yes", "0x1f", "1e3", "null", "line\nbreak", "{{ braces }}", "'"])
    | st.integers(-5, 10**12)
    | st.booleans()
    | st.floats(-1e6, 1e6, allow_nan=False)
)
_TREES = st.recursive(
    _SCALARS | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=3),
    max_leaves=8,
)
VALUES = st.dictionaries(_NAMES, _TREES, max_size=3)

CONFIG, SECRET, SERVICE, DEPLOYMENT, ACCOUNT, JOB, CUSTOM = (
    "config",
    "secret",
    "service",
    "deployment",
    "account",
    "job",
    "custom",
)

_TEMPLATES = {
    CONFIG: """\
apiVersion: v1
kind: ConfigMap
metadata: {{name: "{{{{ .Release.Name }}}}-{{{{ .Chart.Name }}}}-{name}", labels: {{part: "{name}"}}{annotations}}}
data:
  values: {{{{ .Values.own | default dict | toYaml | quote }}}}
  global: {{{{ .Values.global | default dict | toYaml | quote }}}}
  said: {{{{ printf "%s %d of %s %s" .Release.Name .Release.Revision .Chart.Name .Chart.Version | quote }}}}
  call: {{{{ ternary "install" "upgrade" .Release.IsInstall }}}}
  file: {{{{ .Files.Get "files/note.txt" | quote }}}}
  text: {text}
""",
    SECRET: """\
apiVersion: v1
kind: Secret
metadata: {{name: "{{{{ .Release.Name }}}}-{{{{ .Chart.Name }}}}-{name}"{annotations}}}
stringData: {{text: {text}}}
""",
    SERVICE: """\
apiVersion: v1
kind: Service
metadata: {{name: "{{{{ .Release.Name }}}}-{{{{ .Chart.Name }}}}-{name}"{annotations}}}
spec: {{selector: {{app: x}}, ports: [{{name: http, port: {number}, targetPort: 80}}]}}
""",
    DEPLOYMENT: """\
apiVersion: apps/v1
kind: Deployment
metadata: {{name: "{{{{ .Release.Name }}}}-{{{{ .Chart.Name }}}}-{name}"{annotations}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: "{{{{ .Release.Name }}}}-{{{{ .Chart.Name }}}}-{name}"}}}}
  template:
    metadata: {{labels: {{app: "{{{{ .Release.Name }}}}-{{{{ .Chart.Name }}}}-{name}"}}, annotations: {{text: {text}}}}}
    spec: {{containers: [{{name: main, image: "example.invalid/web:{number}"}}]}}
""",
    ACCOUNT: """\
apiVersion: v1
kind: ServiceAccount
metadata: {{name: "{{{{ .Release.Name }}}}-{{{{ .Chart.Name }}}}-{name}"{annotations}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: "{{{{ .Release.Name }}}}-{{{{ .Chart.Name }}}}-{name}"}}
rules: [{{apiGroups: [""], resources: [pods], verbs: [get], resourceNames: [{text}]}}]
""",
    JOB: """\
apiVersion: batch/v1
kind: Job
metadata: {{name: "{{{{ .Release.Name }}}}-{{{{ .Chart.Name }}}}-{name}"{annotations}}}
spec:
  backoffLimit: 0
  template:
    spec: {{restartPolicy: Never, containers: [{{name: main, image: "example.invalid/job:1"}}]}}
""",
    CUSTOM: """\
{{{{- if .Values.custom }}}}
apiVersion: {{{{ .Values.custom }}}}/v1
kind: Thing
metadata: {{name: "{{{{ .Release.Name }}}}-{{{{ .Chart.Name }}}}-{name}"{annotations}}}
spec: {{text: {text}}}
{{{{- end }}}}
""",
}

_EVENTS = st.lists(
    st.sampled_from(
        [f"{when}-{what}" for when in ("pre", "post") for what in ("install", "upgrade", "delete", "rollback")]
    ),
    min_size=1,
    max_size=3,
    unique=True,
)
_POLICIES = st.sampled_from(
    ["", "before-hook-creation", "hook-succeeded", "before-hook-creation,hook-succeeded", "hook-failed"]
)


@dataclass(frozen=True)
class Thing:
    """One template: of which kind, and what is said about it."""

    kind: str
    name: str
    text: str
    number: int
    annotations: dict[str, str]

    def template(self) -> str:
        """Return the template's text."""
        written = f", annotations: {yaml.safe_dump(self.annotations, default_flow_style=True, width=9999).strip()}"
        return _TEMPLATES[self.kind].format(
            name=self.name,
            text=yaml.safe_dump(self.text, default_style='"', width=9999).strip().replace("{{", '{{ "{{" }}'),
            number=self.number,
            replicas=self.number % 3,
            annotations=written if self.annotations else "",
        )


_TEXTS = st.sampled_from(["hello", "ünïcode", "yes", "12", "a: b # c", "two\nlines"])


@st.composite
def _things(draw: st.DrawFn) -> dict[str, Thing]:
    """Templates by file name; hooks are Jobs and ConfigMaps, what is kept are ConfigMaps."""
    found = {}
    for name in draw(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=6, unique=True)):
        kind = draw(st.sampled_from([CONFIG, CONFIG, SECRET, SERVICE, DEPLOYMENT, ACCOUNT, CUSTOM]))
        annotations = {}
        role = draw(st.sampled_from(["", "", "", "keep", "hook"]))
        if role == "keep":
            kind, annotations = CONFIG, {"helm.sh/resource-policy": "keep"}
        if role == "hook":
            kind = draw(st.sampled_from([JOB, CONFIG]))
            annotations = {
                "helm.sh/hook": ",".join(draw(_EVENTS)),
                "helm.sh/hook-weight": str(draw(st.integers(-2, 2))),
            }
            if policy := draw(_POLICIES):
                annotations["helm.sh/hook-delete-policy"] = policy
        # The name says the kind: an upgrade that changes it makes another object, as charts do.
        found[f"{name}.yaml"] = Thing(
            kind, f"{name}-{kind}-{role}".strip("-"), draw(_TEXTS), draw(st.integers(1, 9)), annotations
        )
    return found


@dataclass(frozen=True)
class Generated:
    """A chart in two versions, and the values of each step."""

    first: bytes
    second: bytes
    install_values: dict[str, Any]
    upgrade_values: dict[str, Any]


def crd(group: str) -> str:
    """Return the definition of the kind ``Thing``."""
    return yaml.safe_dump(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"things.{group}"},
            "spec": {
                "group": group,
                "scope": "Namespaced",
                "names": {"kind": "Thing", "plural": "things", "singular": "thing", "listKind": "ThingList"},
                "versions": [
                    {
                        "name": "v1",
                        "served": True,
                        "storage": True,
                        "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
                    }
                ],
            },
        }
    )


@st.composite
def generated_charts(draw: st.DrawFn, *, group: str) -> Generated:
    """Two versions of a chart whose custom resources, if it has any, are of ``group``, which is there."""
    subcharts = draw(st.lists(st.sampled_from(["one", "two"]), max_size=2, unique=True))
    conditions = {name: draw(st.booleans()) for name in subcharts}

    def version(number: str) -> bytes:
        unpacked = [
            build_chart(
                name,
                "0.1.0",
                templates={path: thing.template() for path, thing in draw(_things()).items()},
                values={"own": draw(VALUES), "custom": group},
            )
            for name in subcharts
        ]
        dependencies = [
            {"name": name, "version": "0.1.0", "repository": "", "condition": f"{name}.enabled"} for name in subcharts
        ]
        return build_chart(
            "parity",
            number,
            app_version=draw(st.sampled_from(["1.0", "v2", ""])),
            templates={
                **{path: thing.template() for path, thing in draw(_things()).items()},
                "NOTES.txt": "{{ .Release.Name }} {{ .Values.own | toJson }}\n",
            },
            values={
                "own": draw(VALUES),
                "global": draw(VALUES),
                "custom": group,
                **{name: {"enabled": conditions[name]} for name in subcharts},
            },
            files={"files/note.txt": "a note\n"},
            unpacked_subcharts=unpacked,
            metadata={"dependencies": dependencies} if dependencies else {},
        )

    def values() -> dict[str, Any]:
        found = {name: draw(VALUES) for name in draw(st.sets(st.sampled_from(["own", "global", "extra"])))}
        for name in subcharts:
            if draw(st.booleans()):
                found[name] = {"enabled": draw(st.booleans()), "own": draw(VALUES)}
        return found

    return Generated(version("1.0.0"), version("2.0.0"), values(), values())
