"""Metrics of the whole fleet: breakers, queues and the ledger, read at each scrape.

Every control plane reports the same numbers, so aggregate them with `max`, not `sum`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Final, TypeVar

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from sickbay.domain.breaker import BreakerKey, BreakerRule, BreakerScope, BreakerState, Snapshot
from sickbay.domain.errors import Unavailable
from sickbay.domain.job import JobState
from sickbay.domain.queries import OldestJob
from sickbay.ports import CONSUMED, Breakers, Broker, Clock, LedgerWriter, QuarantineStore, Queue
from sickbay.ports.incidents import IncidentStore
from sickbay.ports.lost import Lost
from sickbay.telemetry.metrics import OTHER

PATIENCE_S: Final = 5.0
"""Timeout of each backend at a scrape; the metrics of those that do not answer in time are missing."""
MAX_BREAKERS: Final = 200
"""Breakers with series of their own, those that are not closed first, and types and tenants with parked jobs, those with most first."""
REST: Final = (OTHER, OTHER)
"""The type and tenant of the series that has the sum of all others; a job type that is really called `other` is part of it."""
MAX_OLDEST: Final = 100
"""States and job types with metrics of their own: those whose oldest job has waited longest for an event."""
MAX_OPEN_INCIDENTS: Final = 100
"""Job types with a number of open incidents of their own; the others are one, `other`."""
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
        scope: BreakerRule = BreakerScope.TYPE,
        at_rates: Callable[[], Mapping[BreakerKey, int]] = dict,
    ) -> None:
        """Add itself to `registry`; `scope` says whose breaker a job asks, `at_rates` how many parked jobs wait for a rate."""
        self._at_rates = at_rates
        self._scope = scope
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
        self._alone = 0
        self._duplicates: int | None = None
        self._parked: Mapping[BreakerKey, int] | None = None
        registry.register(self)

    async def refresh(self) -> None:
        """Read from all backends concurrently."""
        depths = [_read_or_none(self._broker.depth(queue)) for queue in Queue]
        consumers = [_read_or_none(self._broker.consumers(queue)) for queue in CONSUMED]
        self._snapshots, self._jobs, self._duplicates, backlog, depth, consumer = await asyncio.gather(
            _read_or_none(self._breakers.snapshots()),
            _read_or_none(self._counts()),
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

    async def _counts(self) -> Mapping[JobState, int]:
        counts = await self._ledger.counts()
        self._alone = await self._ledger.in_ledger_alone() if counts.get(JobState.PARKED) else 0
        return counts

    def waiting_types(self) -> set[str]:
        """The job types of which jobs are parked or wait in a queue."""
        waiting = {one.job_type for one in self._oldest or () if one.state is not JobState.RUNNING}
        return waiting | {key.job_type for key in self._parked or ()}

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
        one_hot = GaugeMetricFamily(
            "sickbay_breaker_state",
            "1 for the state a breaker is in; of `other` how many are in it.",
            labels=("job_type", "tenant", "state"),
        )
        cooldown = GaugeMetricFamily(
            "sickbay_breaker_cooldown_seconds", "The current cooldown of a breaker.", labels=("job_type", "tenant")
        )
        named: dict[BreakerKey, Snapshot] = {}
        for breaker in sorted(breakers, key=self._order):
            for name in self._names(breaker.key):
                named.setdefault(name, breaker)
        own, rest = _bounded(named)
        for key in own:
            breaker = named[key]
            for state in BreakerState:
                one_hot.add_metric((*key, state.value), float(state is breaker.state))
            cooldown.add_metric(key, breaker.cooldown_ms / 1000)
        if rest:
            of_state = Counter(named[key].state for key in rest)
            for state in BreakerState:
                one_hot.add_metric((*REST, state.value), of_state[state])
        yield one_hot
        yield cooldown
        if self._snapshots is not None:
            degraded = float(any(breaker.degraded for breaker in breakers))
            yield GaugeMetricFamily(
                "sickbay_breakers_degraded", "Whether breakers are shown as last known, because Redis is unavailable.", degraded
            )

    def _order(self, breaker: Snapshot) -> tuple[bool, bool, BreakerKey]:
        """Those that decide before leftovers, which may bear the name of a type that another one decides about; closed ones last."""
        return not self._scope.is_in_use(breaker.key), breaker.state is BreakerState.CLOSED, breaker.key

    def _names(self, key: BreakerKey) -> Iterable[BreakerKey]:
        """The job types that it decides about, for alerts are about job types: those of a dependency each get its state."""
        return [BreakerKey(job_type, key.tenant) for job_type in self._scope.job_types(key)] or [key]

    def _of_ledger(self) -> Iterable[Metric]:
        jobs = {state.value: count for state, count in (self._jobs or {}).items()}
        yield _family("sickbay_ledger_jobs", "Jobs in the ledger, by state.", "state", jobs)
        text = "Jobs that are still parked, without those that wait for a rate."
        parked = GaugeMetricFamily("sickbay_parked_jobs", text, labels=("job_type", "tenant"))
        at_rates = self._at_rates()
        counts = {key: max(0, count - at_rates.get(key, 0)) for key, count in (self._parked or {}).items()}
        own, rest = _bounded(sorted(counts, key=lambda key: (-counts[key], key)))
        for key in own:
            parked.add_metric(key, counts[key])
        if rest:
            parked.add_metric(REST, sum(map(counts.__getitem__, rest)))
        yield parked
        yield self._of_oldest()
        copies = self._depths.get(Queue.QUARANTINE)
        if self._jobs is not None and copies is not None:
            rows = self._jobs.get(JobState.PARKED, 0) + self._jobs.get(JobState.QUARANTINED, 0) - self._alone
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


def _bounded(keys: Collection[BreakerKey]) -> tuple[Sequence[BreakerKey], Sequence[BreakerKey]]:
    """The first keys, which have series of their own, and the rest, which share one."""
    named = [key for key in keys if key.job_type != OTHER]
    return named[:MAX_BREAKERS], [*named[MAX_BREAKERS:], *(key for key in keys if key.job_type == OTHER)]


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
