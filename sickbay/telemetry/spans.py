"""Creates and exports spans: one exporter for the process, and for each of its services a tracer with the service's name."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic
from typing import Final, NamedTuple, Self

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Span, SpanContext, StatusCode, Tracer

from sickbay.domain.errors import SettingsError
from sickbay.telemetry.redacted_spans import RedactedExporter, unlimited_texts
from sickbay.version import VERSION

JOB_ID: Final = "sickbay.job.id"
JOB_TYPE: Final = "sickbay.job.type"
TENANT: Final = "sickbay.job.tenant"
ATTEMPT: Final = "sickbay.job.attempt"
GENERATION: Final = "sickbay.job.generation"
# OpenTelemetry's own names; a test compares them with those of its package.
SYSTEM: Final = "messaging.system"
DESTINATION: Final = "messaging.destination.name"
OPERATION: Final = "messaging.operation.name"
OPERATION_TYPE: Final = "messaging.operation.type"
MESSAGE_ID: Final = "messaging.message.id"
BATCH: Final = "messaging.batch.message_count"
RPC_SYSTEM: Final = "rpc.system.name"
RPC_METHOD: Final = "rpc.method"
RPC_STATUS: Final = "rpc.response.status_code"
ERROR_TYPE: Final = "error.type"

_LOG_AGAIN_S: Final = 60.0


class Tracing(NamedTuple):
    """What one service creates its spans with."""

    provider: TracerProvider
    tracer: Tracer


class Traces:
    """The exporter of spans, shared by all services of a process."""

    def __init__(self, processor: SpanProcessor, instance: str, limits: SpanLimits | None = None) -> None:
        """Pass ended spans to `processor`; `instance` names this process. Without `limits` those of OpenTelemetry's variables apply."""
        self._processor = processor
        self._instance = instance
        self._limits = limits

    @classmethod
    def open(cls, endpoint: str, instance: str, redact: Callable[[str], str] | None = None) -> Self:
        """Send to an OTLP receiver over gRPC; the other OTEL_ variables are read by OpenTelemetry's own packages."""
        logging.getLogger("opentelemetry.exporter.otlp.proto.grpc.exporter").addFilter(_RateLimit())
        try:
            exporter: SpanExporter = OTLPSpanExporter(endpoint)
            if redact is None:
                return cls(BatchSpanProcessor(exporter), instance)
            return cls(BatchSpanProcessor(RedactedExporter(exporter, redact, SpanLimits())), instance, unlimited_texts())
        except Exception as error:
            raise SettingsError(f"a variable OTEL_EXPORTER_OTLP_... or OTEL_BSP_... is invalid: {error}") from error

    def of(self, service: str, *, for_handlers: bool = False) -> Tracing:
        """For `jobapi`, `worker` or `controlplane`; with `for_handlers` handlers get it from OpenTelemetry's API, too."""
        provider = TracerProvider(resource=_resource(service, self._instance), shutdown_on_exit=False, span_limits=self._limits)
        provider.add_span_processor(self._processor)
        if for_handlers and isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):  # they may have set one of their own
            trace.set_tracer_provider(provider)
        return Tracing(provider, provider.get_tracer("sickbay", VERSION))

    def shutdown(self) -> None:
        """Send the remaining spans and stop; blocks."""
        self._processor.shutdown()


def continuing(context: SpanContext) -> Context:
    """A context in which new spans are children of that span, even a remote one."""
    return trace.set_span_in_context(trace.NonRecordingSpan(context), Context())


def mark_failed(span: Span, code: str) -> None:
    """Mark the span as failed, with a code only, because messages may contain secrets."""
    span.set_attribute(ERROR_TYPE, code)
    span.set_status(StatusCode.ERROR, code)


def _resource(service: str, instance: str) -> Resource:
    """The resource of the spans; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES take precedence."""
    ours = {"service.name": f"sickbay-{service}", "service.version": VERSION, "service.instance.id": instance}
    return Resource.create(ours | dict(OTELResourceDetector().detect().attributes))


class _RateLimit(logging.Filter):
    """Rate-limits errors about an unavailable receiver, as warnings, and drops the lines about single attempts."""

    _logged_at = -_LOG_AGAIN_S

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.ERROR:
            return False
        if monotonic() - self._logged_at < _LOG_AGAIN_S:
            return False
        self._logged_at = monotonic()
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        return True
