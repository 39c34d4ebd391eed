"""What is kept of a failure holds no secret, and is never large."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.engine.helm_errors import Blocking, Conflict, blocking_in, conflicts_in
from pilothouse.engine.tested import PodOfTest, RunTestsOutcome
from pilothouse.kubernetes.readiness import containers, is_healthy, pod_problem, progress
from pilothouse.redaction import Masks
from pilothouse.worker.diagnostics.found import Found
from pilothouse.worker.progress.hook_pods import Followed

SECRET = "correct-horse-battery"
LARGEST = 256 * 1024


def pod(name: str, *containers: dict[str, Any], **status: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "t", "name": name}, "status": {"containerStatuses": list(containers), **status}}


def container(name: str = "main", **state: Any) -> dict[str, Any]:
    return {"name": name, "restartCount": 0, "state": state}


def test_secrets_are_masked_wherever_they_come_from():
    found = Found([Masks([SECRET])], missing=[f"log: {SECRET}"])
    failed = container(terminated={"exitCode": 1, "message": f"cannot log in with {SECRET}"})
    log = [b"password=hunter22 is wrong", f"used {SECRET}".encode(), b"-----BEGIN PRIVATE KEY-----", b"MIIabc", b"xyz"]
    found.add_pod("Job/x", pod("x-1", failed, phase="Failed"), hook=True, logs={"main": log})
    text = found.put_together(f"failed with {SECRET}: resource Job/t/x not ready. status: Failed, message: {SECRET}")
    for secret in (SECRET, "hunter22", "MIIabc", "xyz"):
        assert secret not in text
    assert "cannot log in with ***" in text


def test_a_secret_that_a_limit_would_cut_is_masked_before():
    found = Found([Masks([SECRET])])
    for before in range(990, 1001):
        (line,) = found.clean_lines([b"x" * before + b" " + SECRET.encode()])
        assert "correct" not in line
        assert "correct" not in found.clean("x" * before + " " + SECRET)


@pytest.mark.parametrize("line", ["{secret} a\n", "{secret} " + "a" * 5000 + "\n", "\t{secret}" * 40 + "\n"])
@pytest.mark.parametrize("start", range(0, len(SECRET) + 2, 3))
def test_a_secret_that_the_end_of_a_log_of_a_test_begins_in_is_not_shown(line: str, start: int):
    """The engine sends the last 64 KiB, whose beginning no mask recognises if it is in a secret."""
    sent = 64 * 1024
    text = line.format(secret=SECRET) * (sent // len(line) + 2)
    end = text[start:][:sent] if text[start:][:sent].endswith("\n") else text[start : sent + start - 1] + "\n"
    found = Found([Masks([SECRET])])
    tested = PodOfTest("Pod/x", pod("x", container(terminated={"exitCode": 0})), {"main": end})
    found.add_followed(Followed(tests=RunTestsOutcome(failure="", failure_kind="", tests=[], pods=(tested,))))
    (shown,) = [one["containers"][0]["log"] for one in found.pods.values()]
    assert shown
    for part in range(1, len(SECRET) - 4):
        assert not any(SECRET[part:] in one for one in shown)


def test_a_short_log_of_a_test_is_shown_from_its_first_line():
    found = Found([Masks([SECRET])])
    tested = PodOfTest("Pod/x", pod("x", container(terminated={"exitCode": 0})), {"main": "first\nlast\n"})
    found.add_followed(Followed(tests=RunTestsOutcome(failure="", failure_kind="", tests=[], pods=(tested,))))
    assert [one["containers"][0]["log"] for one in found.pods.values()] == [["first", "last"]]


def test_the_last_lines_of_a_log_are_kept_whole():
    found = Found([])
    lines = [f"line {number} {'x' * 90}".encode() for number in range(100)]
    kept = found.clean_lines(lines)
    assert kept[-1].startswith("line 99 ")
    assert 70 <= len(kept) < 100
    assert found.clean_lines([b"\x1b[31mred\x07"]) == ["red "]


def test_whatever_was_found_is_cut_to_size():
    found = Found([], missing=["m" * 5000] * 100)
    long = {"message": "w" * 5000, "reason": "CrashLoopBackOff"}
    for number in range(50):
        some = [container(f"c{one}", waiting=long) for one in range(20)]
        logs = {f"c{one}": [("l" * 2000).encode()] * 100 for one in range(20)}
        found.add_pod("Deployment/x", pod(f"p{number}", *some), hook=False, logs=logs)
    found.events = [{"at": str(one), "text": "e" * 1000} for one in range(1000)]
    conflicts = " && ".join(
        f"conflict occurred while applying object t/c{one} /v1, Kind=ConfigMap: Apply failed with 1 conflict: "
        f'conflict with "m": .{"f" * 5000}'
        for one in range(200)
    )
    text = found.put_together(conflicts + "resource Job/t/x not ready. status: Failed, message: m\n" * 200)
    assert len(text.encode()) <= LARGEST
    document = orjson.loads(text)
    assert document["pods"]
    assert document["conflicts"][0]["name"] == "c0"


@pytest.mark.parametrize(
    ("conflicts", "expected"),
    [
        ('Apply failed with 1 conflict: conflict with "hpa": .spec.replicas', [(".spec.replicas", "hpa")]),
        (
            (
                'Apply failed with 1 conflict: conflict with "kubectl" with subresource "scale" using apps/v1 at '
                "2026-11-24T12:00:00Z: .spec.replicas"
            ),
            [(".spec.replicas", "kubectl")],
        ),
        (
            (
                'Apply failed with 3 conflicts: conflicts with "argo \\"x\\"":\n- .data.a\n- .data.b\n'
                'conflicts with "hpa" using v1:\n- .spec.c[name="x: y"].d'
            ),
            [(".data.a", 'argo "x"'), (".data.b", 'argo "x"'), ('.spec.c[name="x: y"].d', "hpa")],
        ),
    ],
)
def test_conflicts_are_read_from_helms_error(conflicts: str, expected: list[tuple[str, str]]):
    said = f"conflict occurred while applying object t/one apps/v1, Kind=Deployment: {conflicts}"
    text = f'Upgrade "x" failed: {said} && {said.replace("t/one", "/two")}'
    assert conflicts_in(text) == [
        Conflict("Deployment", namespace, name, field, manager)
        for namespace, name in (("t", "one"), ("", "two"))
        for field, manager in expected
    ]


def test_objects_that_were_waited_for_are_read_from_helms_error():
    text = (
        'Release "x" failed: resource Deployment/t/web not ready. status: InProgress, message: Available: 0/3\n'
        "resource Secret/t/own still exists. status: Terminating, message: \ncontext deadline exceeded"
    )
    assert blocking_in(text) == [
        Blocking("Deployment", "t", "web", "InProgress", "Available: 0/3"),
        Blocking("Secret", "t", "own", "Terminating", ""),
    ]


UNSCHEDULABLE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}


@pytest.mark.parametrize(
    ("ailing", "words"),
    [
        (pod("p", conditions=[UNSCHEDULABLE]), "Unschedulable: 0/3 nodes"),
        (pod("p", container(waiting={"reason": "ErrImagePull", "message": "no\nsuch"})),
         "container main: ErrImagePull: no such"),
        (pod("p", container(running={}), container("side", terminated={"exitCode": 137, "reason": "OOMKilled"})),
         "container side: ended with exit code 137 (OOMKilled)"),
        (pod("p", container(waiting={"reason": "CrashLoopBackOff"}) | {"lastState": {"terminated": {"exitCode": 1}}}),
         "container main: CrashLoopBackOff; before that ended with exit code 1"),
        (pod("p", phase="Failed", reason="Evicted", message="disk"), "Evicted: disk"),
        (pod("p", container(waiting={"reason": "ContainerCreating"})), "container main: ContainerCreating"),
        (pod("p", container(running={}), phase="Running"), "Running"),
        ({}, "Pending"),
    ],
)  # fmt: skip
def test_a_pod_says_what_is_wrong_with_it(ailing: dict[str, Any], words: str):
    assert pod_problem(ailing) == words
    assert not is_healthy(ailing)


def workload(kind: str, wanted: int, **status: int | str) -> dict[str, Any]:
    return {"kind": kind, "spec": {"replicas": wanted}, "status": status}


@pytest.mark.parametrize(
    ("live", "words"),
    [
        (workload("Deployment", 3, replicas=3, updatedReplicas=3, readyReplicas=1), "1 of 3 ready"),
        # a new pod beside two old ones, which are ready and are not what is waited for
        (workload("Deployment", 2, replicas=3, updatedReplicas=1, readyReplicas=2), "0 of 2 new ready, 2 old left"),
        (workload("Deployment", 2, replicas=3, updatedReplicas=1, readyReplicas=3), "1 of 2 new ready, 2 old left"),
        (workload("Deployment", 2, replicas=3, updatedReplicas=2, readyReplicas=3), "2 of 2 new ready, 1 old left"),
        (workload("Deployment", 2, replicas=3, updatedReplicas=3, readyReplicas=3), "3 ready, 2 wanted"),
        ({"metadata": {"generation": 2}, **workload("Deployment", 2, observedGeneration=1, readyReplicas=2)},
         "the latest change was not taken up yet"),
        ({"kind": "Deployment", "spec": {"replicas": 2, "minReadySeconds": 5},
          "status": {"replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 1}}, "1 of 2 ready"),
        (workload("StatefulSet", 3, updatedReplicas=1, readyReplicas=2, currentRevision="a", updateRevision="b"),
         "0 of 3 new ready, 2 old left"),
        (workload("DaemonSet", 0, desiredNumberScheduled=3, currentNumberScheduled=3, numberReady=3,
                  updatedNumberScheduled=1), "1 of 3 new ready, 2 old left"),
        ({"kind": "Deployment"}, "0 of 1 ready"),
        (workload("DaemonSet", 0, desiredNumberScheduled=4, updatedNumberScheduled=4, numberReady=2), "2 of 4 ready"),
        ({"kind": "Job", "spec": {"completions": 2}, "status": {"succeeded": 1}}, "1 of 2 completed"),
        ({"kind": "ConfigMap"}, ""),
    ],
)  # fmt: skip
def test_a_workload_says_how_far_it_is(live: dict[str, Any], words: str):
    assert progress(live) == words


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "metadata",
                    "status",
                    "spec",
                    "name",
                    "state",
                    "waiting",
                    "terminated",
                    "reason",
                    "conditions",
                    "type",
                    "containerStatuses",
                    "lastState",
                    "exitCode",
                    "restartCount",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)


@given(st.dictionaries(st.sampled_from(["metadata", "status", "spec", "kind"]), anything))
def test_a_status_may_be_anything(odd: dict[str, Any]):
    assert isinstance(pod_problem(odd), str)
    assert isinstance(progress(odd), str)
    for one in containers(odd):
        assert isinstance(one.state, str)
    found = Found([])
    found.add_pod("Job/x", odd, hook=True)
    assert len(orjson.loads(found.put_together(""))["pods"]) == 1
