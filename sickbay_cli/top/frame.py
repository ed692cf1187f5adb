"""What one frame of `sickbay top` shows, computed from two readings. Pure; all times are milliseconds since the epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from sickbay.breakers.v1.breaker_pb2 import Breaker
from sickbay.breakers.v1.breaker_service_pb2 import GetMetricsResponse
from sickbay.breakers.v1.incident_pb2 import Incident
from sickbay.domain.job import DEFAULT_TENANT
from sickbay_cli.breaker_tables import name_of
from sickbay_cli.format import ms
from sickbay_cli.status import ServiceHealth

BreakerName = tuple[str, str]
"""The job type (or `dependency:<name>`) and the tenant of a breaker."""

RECENT_MS: Final = 86_400_000
"""Incidents that closed so long ago are no news."""
SHUT: Final = (Breaker.STATE_OPEN, Breaker.STATE_HALF_OPEN, Breaker.STATE_FORCED_OPEN)
_ALTERED: Final = (Breaker.STATE_DISABLED, Breaker.STATE_METRICS_ONLY)
_WAITING: Final = ("QUEUED", "RUNNING", "RETRYING", "PARKED", "QUARANTINED", "SCHEDULED")
"""The states that a frame has totals of; those of ended jobs only say how long the ledger remembers."""


@dataclass(frozen=True, slots=True)
class Parked:
    """The parked jobs of a breaker: how many, and since when the oldest of them is parked (0 if there is none)."""

    count: int
    oldest: int


@dataclass(frozen=True, slots=True)
class PlaneReading:
    """What the control plane told at `time`: without `metrics` if a server behind it is away; `parked` has the breakers asked about.

    `tenants` is how many slots the jobs of each take.
    """

    time: int
    breakers: Sequence[Breaker]
    metrics: GetMetricsResponse | None = None
    parked: Mapping[BreakerName, Parked] = field(default_factory=dict)
    incidents: Sequence[Incident] = ()
    tenants: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reading:
    """What all services told; `problem` says why the control plane told nothing, or not everything."""

    health: Sequence[ServiceHealth]
    plane: PlaneReading | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """A breaker after a change of its state."""

    time: int
    breaker: Breaker


@dataclass(frozen=True, slots=True)
class Rates:
    """Per second: jobs submitted, succeeded and failed (runs), and how fast the retrying, parked and quarantined ones become more or fewer.

    None if unknown: there is one reading only, or the ledger has just forgotten old jobs.
    """

    submitted: float | None = None
    succeeded: float | None = None
    failed: float | None = None
    retrying: float | None = None
    parked: float | None = None
    quarantined: float | None = None


@dataclass(frozen=True, slots=True)
class BreakerRow:
    """A breaker, since when it is in its state (0: unknown, or of no interest), and its parked jobs; None if they were not asked about."""

    breaker: Breaker
    since: int
    parked: Parked | None


@dataclass(frozen=True, slots=True)
class QueueRow:
    """A queue: waiting messages, how many more there are each second, and its consumers if they are known."""

    name: str
    depth: int
    trend: float | None
    consumers: int | None = None


@dataclass(frozen=True, slots=True)
class ReleaseRow:
    """A breaker that lets jobs run again: how many of its jobs still wait, how many fewer each second, and the limit (0: none)."""

    breaker: Breaker
    waiting: int
    released: float | None
    limit: float


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame. `as_of` is when the control plane told its part, 0 if it never did; `problem` is why it tells nothing, or less, now."""

    time: int
    as_of: int
    problem: str
    health: Sequence[ServiceHealth]
    jobs: Mapping[str, int]
    rates: Rates
    breakers: Sequence[BreakerRow]
    queues: Sequence[QueueRow]
    releases: Sequence[ReleaseRow]
    incidents: Sequence[Incident]
    changes: Sequence[Change]
    tenants: Sequence[tuple[str, int]] = ()
    """Whose jobs run, with their slots, most first; empty if there are no tenants."""


def key_of(breaker: Breaker) -> BreakerName:
    """The name by which a breaker is known."""
    return breaker.job_type, breaker.tenant


def frame(reading: Reading, before: PlaneReading | None, last: PlaneReading | None, changes: Sequence[Change], now: int) -> Frame:
    """The frame at `now`: `before` and `last` are the readings to compare, None if there are none."""
    shared = {"time": now, "problem": reading.problem, "health": reading.health, "changes": changes}
    if last is None:
        return Frame(as_of=0, jobs={}, rates=Rates(), breakers=(), queues=(), releases=(), incidents=(), **shared)  # type: ignore[arg-type]  # as declared
    jobs = last.metrics.jobs_by_state if last.metrics else {}
    return Frame(
        as_of=last.time,
        jobs={state: jobs.get(state, 0) for state in _WAITING} if jobs else {},
        rates=_rates(before, last),
        breakers=[BreakerRow(breaker, _since(breaker, changes), last.parked.get(key_of(breaker))) for breaker in _ordered(before, last)],
        queues=_queues(before, last),
        releases=_releases(before, last),
        incidents=_incidents(last, now),
        tenants=_tenants(last),
        **shared,  # type: ignore[arg-type]  # as declared
    )


def is_unusual(breaker: Breaker) -> bool:
    """Whether it is not CLOSED, or throttles its jobs."""
    return breaker.state != Breaker.STATE_CLOSED or breaker.recovering


def urgency(breaker: Breaker) -> int:
    """Lower is shown first: those that let nothing run, those that throttle, those that somebody has altered, the others."""
    if breaker.state in SHUT:
        return 0
    if breaker.recovering:
        return 1
    return 2 if breaker.state in _ALTERED else 3


def _ordered(before: PlaneReading | None, last: PlaneReading) -> Sequence[Breaker]:
    """The most urgent first, then those with most parked jobs, most new failures, and the latest change."""
    failures = {key_of(breaker): breaker.total_failures for breaker in before.breakers} if before else {}

    def order(breaker: Breaker) -> tuple[float, ...]:
        name = key_of(breaker)
        parked = last.parked.get(name)
        new_failures = breaker.total_failures - failures.get(name, breaker.total_failures)
        return urgency(breaker), -(parked.count if parked else 0), -new_failures, -breaker.failures_in_row, -ms(breaker, "update_time")

    return sorted(last.breakers, key=lambda breaker: (order(breaker), name_of(breaker), breaker.tenant))


def _since(breaker: Breaker, changes: Sequence[Change]) -> int:
    if not is_unusual(breaker):
        return 0
    seen = (one.time for one in changes if key_of(one.breaker) == key_of(breaker) and one.breaker.state == breaker.state)
    known = ms(breaker, "open_time") or next(seen, 0)
    return known or (ms(breaker, "update_time") if breaker.state in _ALTERED else 0)


def _rates(before: PlaneReading | None, last: PlaneReading) -> Rates:
    seconds = _seconds(before, last)
    if not seconds or before is None or before.metrics is None or last.metrics is None:
        return Rates()
    old, new = before.metrics, last.metrics

    def change(state: str) -> float:
        return (new.jobs_by_state.get(state, 0) - old.jobs_by_state.get(state, 0)) / seconds

    def growth(number: float) -> float | None:
        return number / seconds if number >= 0 else None

    total = sum(new.jobs_by_state.values()) - sum(old.jobs_by_state.values())
    succeeded = new.jobs_by_state.get("SUCCEEDED", 0) - old.jobs_by_state.get("SUCCEEDED", 0)
    return Rates(
        submitted=growth(total) if succeeded >= 0 else None,
        succeeded=growth(succeeded),
        failed=growth(sum(new.failures_by_job_type.values()) - sum(old.failures_by_job_type.values())),
        retrying=change("RETRYING"),
        parked=change("PARKED"),
        quarantined=change("QUARANTINED"),
    )


def _queues(before: PlaneReading | None, last: PlaneReading) -> Sequence[QueueRow]:
    if last.metrics is None:
        return ()
    seconds = _seconds(before, last)
    consumers = last.metrics.queue_consumers
    old = before.metrics.queue_depths if before and before.metrics and seconds else {}
    return [
        QueueRow(name, depth, (depth - old[name]) / seconds if name in old else None, consumers.get(name))
        for name, depth in sorted(last.metrics.queue_depths.items())
    ]


def _releases(before: PlaneReading | None, last: PlaneReading) -> Sequence[ReleaseRow]:
    """The breakers that let jobs run while some of theirs are still parked, most first."""
    rows = []
    seconds = _seconds(before, last)
    for breaker in last.breakers:
        waiting = last.parked.get(key_of(breaker))
        if breaker.state in SHUT or waiting is None or not waiting.count:
            continue
        earlier = before.parked.get(key_of(breaker)) if before else None
        released = (earlier.count - waiting.count) / seconds if earlier and seconds else None
        rows.append(ReleaseRow(breaker, waiting.count, None if released is None else max(0.0, released), breaker.admitted_per_second))
    return sorted(rows, key=lambda row: (-row.waiting, name_of(row.breaker), row.breaker.tenant))


def _incidents(last: PlaneReading, now: int) -> Sequence[Incident]:
    """The open ones, then those that closed recently; of each the latest first, and each once."""
    shown = {one.incident_id: one for one in last.incidents if one.open or now - ms(one, "close_time") < RECENT_MS}
    return sorted(shown.values(), key=lambda one: (not one.open, -ms(one, "open_time")))


def _tenants(last: PlaneReading) -> Sequence[tuple[str, int]]:
    if not set(last.tenants) - {DEFAULT_TENANT}:
        return ()
    return sorted(last.tenants.items(), key=lambda one: (-one[1], one[0]))


def _seconds(before: PlaneReading | None, last: PlaneReading) -> float:
    """Between two readings, by the control plane's clock if it took numbers both times; 0 if they cannot be compared."""
    if before is None:
        return 0.0
    taken = [ms(one.metrics, "time") if one.metrics else one.time for one in (before, last)]
    return max(0.0, (taken[1] - taken[0]) / 1000)
