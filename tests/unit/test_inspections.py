"""What a rendered chart is made of: its objects and hooks, the kinds that it brings along, and its size."""

import base64
import gzip
import json
import os

import pytest

from pilothouse.engine.base import Inspection, InspectRequest
from pilothouse.engine.inspections import inspect_rendered
from tests.support.charts import build_chart

CRD = """\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  names: {kind: Widget, plural: widgets}
  versions:
    - {name: v1, served: true, storage: true}
    - {name: v1alpha1, served: false, storage: false}
"""


def inspect(rendered: dict[str, str], *, archive: bytes = b"", crds: tuple[str, ...] = ()) -> Inspection:
    request = InspectRequest(
        namespace="shop", release_name="web", chart=archive, values={"text": "x"}, revision=1, is_upgrade=False
    )
    return Inspection(**inspect_rendered(request, archive, rendered=rendered, crds=crds))


def test_objects_are_found_in_documents_and_lists_with_their_namespace():
    text = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: one}
---
# nothing
---
apiVersion: v1
kind: List
items:
  - {apiVersion: v1, kind: Secret, metadata: {name: two, namespace: other}}
---
apiVersion: batch/v1
kind: Job
metadata: {generateName: three-}
"""
    found = inspect({"c/templates/a.yaml": text, "c/templates/NOTES.txt": "kind: not an object\n"})
    assert [(one.api_version, one.kind, one.namespace, one.name) for one in found.objects] == [
        ("v1", "ConfigMap", "shop", "one"),
        ("v1", "Secret", "other", "two"),
        ("batch/v1", "Job", "shop", ""),
    ]


@pytest.mark.parametrize(
    ("annotation", "runs"),
    [("pre-install", True), ("post-delete, post-install", True), ("test", False), ("post-upgrade", False)],
)
def test_a_hook_runs_at_the_events_of_its_annotation(annotation: str, runs: bool):  # noqa: FBT001  # a test's parameter
    text = f"apiVersion: v1\nkind: Pod\nmetadata: {{name: p, annotations: {{helm.sh/hook: '{annotation}'}}}}\n"
    (found,) = inspect({"c/templates/a.yaml": text}).objects
    assert found.hook == annotation
    assert found.runs_at("pre-install", "post-install") is runs


@pytest.mark.parametrize("text", ["a: [", "just words", "- 1\n- 2\n", "kind: 7\napiVersion: v1\n", "\ud800"])
def test_what_is_no_object_is_left_to_helm(text: str):
    assert inspect({"c/templates/a.yaml": text}).objects == ()


def test_only_served_versions_of_the_charts_own_kinds_count():
    assert inspect({}, crds=(CRD, "not: [yaml", "kind: Other\n")).crd_kinds == (("example.com/v1", "Widget"),)


def test_small_charts_are_not_measured():
    found = inspect({"c/templates/a.yaml": ""}, archive=build_chart("c", templates={"a.yaml": ""}))
    assert (found.packed_bytes, found.unpacked_bytes, found.parts) == (0, 0, ())


def test_a_chart_that_packs_well_is_measured_by_what_it_unpacks_to():
    files = {f"{number}.txt": bytes(4_000_000) for number in range(5)}
    found = inspect({}, archive=build_chart("c", files=files))
    one_file = json.dumps({"name": "0.txt", "data": base64.b64encode(bytes(4_000_000)).decode()})
    assert found.unpacked_bytes == pytest.approx(5 * len(one_file), rel=0.01)
    assert found.packed_bytes < 100_000


def test_a_large_chart_is_measured_as_helm_packs_it_without_what_subcharts_hold():
    noise = os.urandom(500_000)
    subchart = build_chart("sub", files={"more.bin": os.urandom(500_000)})
    archive = build_chart("c", files={"noise.bin": noise}, subcharts={"sub-0.1.0.tgz": subchart})
    found = inspect({}, archive=archive)
    one_file = json.dumps({"name": "noise.bin", "data": base64.b64encode(noise).decode()})
    assert found.packed_bytes == pytest.approx(len(base64.b64encode(gzip.compress(one_file.encode()))), rel=0.01)
    assert found.parts[0].name == "file noise.bin"
    assert all("sub" not in part.name for part in found.parts)
