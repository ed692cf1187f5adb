"""Redacts spans before they are truncated and sent: messages and tracebacks of exceptions that handlers' own spans record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Status

_OURS: Final = ("sickbay.", "messaging.", "rpc.")
"""Prefixes of our own attributes, which are ids, types and codes."""


def unlimited_texts() -> SpanLimits:
    """The limits of OpenTelemetry's variables, except those of texts: a text truncated before redaction may end with a part of a secret."""
    return SpanLimits(max_attribute_length=SpanLimits.UNSET, max_span_attribute_length=SpanLimits.UNSET)


class RedactedExporter(SpanExporter):
    """Redacts spans and passes them to another exporter."""

    def __init__(self, exporter: SpanExporter, redact: Callable[[str], str], limits: SpanLimits) -> None:
        """`redact` must not raise; the text lengths of `limits` are applied here, to spans recorded without them (`unlimited_texts`)."""
        self._exporter = exporter
        self._redact = redact
        self._span_chars = limits.max_span_attribute_length
        self._event_chars = limits.max_attribute_length

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send redacted copies of the spans."""
        return self._exporter.export([self._redacted(span) for span in spans])

    def shutdown(self) -> None:
        """See `SpanExporter`."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """See `SpanExporter`."""
        return self._exporter.force_flush(timeout_millis)

    def _redacted(self, span: ReadableSpan) -> ReadableSpan:
        description = span.status.description
        return ReadableSpan(
            name=span.name,
            context=span.get_span_context(),
            parent=span.parent,
            resource=span.resource,
            attributes=self._attributes(span.attributes, self._span_chars),
            events=[
                Event(self._redact(event.name), self._attributes(event.attributes, self._event_chars), event.timestamp)
                for event in span.events
            ],
            links=span.links,
            kind=span.kind,
            status=Status(span.status.status_code, self._redact(description)) if description else span.status,
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=span.instrumentation_scope,
        )

    def _attributes(self, attributes: Mapping[str, Any] | None, chars: int | None) -> dict[str, Any]:
        return {key: value if key.startswith(_OURS) else self._redact_value(value, chars) for key, value in (attributes or {}).items()}

    def _redact_value(self, value: Any, chars: int | None) -> Any:
        if isinstance(value, str):
            return self._redact(value)[:chars]
        return tuple(self._redact_value(one, chars) for one in value) if isinstance(value, list | tuple) else value
