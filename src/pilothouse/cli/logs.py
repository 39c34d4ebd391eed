"""Logs of all processes: structured events on standard error, for people or for machines."""

import logging
import sys
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any, TextIO

import structlog

from pilothouse.cli.terminal import on_one_line, printable
from pilothouse.redaction import redact_event, redact_log
from pilothouse.settings import Settings


def configure_quiet_logs(settings: Settings) -> None:
    """Log only warnings, on standard error, for commands with their own output."""
    configure_logs(settings.model_copy(update={"log_level": "warning"}))


def configure_logs(settings: Settings, *, stream: TextIO = sys.stderr) -> None:
    """Write every log event of this process to the stream, as text or as JSON, with secrets masked.

    Includes messages of libraries from WARNING on, and the traceback of a process that dies of an error.
    """
    level = logging.getLevelNamesMapping().get(settings.log_level.upper(), logging.INFO)
    renderer: structlog.typing.Processor = structlog.dev.ConsoleRenderer(colors=stream.isatty())
    if settings.log_format == "json":
        renderer = structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            lambda _logger, _method, event: redact_event(event),
            *([] if settings.log_format == "json" else [_escape]),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Redacting("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    sys.excepthook = _last_words


def _escape(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape before rendering, so that the renderer's own colours are kept."""
    return {key: _shown(value) if key == "exception" else _on_one_line(value) for key, value in event.items()}


def _shown(value: Any) -> Any:
    return printable(value) if isinstance(value, str) else value


def _on_one_line(value: Any) -> Any:
    if isinstance(value, str):
        return on_one_line(value)
    # the console writes others as repr does, which escapes
    return value


class _Redacting(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Format the record, including its traceback, with secrets masked."""
        return printable(redact_log(super().format(record)))


def _last_words(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    structlog.get_logger(__name__).critical("process_failed", exc_info=(kind, error, trace))
