"""Metrics of the whole fleet: breakers, queues and the ledger, read at each scrape.

Every control plane reports the same numbers, so aggregate them with `max`, not `sum`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Final, TypeVar

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from sickbay.domain.breaker import BreakerKey, BreakerState, Snapshot
from sickbay.domain.errors import Unavailable
from sickbay.domain.job import JobState
from sickbay.domain.queries import OldestJob
from sickbay.ports import Breakers, Broker, Clock, LedgerWriter, QuarantineStore, Queue
from sickbay.ports.incidents import IncidentStore
from sickbay.ports.lost import Lost
from sickbay.telemetry.metrics import OTHER

PATIENCE_S: Final = 5.0
"""Timeout of each backend at a scrape; the metrics of those that do not answer in time are missing."""
MAX_BREAKERS: Final = 200
"""Breakers with metrics of their own, those that are not closed first. `sickbay_breakers` counts all."""
MAX_OLDEST: Final = 100
"""States and job types with metrics of their own: those whose oldest job has waited longest for an event."""
MAX_OPEN_INCIDENTS: Final = 100
"""Job types with a number of open incidents of their own; the others are one, `other`."""
CONSUMED: Final = (Queue.MAIN, Queue.LEDGER)
"""The queues that always have consumers."""

T = TypeVar("T")


class FleetMetrics(Collector):
    """Reads in `refresh`, reports in `collect`. What could not be read is omitted, never made up."""

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        breakers: Breakers,
        broker: Broker,
        ledger: LedgerWriter,
        quarantine: QuarantineStore,
        lost: Lost,
        incidents: IncidentStore,
        clock: Clock,
    ) -> None:
        """Add itself to `registry`."""
        self._lost = lost
        self._incidents = incidents
        self._open_incidents: Mapping[str, int] | None = None
        self._clock = clock
        self._oldest: Sequence[OldestJob] | None = None
        self._breakers = breakers
        self._broker = broker
        self._ledger = ledger
        self._quarantine = quarantine
        self._snapshots: Sequence[Snapshot] | None = None
        self._depths: Mapping[Queue, int | None] = {}
        self._consumers: Mapping[Queue, int | None] = {}
        self._jobs: Mapping[JobState, int] | None = None
        self._duplicates: int | None = None
        self._parked: Mapping[BreakerKey, int] | None = None
        registry.register(self)

    async def refresh(self) -> None:
        """Read from all backends concurrently."""
        depths = [_read_or_none(self._broker.depth(queue)) for queue in Queue]
        consumers = [_read_or_none(self._broker.consumers(queue)) for queue in CONSUMED]
        self._snapshots, self._jobs, self._duplicates, backlog, depth, consumer = await asyncio.gather(
            _read_or_none(self._breakers.snapshots()),
            _read_or_none(self._ledger.counts()),
            _read_or_none(self._ledger.duplicates()),
            asyncio.gather(
                _read_or_none(self._quarantine.parked()),
                _read_or_none(self._lost.oldest()),
                _read_or_none(self._incidents.open_counts()),
            ),
            asyncio.gather(*depths),
            asyncio.gather(*consumers),
        )
        self._parked, self._oldest, self._open_incidents = backlog
        self._depths = dict(zip(Queue, depth, strict=True))
        self._consumers = dict(zip(CONSUMED, consumer, strict=True))

    def collect(self) -> Iterable[Metric]:
        """Called by Prometheus."""
        yield from self._of_breakers()
        yield _family("sickbay_queue_messages", "Waiting messages, by queue.", "queue", _named(self._depths))
        yield _family("sickbay_queue_consumers", "Consumers of a queue, of all processes.", "queue", _named(self._consumers))
        yield from self._of_ledger()
        yield self._of_incidents()

    def _of_breakers(self) -> Iterable[Metric]:
        breakers = self._snapshots or ()
        counts = dict.fromkeys(BreakerState, 0)
        for breaker in breakers:
            counts[breaker.state] += 1
        known = {state.value: count for state, count in counts.items()} if self._snapshots is not None else {}
        yield _family("sickbay_breakers", "Breakers, by state.", "state", known)
        one_hot = GaugeMetricFamily("sickbay_breaker_state", "1 for the state a breaker is in.", labels=("job_type", "tenant", "state"))
        cooldown = GaugeMetricFamily(
            "sickbay_breaker_cooldown_seconds", "The current cooldown of a breaker.", labels=("job_type", "tenant")
        )
        for breaker in sorted(breakers, key=lambda one: (one.state is BreakerState.CLOSED, one.key))[:MAX_BREAKERS]:
            who = (breaker.key.job_type, breaker.key.tenant)
            for state in BreakerState:
                one_hot.add_metric((*who, state.value), float(state is breaker.state))
            cooldown.add_metric(who, breaker.cooldown_ms / 1000)
        yield one_hot
        yield cooldown
        if self._snapshots is not None:
            degraded = float(any(breaker.degraded for breaker in breakers))
            yield GaugeMetricFamily(
                "sickbay_breakers_degraded", "Whether breakers are shown as last known, because Redis is unavailable.", degraded
            )

    def _of_ledger(self) -> Iterable[Metric]:
        jobs = {state.value: count for state, count in (self._jobs or {}).items()}
        yield _family("sickbay_ledger_jobs", "Jobs in the ledger, by state.", "state", jobs)
        parked = GaugeMetricFamily("sickbay_parked_jobs", "Jobs that are still parked.", labels=("job_type", "tenant"))
        for key, count in sorted((self._parked or {}).items(), key=lambda item: -item[1])[:MAX_BREAKERS]:
            parked.add_metric((key.job_type, key.tenant), count)
        yield parked
        yield self._of_oldest()
        copies = self._depths.get(Queue.QUARANTINE)
        if self._jobs is not None and copies is not None:
            rows = self._jobs.get(JobState.PARKED, 0) + self._jobs.get(JobState.QUARANTINED, 0)
            text = "Copies in jobs.quarantine minus parked and quarantined jobs: ghosts if positive, missing copies if negative."
            yield GaugeMetricFamily("sickbay_quarantine_surplus", text, copies - rows)
        if self._duplicates is not None:
            text = "Extra executions and dropped copies of all jobs in the ledger."
            yield GaugeMetricFamily("sickbay_ledger_duplicates", text, self._duplicates)

    def _of_incidents(self) -> Metric:
        """No series for a type without an open incident; a sum over all of them counts every one."""
        family = GaugeMetricFamily("sickbay_incidents_open", "Open incidents.", labels=("job_type",))
        known = sorted((self._open_incidents or {}).items(), key=lambda item: (-item[1], item[0]))
        if rest := sum(number for _, number in known[MAX_OPEN_INCIDENTS:]):
            family.add_metric((OTHER,), rest)
        for job_type, number in known[:MAX_OPEN_INCIDENTS]:
            family.add_metric((job_type,), number)
        return family

    def _of_oldest(self) -> Metric:
        """No series for a state without jobs, so that an alert on it ends."""
        text = "Time since the last event of the unfinished job (QUEUED, RETRYING, RUNNING) whose last event is the oldest."
        family = GaugeMetricFamily("sickbay_oldest_unfinished_job_seconds", text, labels=("state", "job_type"))
        now = self._clock()
        for oldest in sorted(self._oldest or (), key=lambda one: one.since)[:MAX_OLDEST]:
            family.add_metric((oldest.state.value, oldest.job_type), max(0, now - oldest.since) / 1000)
        return family


async def _read_or_none(question: Awaitable[T]) -> T | None:
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await question
    except (Unavailable, TimeoutError):
        return None


def _named(numbers: Mapping[Queue, int | None]) -> Mapping[str, int]:
    return {queue.value: number for queue, number in numbers.items() if number is not None}


def _family(name: str, text: str, label: str, numbers: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=(label,))
    for value, number in numbers.items():
        family.add_metric((value,), number)
    return family
