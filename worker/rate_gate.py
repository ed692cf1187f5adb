"""Asks whether a job may run by the rate of its type (`run_rate.py`). Types without a rate ask nothing.

A worker that was refused remembers that for a moment, so a flood over the rate costs a few calls per second and not one for each job.
While Redis is unavailable each worker runs its part of the rate: the rate divided by the live workers that it knew last.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from enum import Enum, auto
from time import monotonic
from typing import Final

from sickbay.domain import run_rate
from sickbay.domain.breaker import BreakerKey, Permit, PermitKind
from sickbay.domain.errors import Unavailable
from sickbay.domain.rate_limit import Frequency, Rate
from sickbay.domain.run_rate import Line
from sickbay.fleet import FleetView
from sickbay.ports import BreakerView
from sickbay.ports.run_rates import RunRates

REFUSED_S: Final = 0.25
"""How long a refusal holds here for all new jobs of the type."""
COUNTED_S: Final = 10.0
"""How often the live workers are counted while jobs ask."""


class Passage(Enum):
    """What the rate says of a job."""

    FREE = auto()
    REFUSED = auto()
    OF_BREAKER = auto()
    """Its breaker refuses jobs, as far as known: that parks it or makes it the probe, and nothing is taken of the rate before."""


class RateGate:
    """One per worker. Without a store it limits nothing."""

    def __init__(
        self,
        rates: RunRates | None = None,
        rate_of: Callable[[str], Rate | None] = lambda _: None,
        *,
        circuits: BreakerView | None = None,
        fleet: FleetView | None = None,
        seconds: Callable[[], float] = monotonic,
    ) -> None:
        """`rate_of` says which rate is in force now for a type; `seconds` is a monotonic clock."""
        self._rates = rates
        self._rate_of = rate_of
        self._circuits = circuits
        self._fleet = fleet
        self._seconds = seconds
        self._refused: dict[str, tuple[Rate, float]] = {}
        """Until when all new jobs of a type are refused, if the rate is still this."""
        self._workers: Mapping[str, int] = {}
        self._counted_at = -COUNTED_S
        self._alone: dict[str, Line] = {}
        """This worker's own buckets, while the store is unavailable."""

    def limits(self, job_type: str) -> bool:
        """Whether the type has a rate."""
        return self._rates is not None and self._rate_of(job_type) is not None

    async def ask(self, job_type: str, key: BreakerKey, paid_at: int) -> Passage:
        """Whether a job may go on to its breaker, `key`. `paid_at`: when it was released from the line, 0 if it was not."""
        breaker = self._circuits.unless_closed(key) if self._circuits is not None else None
        if breaker is not None and breaker.state.refuses:
            return Passage.OF_BREAKER
        return Passage.FREE if await self._may_run(job_type, paid_at) else Passage.REFUSED

    async def ask_after(self, job_type: str, permit: Permit, paid_at: int) -> bool:
        """The same after its breaker has let it through after all. A probe runs in any case, and takes what there is."""
        rate = self._rate_of(job_type)
        if rate is None or self._rates is None or permit.kind is not PermitKind.PROBE:
            return await self._may_run(job_type, paid_at)
        if not paid_at:
            with contextlib.suppress(Unavailable):  # one more run than the rate has: the probe matters more
                await self._rates.charge(job_type, rate, 1)
        return True

    async def _may_run(self, job_type: str, paid_at: int) -> bool:
        rate, now = self._rate_of(job_type), self._seconds()
        if rate is None or self._rates is None:
            return True
        known, until = self._refused.get(job_type, (rate, now))
        if not paid_at and known == rate and now < until:
            return False
        try:
            granted = (await self._rates.run(job_type, rate, paid_at)).granted
            await self._count_workers(now)
        except Unavailable:
            return bool(paid_at) or self._run_alone(job_type, rate)
        if not granted and not paid_at:
            self._refused[job_type] = rate, now + REFUSED_S
        return bool(granted)

    async def _count_workers(self, now: float) -> None:
        if self._fleet is not None and now - self._counted_at >= COUNTED_S:
            self._counted_at = now
            self._workers = (await self._fleet.look()).live or self._workers

    def _run_alone(self, job_type: str, rate: Rate) -> bool:
        workers = self._workers.get(job_type, 1)
        part = Rate(Frequency(rate.frequency.count, rate.frequency.period_ms * workers), max(1, rate.burst // workers))
        line = run_rate.Line(self._alone.get(job_type, Line()).level)  # nobody waits in line: nothing is released meanwhile
        self._alone[job_type], grant = run_rate.run(line, part, round(self._seconds() * 1_000_000))
        return bool(grant.granted)
