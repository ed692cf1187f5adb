"""Puts a worker together."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from sickbay.concurrency.tasks import begun_again
from sickbay.domain.health import Health, checks_of
from sickbay.domain.job import JobEvent
from sickbay.domain.raised import Redact, unchanged
from sickbay.handlers.registry import HandlerSpec
from sickbay.messages.outbox import EventOutbox
from sickbay.ports import Delivery
from sickbay.runtime.backends import WorkerParts
from sickbay.runtime.settings import Settings
from sickbay.server.endpoints import Address, Endpoints, serve_endpoints
from sickbay.server.interceptors.metrics import CallMeter
from sickbay.telemetry.backends import BackendStatusCollector, HealthCollector, MeteredBroker
from sickbay.telemetry.joblog import tell
from sickbay.telemetry.metrics import MetricsRegistry
from sickbay.telemetry.tracing import traced
from sickbay.version import VERSION
from worker.engine import Engine, nobody
from worker.metrics import JobMetrics, WorkerMetrics
from worker.redacted import RedactedRunner
from worker.rest import create_gateway
from worker.runner import Runner
from worker.runs import Runs
from worker.watched import WatchedRunner

if TYPE_CHECKING:
    from sickbay.telemetry.spans import Traces, Tracing

SETTLE_S: Final = 10.0
"""What a run that ends with its timeout needs to be settled."""


def grace(settings: Settings, handlers: Mapping[str, HandlerSpec]) -> float:
    """Seconds that running jobs get on SIGTERM: no run can take longer. The process ends within 10 s after that."""
    return max(settings.handler_timeout, *(spec.timeout or 0 for spec in handlers.values()), 0) + SETTLE_S


class Worker:
    """A working worker."""

    def __init__(self, engine: Engine, runner: Runner, doors: Endpoints, grace_s: float) -> None:
        """The engine is running; `grace_s` is how many seconds a drain gives to running jobs."""
        self._engine = engine
        self._runner = runner
        self.doors = doors
        self.grace_s = grace_s

    async def drain(self, grace_s: float) -> None:
        """Say NOT_SERVING, take no more jobs, let running ones finish for `grace_s` seconds, give the rest back."""
        await self.doors.not_serving()
        await self._engine.drain(grace_s)

    @property
    def is_stuck(self) -> bool:
        """Whether a handler goes on that nobody can stop: in a thread, or swallowing its cancellation."""
        return self._runner.is_stuck or self._engine.is_stuck


@asynccontextmanager
async def serve(
    backends: WorkerParts,
    settings: Settings,
    handlers: Mapping[str, HandlerSpec],
    address: Address,
    traces: Traces | None = None,
    *,
    redact: Redact | None = None,
) -> AsyncIterator[Worker]:
    """Work until the context ends; call `drain` before, or running jobs are broken off and given back.

    `redact` takes secrets out of what failed runs say.
    """
    told = MetricsRegistry("worker")
    BackendStatusCollector(backends.vitals, told.registry)
    health = Health(checks_of(backends.vitals, "broker"), grace_s=backends.health_grace)
    HealthCollector(health, told.registry)
    metrics = JobMetrics(told.registry, handlers, time.time)
    tracing = traces.of("worker", for_handlers=True) if traces else None
    broker = traced(MeteredBroker(backends.broker, told.registry), tracing, backends.system)
    runner = Runner(backends.breakers, timeout_s=settings.handler_timeout, concurrency=settings.concurrency, redact=redact or unchanged)
    WorkerMetrics(told.registry, runner=runner, job_types=handlers, concurrency=settings.concurrency, stale=backends.vitals.stale)

    def heard(event: JobEvent) -> None:
        metrics.heard(event)
        tell(event)

    runs = RedactedRunner(runner, redact) if redact else runner
    hooks = _hooks(WatchedRunner(runs, metrics.ran), heard, tracing, backends.system)
    async with EventOutbox(broker, heard=hooks.heard) as events:
        engine = Engine(
            broker=broker,
            breakers=backends.breakers,
            fence=backends.fence,
            events=events,
            runner=hooks.runner,
            handlers=handlers,
            policy=settings.retry_policy,
            concurrency=settings.concurrency,
            prefetch_bytes=settings.prefetch_bytes,
            clock=backends.clock,
            name=settings.worker_name,
            arrived=hooks.arrived,
            redact=redact or unchanged,
        )
        async with serve_endpoints(
            [],
            lambda _, health: create_gateway(health, told, VERSION),
            address,
            registry=told.registry,
            health=health,
            name="worker",
            around=[CallMeter(told.registry)],
            tracing=tracing,
        ) as doors:
            working = asyncio.create_task(begun_again(engine.run), name="engine")
            try:
                yield Worker(engine, runner, doors, grace(settings, handlers))
            finally:
                with contextlib.suppress(asyncio.CancelledError):
                    await engine.drain(0)
                await working
                runner.close()


class _Hooks(NamedTuple):
    """What the engine and its events tell of themselves to."""

    runner: Runs
    heard: Callable[[JobEvent], None]
    arrived: Callable[[Delivery], None] = nobody


def _hooks(runner: Runs, heard: Callable[[JobEvent], None], tracing: Tracing | None, system: str) -> _Hooks:
    if tracing is None:
        return _Hooks(runner, heard)
    from worker.traced import JobTracer, TracedRunner  # noqa: PLC0415 - see `tracing.py`

    jobs = JobTracer(tracing.tracer, system)

    def both(event: JobEvent) -> None:
        jobs.heard(event)
        heard(event)

    return _Hooks(TracedRunner(runner, jobs), both, jobs.arrived)
