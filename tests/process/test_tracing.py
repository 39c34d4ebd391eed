"""Traces that are off, and those that cannot be."""

import importlib.util
import subprocess
import sys
from importlib.machinery import ModuleSpec

import pytest

from pilothouse import tracing
from pilothouse.errors import InvalidSettings
from pilothouse.settings import TraceSettings


def test_processes_that_send_no_traces_load_no_part_of_the_extra():
    program = (
        "import sys, pilothouse.app, pilothouse.daemons\n"
        "extra = ('opentelemetry.sdk', 'opentelemetry.exporter', 'google.protobuf', 'pilothouse.otel')\n"
        "print([name for name in sys.modules if name.startswith(extra)])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_without_a_collector_nothing_is_recorded():
    with tracing.traced(TraceSettings(), "api"), tracing.span("GET", "server", parent="") as span:
        span.note({"http.response.status_code": 200})
        assert (span.traceparent, tracing.traceparent()) == ("", "")
        with tracing.steps() as steps:
            assert steps is None


def test_traces_without_the_extra_are_refused(monkeypatch: pytest.MonkeyPatch):
    find = importlib.util.find_spec

    def find_others(name: str) -> ModuleSpec | None:
        return None if name.startswith("opentelemetry") else find(name)

    monkeypatch.setattr(tracing, "find_spec", find_others)
    with pytest.raises(InvalidSettings, match=r"pip install 'pilothouse\[otel\]'"):
        tracing.check(TraceSettings(endpoint="http://collector:4318/v1/traces"))
    tracing.check(TraceSettings())


@pytest.mark.parametrize(
    ("endpoint", "why"),
    [
        ("collector:4318", "with a path"),
        ("http://collector:4318", "with a path"),
        ("http://collector:4318/", "with a path"),
        ("grpc://collector:4317/v1/traces", "with a path"),
        ("http://name:word@collector/v1/traces", "TRACES__HEADERS"),
    ],
)
def test_a_wrong_address_is_refused(endpoint: str, why: str):
    with pytest.raises(ValueError, match=why):
        TraceSettings(endpoint=endpoint)
