"""Progress of objects in the words of their status."""

from typing import Any

import pytest

from pilothouse.kubernetes.readiness import progress


@pytest.mark.parametrize(
    ("kind", "spec", "status", "text"),
    [
        ("Deployment", {"replicas": 2}, {}, "0 of 2 ready"),
        ("Deployment", {"replicas": 2}, {"replicas": 2, "updatedReplicas": 2, "readyReplicas": 1}, "1 of 2 ready"),
        (
            "Deployment",
            {"replicas": 2},
            {"replicas": 3, "updatedReplicas": 1, "readyReplicas": 3},
            "1 of 2 new ready, 2 old left",
        ),
        ("Deployment", {"replicas": 2}, {"replicas": 3, "updatedReplicas": 3, "readyReplicas": 3}, "3 ready, 2 wanted"),
        ("ReplicaSet", {"replicas": 2}, {"replicas": 2, "readyReplicas": 2}, "2 of 2 ready"),
        (
            "DaemonSet",
            {},
            {
                "desiredNumberScheduled": 3,
                "currentNumberScheduled": 3,
                "updatedNumberScheduled": 1,
                "numberReady": 3,
            },
            "1 of 3 new ready, 2 old left",
        ),
        ("Job", {"completions": 2}, {"succeeded": 1}, "1 of 2 completed"),
        ("ConfigMap", {}, {}, ""),
    ],
)
def test_progress_counts_what_is_new(kind: str, spec: dict[str, Any], status: dict[str, Any], text: str):
    assert progress({"kind": kind, "spec": spec, "status": status}) == text
