"""Logs: readable lines on a terminal, JSON elsewhere. Never payloads, never secrets.

Every line logged while a handler runs, by us or by the handler, has the job and the trace.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from textwrap import indent
from typing import Any, Final

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from sickbay.domain.job import Job
from sickbay.telemetry.levels import parse

RUNNING: Final[ContextVar[Job | None]] = ContextVar("running", default=None)
"""The job whose run this context belongs to."""

_FIXED: Final = frozenset(
    {
        "level",
        "logger",
        "timestamp",
        "job_id",
        "job_type",
        "tenant",
        "attempt",
        "generation",
        "run",
        "code",
        "reason",
        "run_ms",
        "retry_in_ms",
    }
    | {"trace_id", "span_id"}
)
"""Fields without free text."""
_QUIET: Final = ("asyncio", "aiosqlite", "alembic", "sqlalchemy", "uvicorn", "grpc")

_tracebacks_without_values: Final = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))
"""Local variables may contain payloads and secrets."""


def configure_logging(levels: str, log_format: str, redact: Callable[[str], str] | None = None) -> None:
    """Send every log line of this process to stderr, including those that handlers log with structlog.

    `levels` is LOG_LEVEL; `log_format` is console, json, or auto (console on a terminal); `redact` removes secrets from every text.
    """
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        _add_job,
        _add_trace,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if console else "iso", utc=not console),
    ]
    render: list[Processor] = [_move_traceback, _escape_controls, _console()] if console else [structlog.processors.JSONRenderer()]
    tracebacks: Processor = structlog.processors.format_exc_info if console else _tracebacks_without_values
    if redact is not None:
        render = [_redactor(redact), *render]
    render.insert(0, tracebacks)
    _install(shared, render)
    default, modules = parse(levels)
    logging.getLogger().setLevel(default)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(default)))
    for name, level in modules.items():
        logging.getLogger(name).setLevel(level)
    logging.getLogger("grpc._cython.cygrpc").addFilter(_keep_record)


def _install(shared: list[Processor], last: list[Processor]) -> None:
    """Install one handler for the standard library's logging, and route structlog through it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
        )
    )
    logging.basicConfig(handlers=[handler], force=True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


def _keep_record(record: logging.LogRecord) -> bool:
    """Drop gRPC's tracebacks about clients that disconnect during a response (grpc/grpc#32551), which is no fault of ours."""
    error = record.exc_info[1] if record.exc_info else None
    return type(error).__name__ != "ExecuteBatchError"


def _redactor(redact: Callable[[str], str]) -> Processor:
    """Redact every text of a line except the fixed fields."""

    def redact_value(value: Any) -> Any:
        if isinstance(value, str):
            return redact(value)
        if isinstance(value, Mapping):
            return {key: redact_value(one) for key, one in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [redact_value(one) for one in value]
        return value if value is None or isinstance(value, bool | int | float) else redact(_shown(value))

    def redacted(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
        return {key: value if key in _FIXED else redact_value(value) for key, value in line.items()}

    return redacted


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - `repr` runs foreign code
        return f"({type(value).__name__})"


def _move_traceback(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    """On a terminal, print the traceback of a failed run below its line, like that of an exception."""
    if "traceback" in line:
        line["exception"] = line.pop("traceback")
    return line


def _escape_controls(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    """Escape what would move the cursor, change colours or start a fake line: texts are untrusted."""
    escaped = {key: _escaped(value, "\n" if key == "exception" else "") for key, value in line.items()}
    if isinstance(escaped.get("exception"), str):
        escaped["exception"] = indent(escaped["exception"], "  ")  # it includes the lines of the message
    return escaped


def _escaped(value: Any, kept: str) -> Any:
    if not isinstance(value, str) or value.isprintable():
        return value
    return "".join(one if one.isprintable() or one in kept else one.encode("unicode_escape").decode("ascii") for one in value)


def _console() -> Processor:
    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty() and not os.environ.get("NO_COLOR"),
        pad_level=False,
        pad_event_to=0,
        exception_formatter=structlog.dev.plain_traceback,
    )


def _add_job(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    job = RUNNING.get()
    if job is not None and "job_id" not in line:
        line.update(job_id=job.job_id, job_type=job.job_type, attempt=job.attempt, generation=job.generation)
    return line


def _add_trace(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    """Add the trace; there can only be one if OpenTelemetry's SDK is loaded."""
    if "opentelemetry.sdk.trace" in sys.modules:
        trace: Any = sys.modules["opentelemetry.trace"]
        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            line.update(trace_id=f"{span.trace_id:032x}", span_id=f"{span.span_id:016x}")
    return line
