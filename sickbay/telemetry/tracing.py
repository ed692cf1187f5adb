"""Traces: whether they are wanted, and when they begin and end. OpenTelemetry is loaded here, and only if they are.

What makes spans (`spans.py`, the observers `*_traces.py`, `server/interceptors/traces.py`) is imported only where a `Traces` exists. So a
process that sends none has neither OpenTelemetry's tracing SDK nor its exporter in it, and nobody observes.
(FastAPI and redis-py load OpenTelemetry's API, and redis-py its metrics, for themselves.)
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from sickbay.observer import Observer

if TYPE_CHECKING:
    from sickbay.telemetry.spans import Traces, Tracing

FLUSH_S: Final = 2.0
"""How long the end of a process waits for the receiver to take the last spans."""

log = logging.getLogger(__name__)


@asynccontextmanager
async def open_traces(endpoint: str | None, name: str, redact: Callable[[str], str] | None = None) -> AsyncIterator[Traces | None]:
    """What makes the spans of this process's services, sent to `endpoint`; None without one. SettingsError if a variable cannot be meant.

    `name` is that of this process; `redact` takes secrets out of what spans tell.
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
    """What makes spans of publishes, runs and releases, none without `tracing`; `system` is how traces call the broker."""
    if tracing is None:
        return ()
    from sickbay.telemetry.publish_traces import PublishTraces  # noqa: PLC0415 - see the module's docstring
    from sickbay.telemetry.release_traces import ReleaseTraces  # noqa: PLC0415
    from sickbay.telemetry.run_traces import RunTraces  # noqa: PLC0415

    return PublishTraces(tracing.tracer, system), RunTraces(tracing.tracer, system), ReleaseTraces(tracing.tracer)


async def _within(seconds: float, work: Callable[[], None]) -> None:
    """Wait for blocking work, but not for ever: it goes on in a thread that keeps no process alive."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def run() -> None:
        work()
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(done.set)

    threading.Thread(target=run, name="last spans", daemon=True).start()
    try:
        async with asyncio.timeout(seconds):
            await done.wait()
    except TimeoutError:
        log.warning("sending the last spans timed out after %g s; they are lost", seconds)
