"""What is told of Helm's reports while an operation runs."""

import pytest

from pilothouse.engine.protocol import ProgressEvent
from pilothouse.worker.progress.events import describe


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("ServiceAccount", "waiting for 4 of 5 objects"),
        ("ConfigMap", "waiting for 4 of 5 objects"),
        ("Deployment", "waiting for Deployment web"),
        ("Service", "waiting for Service web"),
    ],
)
def test_nobody_is_said_to_wait_for_what_is_ready_as_it_is(kind: str, told: str):
    event = ProgressEvent(
        phase="wait",
        message="waiting for objects",
        object_kind=kind,
        object_name="web",
        object_namespace="shop",
        done=1,
        total=5,
    )

    assert describe(event) == told
