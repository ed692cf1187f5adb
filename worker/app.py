"""Assembles a worker."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sickbay.concurrency.tasks import background, run_with_restarts
from sickbay.domain.foreign import foreign_tenants
from sickbay.domain.health import Health, checks_of
from sickbay.domain.program import WorkStream
from sickbay.domain.raised import Redact, unchanged
from sickbay.fleet import FleetView
from sickbay.handlers.registry import HandlerSpec
from sickbay.jobs.v1.worker_service_pb2_grpc import add_WorkerServiceServicer_to_server
from sickbay.messages.outbox import EventOutbox
from sickbay.observer import Observer
from sickbay.runtime.http_handlers import HttpHandlers
from sickbay.runtime.parts import WorkerParts
from sickbay.runtime.policies import Policies
from sickbay.runtime.settings import Settings
from sickbay.server.audit.auditor import Auditor
from sickbay.server.endpoints import Address, Endpoints, serve_endpoints
from sickbay.server.interceptors.metrics import CallMeter
from sickbay.server.service import Service
from sickbay.telemetry.tracing import current_trace, request_spans, trace_context
from sickbay.version import VERSION
from worker.announcing import Announcing
from worker.engine import Engine
from worker.handlers import Handlers, Source
from worker.instruments import instruments
from worker.metrics import DemotionCollector
from worker.presence import Presence
from worker.programs.connected import Connected
from worker.programs.metrics import ProgramMetrics
from worker.programs.service import WorkApi
from worker.rate_gate import RateGate
from worker.reload import Reload
from worker.rest import create_gateway
from worker.runner import Runner
from worker.submitting import open_submitter

if TYPE_CHECKING:
    from sickbay.telemetry.spans import Traces

SETTLE_S: Final = 10.0
"""The time to settle a run that has timed out."""
MAX_SHOWN: Final = 20
"""Job types that the line of the start names."""

log = logging.getLogger("sickbay")


def grace(settings: Settings, handlers: Mapping[str, HandlerSpec], policies: Policies | None = None) -> float:
    """Seconds that running jobs get on SIGTERM: no run can take longer. The process exits within 10 s after that."""
    in_force = [policies.timeout_s(spec.job_type, spec.timeout) for spec in handlers.values()] if policies else []
    return max(settings.handler_timeout, *(spec.timeout or 0 for spec in handlers.values()), *in_force, 0) + SETTLE_S


class Worker:
    """A running worker."""

    def __init__(
        self,
        engine: Engine,
        runner: Runner,
        *,
        handlers: Handlers,
        programs: Connected,
        presence: Presence,
        endpoints: Endpoints,
        grace_s: Callable[[], float],
    ) -> None:
        """The engine is running; `grace_s` returns the time that a drain gives to running jobs, in seconds."""
        self._engine = engine
        self.handlers = handlers
        self._programs = programs
        self._presence = presence
        self._runner = runner
        self.endpoints = endpoints
        self._grace_s = grace_s

    @property
    def grace_s(self) -> float:
        """The time that a drain gives to running jobs, in seconds; also to those of handlers that have been replaced."""
        return max(self._grace_s(), self._runner.longest_s + SETTLE_S)

    def reload(self, modules: str, since: float, skip: Collection[Path] = ()) -> Reload:
        """What replaces the handlers of these modules, loaded after `since`, when their files change; it has to be run."""
        return Reload(modules, since, handlers=self.handlers, runner=self._runner, skip=skip)

    async def drain(self, grace_s: float) -> None:
        """Report NOT_SERVING, consume no more jobs, let running ones finish for `grace_s` seconds, and requeue the rest."""
        self._presence.drain()
        self._programs.drain()
        await self.endpoints.not_serving()
        await self._engine.drain(grace_s)

    @property
    def is_stuck(self) -> bool:
        """Whether a handler is still running that cannot be stopped: in a thread, or because it swallows its cancellation."""
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
    observers: Sequence[Observer] = (),
) -> AsyncIterator[Worker]:
    """Work until the context ends; call `drain` before, or running jobs are cancelled and requeued.

    `redact` removes secrets from the texts of failed runs; `observers` are the user's.
    """
    redact = redact or unchanged
    policies = backends.policies or Policies(settings)
    tracing = traces.of("worker", for_handlers=True) if traces else None
    http = HttpHandlers(policies, backends.clock, request_spans(tracing))
    live = Handlers(handlers)
    live.replace(Source.SETTINGS_FILE, http.specs)
    if settings.work_stream is WorkStream.OFF:  # else programs may bring handlers of any type of the file
        policies.report_unhandled(live)
    runner = Runner(
        backends.breakers,
        timeout_s=settings.handler_timeout,
        concurrency=settings.concurrency,
        redact=redact,
        timeout_of=policies.timeout_s,
        grace_of=policies.cancel_grace_s,
    )
    health = Health(checks_of(backends.status, "broker"), grace_s=backends.health_grace)
    metrics, jobs, tenants, observer = instruments(
        backends, settings, health=health, runner=runner, handlers=live, tracing=tracing, observers=observers
    )
    fleet = FleetView(backends.workers, backends.broker)
    takes_programs = settings.work_stream is not WorkStream.OFF
    async with (
        EventOutbox(backends.broker, observer=observer) as events,
        open_submitter(backends, settings, policies, fleet, observer, trace=current_trace(tracing)) as submitter,
    ):
        engine = Engine(
            broker=backends.broker,
            breakers=backends.breakers,
            scope=backends.breaker_scope,
            guard=backends.duplicate_guard,
            events=events,
            runner=runner,
            handlers=live,
            policy=policies.retry,
            concurrency=settings.concurrency,
            prefetch_bytes=settings.prefetch_bytes,
            clock=backends.clock,
            name=settings.worker_name,
            fleet=fleet,
            rates=RateGate(backends.run_rates, policies.run_rate, circuits=backends.circuits, fleet=fleet),
            grace_ms=0 if backends.is_alone and not takes_programs else round(1000 * settings.unknown_type_grace),
            observer=observer,
            redact=redact,
            pool=settings.pool,
            share_of=policies.share,
            submitter=submitter,
            concurrency_of=policies.concurrency,
            foreign=foreign_tenants(settings.foreign_tenants),
        )
        live.on_change(lambda: jobs.add(live))
        live.on_change(engine.handlers_changed)
        policies.on_change(engine.handlers_changed)
        announcing = Announcing(backends, settings, live, engine, tenants.running)
        http.on_change(lambda specs: live.replace(Source.SETTINGS_FILE, specs))
        DemotionCollector(metrics.registry, lambda: engine.demoted)
        programs = Connected(live, backends.clock, trace_context=partial(trace_context, tracing))
        if takes_programs:
            ProgramMetrics(metrics.registry, programs)
        async with (
            serve_endpoints(
                [Service("sickbay.jobs.v1.WorkerService", add_WorkerServiceServicer_to_server, WorkApi(programs, settings.work_stream))],
                lambda _, health: create_gateway(health, metrics, VERSION),
                address,
                registry=metrics.registry,
                health=health,
                name="worker",
                call_observers=[CallMeter(metrics.registry)],
                auditor=Auditor(backends.broker, backends.clock, metrics.registry),
                tracing=tracing,
            ) as endpoints,
            runner.lifespans(handlers.values()),
        ):
            await announcing.announce()  # before it consumes, so that the registry never knows fewer workers than the broker
            working = asyncio.create_task(run_with_restarts(engine.run), name="engine")
            try:
                async with background(announcing.presence.run, announcing.types.run, announcing.schedules.run):
                    yield Worker(
                        engine,
                        runner,
                        handlers=live,
                        programs=programs,
                        presence=announcing.presence,
                        endpoints=endpoints,
                        grace_s=lambda: grace(settings, live, policies),
                    )
            finally:
                with contextlib.suppress(asyncio.CancelledError):
                    await engine.drain(0)
                programs.close()
                await working
                await announcing.presence.leave()


def report(handlers: Mapping[str, HandlerSpec], concurrency: int, pool: str = "") -> None:
    """Log what this worker handles."""
    if not handlers:
        log.info("this worker runs the jobs of programs that connect to it (WORK_STREAM), %d at a time", concurrency)
        return
    names = sorted(handlers)
    more = f" and {len(names) - MAX_SHOWN:,} more job types" if len(names) > MAX_SHOWN else ""
    where = f", for the pool {pool}" if pool else ""
    log.info("this worker handles %s%s, %d jobs at a time%s", ", ".join(names[:MAX_SHOWN]), more, concurrency, where)
