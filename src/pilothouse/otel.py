"""Recording of spans by OpenTelemetry: the only module that loads it."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final
from urllib.parse import unquote

import structlog
from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from pilothouse import __version__
from pilothouse.settings import TraceSettings

log = structlog.get_logger(__name__)

_PROPAGATOR: Final = TraceContextTextMapPropagator()
_KINDS: Final = {kind.name.lower(): kind for kind in SpanKind}
_SEND_SECONDS: Final = 5.0
#: Spans that wait to be sent; more are dropped, as a collector that is down must not cost memory.
_MOST_WAITING: Final = 4096
#: Steps of one call: a chart with thousands of objects fills no trace.
_MOST_STEPS: Final = 200


class _Recorded:
    def __init__(self, span: trace.Span) -> None:
        self._span = span

    @property
    def traceparent(self) -> str:
        """Return the W3C form of the span's ids."""
        ids = self._span.get_span_context()
        return f"00-{ids.trace_id:032x}-{ids.span_id:016x}-{ids.trace_flags:02x}" if ids.is_valid else ""

    def rename(self, name: str) -> None:
        """Give it another name."""
        self._span.update_name(name)

    def note(self, attributes: Mapping[str, str | int]) -> None:
        """Add attributes."""
        self._span.set_attributes(attributes)

    def fail(self, why: str) -> None:
        """Mark it as failed."""
        self._span.set_attribute("error.type", why)
        self._span.set_status(Status(StatusCode.ERROR))


class _Steps:
    """The steps of the current span; those beyond the limit are counted."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer
        self._around = trace.get_current_span()
        self._last: trace.Span | None = None
        self._count = 0

    def begin(self, name: str, attributes: Mapping[str, str | int]) -> None:
        """End the step before, and begin this one."""
        self.end()
        self._count += 1
        if self._count <= _MOST_STEPS:
            self._last = self._tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes)
        else:
            self._around.set_attribute("pilothouse.steps_not_recorded", self._count - _MOST_STEPS)

    def end(self) -> None:
        """End the last step."""
        if self._last is not None:
            self._last.end()
            self._last = None


class _Reporting(SpanExporter):
    """Sends by OTLP; logs once when that begins to fail, and once when it works again."""

    def __init__(self, exporter: OTLPSpanExporter) -> None:
        self._exporter = exporter
        self._failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send the spans; those that cannot be sent are lost."""
        result = self._exporter.export(spans)
        failed = result is not SpanExportResult.SUCCESS
        if failed and not self._failing:
            log.warning("traces_not_sent", spans=len(spans))
        elif self._failing and not failed:
            log.info("traces_sent_again")
        self._failing = failed
        return result

    def shutdown(self) -> None:
        """Close the connection."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Return True: nothing waits here."""
        return self._exporter.force_flush(timeout_millis)


class OpenTelemetry:
    """The spans of one process, sent in the background."""

    def __init__(self, settings: TraceSettings, part: str) -> None:
        # What it logs about a collector that is down, with the address and its answer, is said by us, once.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        exporter = OTLPSpanExporter(
            settings.endpoint,
            certificate_file=str(settings.ca) if settings.ca is not None else None,
            headers=_headers(settings),
            timeout=_SEND_SECONDS,
        )
        resource = Resource.create(
            {"service.name": settings.service_name, "service.version": __version__, "pilothouse.part": part}
        )
        self._provider = TracerProvider(
            resource=resource, sampler=ParentBased(TraceIdRatioBased(settings.ratio)), shutdown_on_exit=False
        )
        processor = BatchSpanProcessor(
            _Reporting(exporter),
            max_queue_size=_MOST_WAITING,
            schedule_delay_millis=settings.send_seconds * 1000,
            export_timeout_millis=_SEND_SECONDS * 1000,
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("pilothouse", __version__)

    @contextmanager
    def span(
        self, name: str, kind: str, parent: str | None, attributes: Mapping[str, str | int]
    ) -> Iterator[_Recorded]:
        """Record a span; of an error only its class, because its text may have values in it.

        What belongs to no request and no attempt, such as the looks of a worker between them, begins no trace.
        """
        if parent is None and not trace.get_current_span().get_span_context().is_valid:
            yield _Recorded(trace.INVALID_SPAN)
            return
        context = None if parent is None else _PROPAGATOR.extract({"traceparent": parent}, contexts.Context())
        with self._tracer.start_as_current_span(
            name,
            context=context,
            kind=_KINDS[kind],
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as started:
            recorded = _Recorded(started)
            try:
                yield recorded
            except BaseException as error:
                recorded.fail(type(error).__name__)
                raise

    @contextmanager
    def steps(self) -> Iterator[_Steps]:
        """Record the steps of the current span."""
        made = _Steps(self._tracer)
        try:
            yield made
        finally:
            made.end()

    def traceparent(self) -> str:
        """Return the W3C form of the current span's ids; empty outside one."""
        return _Recorded(trace.get_current_span()).traceparent

    def close(self) -> None:
        """Send what waits, and stop."""
        self._provider.shutdown()


def _headers(settings: TraceSettings) -> dict[str, str]:
    pairs = (part.partition("=") for part in settings.headers.get_secret_value().split(",") if part.strip())
    return {name.strip(): unquote(value.strip()) for name, _, value in pairs}
