"""Charts that hypothesis makes up: what real ones have, in combinations that nobody would write down.

A chart comes in two versions, so that an upgrade has something to add, change and drop. Everything in it is
deterministic: random values, dates and looks at the cluster would differ between two installs by design.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from hypothesis import strategies as st

from tests.support.charts import build_chart, pack_archive, read_archive

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
    """A chart in two versions, the values of each step, and whether the chart brings a CRD in ``crds/``."""

    first: bytes
    second: bytes
    install_values: dict[str, Any]
    upgrade_values: dict[str, Any]
    brings_crd: bool


#: What archives of real projects have, and what Helm makes of it is seen only in a release.
ODDITIES = ("CRLF", "no last newline", "deep folders", "files of a Mac", ".helmignore", "byte order mark", "long paths")


def made_odd(archive: bytes, oddities: frozenset[str]) -> bytes:
    """Return the chart packed as some editor, system or packer leaves it."""
    entries = read_archive(archive)
    root = next(iter(entries)).partition("/")[0]
    if "CRLF" in oddities:
        entries = _written(entries, lambda text: text.replace(b"\n", b"\r\n"))
    if "no last newline" in oddities:
        entries = _written(entries, lambda text: text.rstrip(b"\n"))
    if "byte order mark" in oddities:
        entries[f"{root}/values.yaml"] = b"\xef\xbb\xbf" + entries[f"{root}/values.yaml"]
    if "deep folders" in oddities:
        entries[f"{root}/templates/one/two/three/deep.yaml"] = _PLAIN.format(name="deep").encode()
        entries[f"{root}/files/one/two/three/note.txt"] = b"deep"
    if "files of a Mac" in oddities:
        entries = {**entries, f"{root}/._Chart.yaml": _OF_A_MAC, f"{root}/files/._note.txt": _OF_A_MAC}
    if ".helmignore" in oddities:
        entries[f"{root}/.helmignore"] = b"# of a folder, not of an archive\nfiles/\n*.txt\n!keep.txt\n"
    if "long paths" in oddities:
        entries[f"{root}/templates/{'x' * 120}/{'y' * 90}.yaml"] = _PLAIN.format(name="long").encode()
    return pack_archive(entries)


def _written(entries: Mapping[str, bytes], write: Callable[[bytes], bytes]) -> dict[str, bytes]:
    """Return the chart with the texts of its templates and values as written."""
    texts = (".yaml", ".txt", ".tpl")
    return {path: write(content) if path.endswith(texts) else content for path, content in entries.items()}


_OF_A_MAC = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + bytes(range(200))
_PLAIN = """\
apiVersion: v1
kind: ConfigMap
metadata: {{name: "{{{{ .Release.Name }}}}-{name}"}}
data: {{path: {{{{ .Template.Name | quote }}}}, note: {{{{ .Files.Get "files/one/two/three/note.txt" | quote }}}}}}
"""
#: An object of the kind that the chart itself defines in ``crds/``.
_GADGET = """\
apiVersion: {group}/v1
kind: Gadget
metadata: {{name: "{{{{ .Release.Name }}}}-gadget"}}
spec: {{values: {{{{ .Values.own | default dict | toJson }}}}}}
"""


def crd(group: str, kind: str = "Thing") -> str:
    """Return the definition of a kind."""
    plural = f"{kind.lower()}s"
    return yaml.safe_dump(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.{group}"},
            "spec": {
                "group": group,
                "scope": "Namespaced",
                "names": {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"},
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
    brings_crd = draw(st.booleans())

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
        archive = build_chart(
            "parity",
            number,
            app_version=draw(st.sampled_from(["1.0", "v2", ""])),
            templates={
                **{path: thing.template() for path, thing in draw(_things()).items()},
                **({"gadget.yaml": _GADGET.format(group=group)} if brings_crd else {}),
                "NOTES.txt": "{{ .Release.Name }} {{ .Values.own | toJson }}\n",
            },
            values={
                "own": draw(VALUES),
                "global": draw(VALUES),
                "custom": group,
                **{name: {"enabled": conditions[name]} for name in subcharts},
            },
            files={"files/note.txt": "a note\n"} | ({"crds/gadget.yaml": crd(group, "Gadget")} if brings_crd else {}),
            unpacked_subcharts=unpacked,
            metadata={"dependencies": dependencies} if dependencies else {},
        )
        return made_odd(archive, draw(st.frozensets(st.sampled_from(ODDITIES), max_size=3)))

    def values() -> dict[str, Any]:
        found = {name: draw(VALUES) for name in draw(st.sets(st.sampled_from(["own", "global", "extra"])))}
        for name in subcharts:
            if draw(st.booleans()):
                found[name] = {"enabled": draw(st.booleans()), "own": draw(VALUES)}
        return found

    return Generated(version("1.0.0"), version("2.0.0"), values(), values(), brings_crd)
