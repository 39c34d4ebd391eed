"""Each kind of line that Helm logs while it works gives its event; any other line gives none."""

from typing import Any

import pytest

from pilothouse.engine.base import ProgressEvent
from pilothouse.engine.progress import ProgressReader

_DEBUG, _WARNING, _ERROR = 0, 2, 3


@pytest.mark.parametrize(
    ("line", "event"),
    [
        ("getting release history name=x0", {"phase": "render"}),
        ("preparing upgrade name=x0", {"phase": "render"}),
        ("creating resource(s) resources=4", {"phase": "apply", "done": 0, "total": 4}),
        ("checking resources for changes resources=12", {"phase": "apply", "done": 0, "total": 12}),
        (
            "Created resource via patch namespace=t name=x0-web gvk=apps/v1, Kind=Deployment",
            {
                "phase": "apply",
                "object_kind": "Deployment",
                "object_name": "x0-web",
                "object_namespace": "t",
                "done": 1,
            },
        ),
        (
            "Created resource via patch namespace= name=t gvk=/v1, Kind=Namespace",
            {"phase": "apply", "object_kind": "Namespace", "object_name": "t", "done": 1},
        ),
        (
            "Patched resource namespace=t name=x gvk=/v1, Kind=Service",
            {"phase": "apply", "object_kind": "Service", "object_name": "x", "object_namespace": "t", "done": 1},
        ),
        (
            "deleting resource namespace=t name=x kind=ConfigMap",
            {"phase": "delete", "object_kind": "ConfigMap", "object_name": "x", "object_namespace": "t"},
        ),
        (
            "starting delete resource namespace=t name=x kind=Job",
            {"phase": "delete", "object_kind": "Job", "object_name": "x", "object_namespace": "t"},
        ),
        ("waiting for resources count=3 timeout=20s", {"phase": "wait", "total": 3}),
        ("waiting for resources to be deleted count=1 timeout=1m0s", {"phase": "wait", "total": 1}),
        (
            "waiting for resource namespace=t name=x kind=Job expectedStatus=Current actualStatus=InProgress",
            {"phase": "wait", "object_kind": "Job", "object_name": "x", "object_namespace": "t"},
        ),
        (
            "all resources achieved desired status desiredStatus=Current resourceCount=2",
            {"phase": "wait", "done": 2, "total": 2},
        ),
        ("creating release key=sh.helm.release.v1.x0.v1", {"phase": "storage"}),
        ("updating release key=sh.helm.release.v1.x0.v1", {"phase": "storage"}),
        ("deleting release key=sh.helm.release.v1.x0.v1", {"phase": "storage"}),
    ],
)
def test_a_known_line_gives_its_event(line: str, event: dict[str, Any]):
    assert ProgressReader().read(_DEBUG, line) == ProgressEvent(message=line, **event)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "using server-side apply for resource creation forceConflicts=false dryRun=false",
        "clearing REST mapper cache",
        "creating resource(s) resources=many",
        "Error creating resource via patch namespace=t name=x gvk=/v1, Kind=Secret error=data: hunter2",
    ],
)
def test_an_unknown_line_gives_no_event(line: str):
    assert ProgressReader().read(_DEBUG, line) is None


def test_objects_of_a_batch_are_counted():
    reader = ProgressReader()
    lines = [
        "creating resource(s) resources=2",
        "Created resource via patch namespace=t name=a gvk=/v1, Kind=ConfigMap",
        "Created resource via patch namespace=t name=b gvk=/v1, Kind=ConfigMap",
        "creating resource(s) resources=1",
        "Created resource via patch namespace=t name=c gvk=/v1, Kind=ConfigMap",
    ]
    events = [reader.read(_DEBUG, line) for line in lines]
    assert [(event.done, event.total) for event in events if event] == [(0, 2), (1, 2), (2, 2), (0, 1), (1, 1)]


def test_what_is_created_right_after_the_release_was_stored_again_is_a_hook():
    reader = ProgressReader()
    lines = [
        "creating release key=sh.helm.release.v1.x.v1",
        "updating release key=sh.helm.release.v1.x.v1",
        "creating resource(s) resources=1",
        "using server-side apply for resource creation forceConflicts=false dryRun=false",
        "Created resource via patch namespace=t name=before gvk=batch/v1, Kind=Job",
        "waiting for resources count=1 timeout=6s",
        "waiting for resource namespace=t name=before kind=Job expectedStatus=Current actualStatus=InProgress",
        "all resources achieved desired status desiredStatus=Current resourceCount=1",
        "starting delete resource namespace=t name=before kind=Job",
        "creating resource(s) resources=1",
        "Created resource via patch namespace=t name=a gvk=/v1, Kind=ConfigMap",
        "waiting for resources count=1 timeout=6s",
    ]
    events = [reader.read(_DEBUG, line) for line in lines]
    phases = [event.phase for event in events if event is not None]
    assert phases == ["storage"] * 2 + ["hook"] * 5 + ["delete"] + ["apply"] * 2 + ["wait"]


def test_a_warning_is_passed_on_and_an_error_is_left_to_the_result():
    reader = ProgressReader()
    assert reader.read(_WARNING, "This chart contains CRDs.") == ProgressEvent(
        phase="warning", message="This chart contains CRDs."
    )
    assert reader.read(_ERROR, "cluster reachability check failed: x") is None


def test_the_text_of_an_error_is_cut_off():
    event = ProgressReader().read(_WARNING, "upgrade failed name=x error=spec.data: hunter2")
    assert event is not None
    assert "hunter2" not in event.message
