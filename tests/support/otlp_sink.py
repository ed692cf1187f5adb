"""A receiver of OTLP over gRPC inside the tests, on a free port: it keeps every span it is sent, to be waited for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Condition
from typing import Any, Final, Self

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceServicer, add_TraceServiceServicer_to_server
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

PATIENCE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Span:
    """One span as it was received; ids in hexadecimal digits, times in ns, `error` the status' message if it is one."""

    service: str
    name: str
    kind: str
    trace: str
    id: str
    parent: str
    state: str
    links: tuple[tuple[str, str], ...]
    facts: Mapping[str, Any]
    error: str | None
    begin: int
    end: int

    @property
    def here(self) -> tuple[str, str]:
        """What a link to it says."""
        return (self.trace, self.id)


class Receiver(TraceServiceServicer):
    """`with` serves, with TLS if there are a `certificate` and a `key`; `env` sends a product's spans here, soon after they end."""

    def __init__(self, certificate: Path | None = None, key: Path | None = None) -> None:
        """Nothing has come yet."""
        self._files = (key, certificate) if key and certificate else None
        self.spans: list[Span] = []
        self.raw: list[bytes] = []
        self._news = Condition()

    def __enter__(self) -> Self:
        self._server = grpc.server(ThreadPoolExecutor(4))
        add_TraceServiceServicer_to_server(self, self._server)
        if self._files is None:
            self.port = self._server.add_insecure_port("127.0.0.1:0")
        else:
            key, chain = (file.read_bytes() for file in self._files)
            self.port = self._server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, chain)]))
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait()

    @property
    def env(self) -> Mapping[str, str]:
        """The variables that lead here."""
        scheme = "https" if self._files else "http"
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": f"{scheme}://localhost:{self.port}", "OTEL_BSP_SCHEDULE_DELAY": "50"}

    def Export(self, request: pb.ExportTraceServiceRequest, context: Any) -> pb.ExportTraceServiceResponse:  # noqa: N802 - gRPC's name
        """Take spans."""
        spans = [_span(span, of) for of in request.resource_spans for scope in of.scope_spans for span in scope.spans]
        with self._news:
            self.raw.append(request.SerializeToString())
            self.spans += spans
            self._news.notify_all()
        return pb.ExportTraceServiceResponse()

    def wait(self, count: int = 1, **facts: Any) -> list[Span]:
        """Wait until so many spans have these attributes, and maybe `name`, `trace`, ...; in the order of their begins."""
        return self.wait_for(lambda span: all(_has(span, name, value) for name, value in facts.items()), count)

    def wait_for(self, wanted: Callable[[Span], bool], count: int = 1) -> list[Span]:
        """Wait until so many are as wanted."""

        def found() -> Sequence[Span]:
            return sorted(filter(wanted, self.spans), key=lambda span: span.begin)

        with self._news:
            assert self._news.wait_for(lambda: len(found()) >= count, PATIENCE_S), f"only {found()} of:\n" + "\n".join(map(str, self.spans))
            return list(found())


def _has(span: Span, name: str, value: Any) -> bool:
    if name in Span.__slots__:
        return bool(getattr(span, name) == value)
    return bool(span.facts.get(f"sickbay.{name.replace('__', '.')}") == value)


def _span(span: trace_pb2.Span, of: trace_pb2.ResourceSpans) -> Span:
    return Span(
        service=_facts(of.resource.attributes)["service.name"],
        name=span.name,
        kind=trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        state=span.trace_state,
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        facts=_facts(span.attributes),
        error=span.status.message if span.status.code == trace_pb2.Status.STATUS_CODE_ERROR else None,
        begin=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
    )


def _facts(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    return [_value(one) for one in value.array_value.values] if kind == "array_value" else getattr(value, kind or "string_value")
