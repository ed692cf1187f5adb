"""Spans that stay in the process, and short ways to say where in a trace they are."""

from dataclasses import replace

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from sickbay.domain.job import Job
from sickbay.domain.trace import trace_of
from sickbay.messages.publisher import Publisher
from sickbay.observer import Observers
from sickbay.telemetry.publish_traces import PublishTraces
from sickbay.telemetry.trace_links import TraceLinks
from tests.support.engine_bench import StubBroker

PARENT = f"00-{'ab' * 16}-{'cd' * 8}-01"
ORIGIN = (0xAB * 0x01010101010101010101010101010101, 0xCD * 0x0101010101010101)
JOB = Job("j-1", "email", b'{"secret": "hunter2"}', submitted_at=1)


class Sent:
    """A tracer, and the spans it made by name."""

    def __init__(self):
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = provider.get_tracer("test")

    @property
    def spans(self):
        return self._exporter.get_finished_spans()

    def one(self, name):
        (span,) = [span for span in self.spans if span.name == name]
        return span


def here(span):
    return (span.context.trace_id, span.context.span_id)


def above(span):
    return None if span.parent is None else (span.parent.trace_id, span.parent.span_id)


def links(span):
    return [(link.context.trace_id, link.context.span_id) for link in span.links]


def carried(message):
    return TraceLinks.read(trace_of(message.headers))


def origin(message):
    context = carried(message).origin
    return (context.trace_id, context.span_id)


def traced(job=JOB, state=""):
    return replace(job, trace=f"{PARENT} {state}".strip())


def publisher(broker, sent):
    return Publisher(broker, Observers([PublishTraces(sent.tracer, "rabbitmq")]))


async def published(sent, *messages):
    stub = StubBroker([])
    await publisher(stub, sent).publish(messages)
    return stub.published
