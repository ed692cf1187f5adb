"""Enables and shuts down tracing. OpenTelemetry is loaded here, and only if tracing is enabled.

The modules that create spans (`spans.py`, the observers `*_traces.py`, `server/interceptors/traces.py`) are imported only if a `Traces`
exists. So a process without tracing loads neither OpenTelemetry's tracing SDK nor its exporter, and has no observers for it.
(FastAPI and redis-py load OpenTelemetry's API by themselves, and redis-py its metrics.)
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from sickbay.domain.job import Job
from sickbay.domain.trace import no_trace, trace_headers, trace_of
from sickbay.observer import Observer

if TYPE_CHECKING:
    from sickbay.telemetry.http_traces import HttpTraces
    from sickbay.telemetry.spans import Traces, Tracing

FLUSH_S: Final = 2.0
"""How long the end of a process waits for the receiver to accept the last spans."""

log = logging.getLogger(__name__)


@asynccontextmanager
async def open_traces(endpoint: str | None, name: str, redact: Callable[[str], str] | None = None) -> AsyncIterator[Traces | None]:
    """The exporter of spans to `endpoint`; None without one. SettingsError if a variable is invalid.

    `name` is that of this process; `redact` removes secrets from spans.
    """
    if endpoint is None:
        yield None
        return
    from sickbay.telemetry.spans import Traces  # noqa: PLC0415 - see the module's docstring

    traces = Traces.open(endpoint, name, redact)
    try:
        yield traces
    finally:
        await _within(FLUSH_S, traces.shutdown)


def trace_observers(tracing: Tracing | None, system: str) -> Sequence[Observer]:
    """Observers that create spans of publishes, runs and releases, none without `tracing`; `system` is the name of the broker in traces."""
    if tracing is None:
        return ()
    from sickbay.telemetry.publish_traces import PublishTraces  # noqa: PLC0415 - see the module's docstring
    from sickbay.telemetry.release_traces import ReleaseTraces  # noqa: PLC0415
    from sickbay.telemetry.run_traces import RunTraces  # noqa: PLC0415

    return PublishTraces(tracing.tracer, system), RunTraces(tracing.tracer, system), ReleaseTraces(tracing.tracer)


def request_spans(tracing: Tracing | None) -> HttpTraces | None:
    """Creates spans of the requests of handlers behind HTTP; None without `tracing`."""
    if tracing is None:
        return None
    from sickbay.telemetry.http_traces import HttpTraces  # noqa: PLC0415 - see the module's docstring

    return HttpTraces(tracing.tracer)


def trace_context(tracing: Tracing | None, job: Job) -> Mapping[str, str]:
    """The headers of the trace of a run that has begun: below its span, without `tracing` those that came with the job."""
    if tracing is None:
        return trace_headers(job.trace)
    from sickbay.telemetry.run_traces import current_headers  # noqa: PLC0415 - see the module's docstring

    return current_headers()


def current_trace(tracing: Tracing | None) -> Callable[[], str]:
    """What says the trace context of the present call, as in `Job.trace`: empty without `tracing`, and outside of spans."""
    if tracing is None:
        return no_trace
    from sickbay.telemetry.run_traces import current_headers  # noqa: PLC0415 - see the module's docstring

    return lambda: trace_of(current_headers())


async def _within(seconds: float, work: Callable[[], None]) -> None:
    """Wait for blocking work with a timeout: it continues in a thread that does not keep the process alive."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def run() -> None:
        work()
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(done.set)

    threading.Thread(target=run, name="last spans", daemon=True).start()
    try:
        async with asyncio.timeout(seconds):
            await done.wait()
    except TimeoutError:
        log.warning("sending the last spans timed out after %g s; they are lost", seconds)
