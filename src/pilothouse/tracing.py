"""Spans of requests, operations, attempts, calls of Helm and requests to clusters.

Without ``PILOTHOUSE_TRACES__ENDPOINT`` nothing is recorded, and a span is one comparison. OpenTelemetry is an extra of
the package, and only ``traced`` loads it. Names and attributes never contain what a client or a chart chose, such as
values, names of releases or texts of errors: whoever sees the traces need not have a right here.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import find_spec
from typing import Final, Literal, Protocol, Self

import structlog

from pilothouse.errors import InvalidSettings
from pilothouse.settings import TraceSettings

Attributes = Mapping[str, str | int]
Kind = Literal["internal", "server", "client", "producer", "consumer"]
#: The header and its longest value of a known version; later versions may be longer, and are read as far.
TRACEPARENT: Final = "traceparent"


class Span(Protocol):
    """What is being done, from the beginning of the block to its end."""

    @property
    def traceparent(self) -> str:
        """Return what continues this trace elsewhere (W3C Trace Context); empty if nothing is recorded."""

    def rename(self, name: str) -> None:
        """Give it the name that is known only now."""

    def note(self, attributes: Attributes) -> None:
        """Add attributes."""

    def fail(self, why: str) -> None:
        """Mark it as failed; ``why`` is a class or a code, never a text with somebody's values."""


class Steps(Protocol):
    """Spans that follow each other: the next one ends the one before."""

    def begin(self, name: str, attributes: Attributes) -> None:
        """End the step before, and begin this one."""


class Backend(Protocol):
    """What records spans."""

    def span(self, name: str, kind: Kind, parent: str | None, attributes: Attributes) -> AbstractContextManager[Span]:
        """Record a span."""

    def steps(self) -> AbstractContextManager[Steps]:
        """Record spans that follow each other."""

    def traceparent(self) -> str:
        """Return what continues the current span elsewhere."""

    def close(self) -> None:
        """Send what was not sent yet, for a few seconds at most."""


class _Nothing:
    """A span that is not recorded, and the block around it."""

    traceparent = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def rename(self, name: str) -> None:
        """Do nothing."""

    def note(self, attributes: Attributes) -> None:
        """Do nothing."""

    def fail(self, why: str) -> None:
        """Do nothing."""


_NOTHING: Final = _Nothing()
_backend: Backend | None = None


def span(
    name: str, kind: Kind = "internal", *, parent: str | None = None, attributes: Attributes | None = None
) -> AbstractContextManager[Span]:
    """Return the block of a span. ``parent``: a traceparent; what is none begins a trace; None: the current span."""
    if _backend is None:
        return _NOTHING
    return _backend.span(name, kind, parent, attributes or {})


@contextmanager
def traced_log(of: Span) -> Iterator[None]:
    """Add the id of the span's trace to what is logged inside."""
    if not of.traceparent:
        yield
        return
    with structlog.contextvars.bound_contextvars(trace_id=of.traceparent.split("-")[1]):
        yield


def steps() -> AbstractContextManager[Steps | None]:
    """Return the block in which steps of the current span are recorded; None if none are."""
    return nullcontext() if _backend is None else _backend.steps()


def traceparent() -> str:
    """Return what continues the current span elsewhere; empty if nothing is recorded."""
    return "" if _backend is None else _backend.traceparent()


def check(settings: TraceSettings) -> None:
    """Raise InvalidSettings if traces are wanted and OpenTelemetry is not installed."""
    if settings.endpoint and find_spec("opentelemetry.exporter") is None:
        raise InvalidSettings(
            "PILOTHOUSE_TRACES__ENDPOINT is set, and OpenTelemetry is not installed: pip install 'pilothouse[otel]', or"
            " unset it"
        )


@contextmanager
def traced(settings: TraceSettings, part: str) -> Iterator[None]:
    """Record spans inside, if the settings say so; ``part``: which process this is."""
    global _backend  # noqa: PLW0603 - one per process, as the registry of metrics
    if not settings.endpoint:
        yield
        return
    check(settings)
    from pilothouse.otel import OpenTelemetry  # noqa: PLC0415 - an extra, which takes 15 MB and 0.2 s to load

    _backend = recorder = OpenTelemetry(settings, part)
    try:
        yield
    finally:
        _backend = None
        recorder.close()
