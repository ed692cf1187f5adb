"""Releases the parked jobs of types with a rate of runs, at that rate, whatever they were parked for; their breakers permitting.

It takes from the bucket for them, so the copies that it sends are paid for and are not parked again. While jobs wait it holds the line, so
that new jobs are parked behind them. It knows how many wait from the healer, which counts them now and then, and asks for no more than is
due: nothing waits in RabbitMQ, nothing is counted at each turn, and without waiting jobs it sleeps.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from controlplane.leasing import Leaser
from controlplane.release import Releaser
from controlplane.release_backoff import ReleaseBackoff
from sickbay.concurrency.pauses import Backoff
from sickbay.concurrency.waiting import wait_for_event
from sickbay.domain.breaker import BreakerKey
from sickbay.domain.errors import Unavailable
from sickbay.domain.job import JobEvent, JobState
from sickbay.domain.queries import ReleaseLease
from sickbay.domain.rate_limit import Rate
from sickbay.domain.run_rate import RunGrant
from sickbay.ports import Breakers, Broker, Queue
from sickbay.ports.run_rates import RunRates

PACE_S: Final = 0.1
LEAST_PACE_S: Final = 0.01
"""Between turns. Of a bucket that holds less than two tenths of a second's worth more would be lost in PACE_S than it holds."""
WINDOW: Final = 500
"""Jobs of one type released per turn."""
LONGEST_S: Final = 2.0
"""The line is renewed so often, however slow the rate."""
MAX_MAIN_DEPTH: Final = 500
"""No releases while this many jobs wait: what cannot run soon does not run at the rate either."""
FAILED_S: Final = 1.0
LONGEST_FAILED_S: Final = 10.0

log = logging.getLogger(__name__)


class RateReleaser:
    """One per control plane; several share the buckets, and the work by the ledger's leases. Without a store no type has a rate."""

    def __init__(
        self,
        *,
        rates: RunRates | None,
        rate_of: Callable[[str], Rate | None],
        breakers: Breakers,
        broker: Broker,
        leaser: Leaser,
        releaser: Releaser,
        backoff: ReleaseBackoff,
        on_released: Callable[[], None],
        recount: Callable[[], None],
    ) -> None:
        """`recount` asks the healer to count what waits, which answers with `update`; `rate_of` says which rate is in force now."""
        self._rates = rates
        self._rate_of = rate_of
        self._breakers = breakers
        self._broker = broker
        self._leaser = leaser
        self._releaser = releaser
        self._backoff = backoff
        self._on_released = on_released
        self._recount = recount
        self._waiting: dict[BreakerKey, dict[BreakerKey, int]] = {}
        """How many jobs of which type and tenant wait, by the breaker that decides about them."""
        self._unhandled: Collection[BreakerKey] = ()
        self._ended: dict[str, Rate] = {}
        """Types of which nobody waits any more, and that still have a line."""
        self._wake = asyncio.Event()
        self._failed = Backoff(FAILED_S, LONGEST_FAILED_S)

    def limits(self, job_type: str) -> bool:
        """Whether the type has a rate."""
        return self._rates is not None and self._rate_of(job_type) is not None

    @property
    def waiting(self) -> Mapping[BreakerKey, int]:
        """How many jobs wait for the rate of their type, by type and tenant."""
        return {owner: count for owners in self._waiting.values() for owner, count in owners.items()}

    def update(self, waiting: Mapping[BreakerKey, Mapping[BreakerKey, int]], unhandled: Collection[BreakerKey] = ()) -> None:
        """The jobs of types with a rate that wait now and whose breakers let jobs run, as the healer has counted them."""
        before = {owner.job_type for owner in self.waiting}
        self._waiting = {key: dict(owners) for key, owners in waiting.items()}
        self._unhandled = unhandled
        after = {owner.job_type for owner in self.waiting}
        self._leaser.retain(waiting)
        self._ended |= {job_type: rate for job_type in before - after if (rate := self._rate_of(job_type)) is not None}
        if after - before or self._ended:
            self._wake.set()

    def count_parked(self, key: BreakerKey, event: JobEvent) -> bool:
        """Count one more parked job of breaker `key`, if such jobs wait already; otherwise the healer has to look."""
        owners, owner = self._waiting.get(key), BreakerKey(event.job.job_type, event.job.tenant)
        if owners is None or owner not in owners or event.state is not JobState.PARKED:
            return False
        owners[owner] += 1
        return True

    async def pay(self, leases: Sequence[ReleaseLease]) -> Mapping[str, int]:
        """When each of these jobs, that go out in any case, was paid for, by its id: probes, and interrupted releases."""
        paid: dict[str, int] = {}
        for job_type in {lease.job.job_type for lease in leases}:
            rate = self._rate_of(job_type)
            if self._rates is not None and rate is not None:
                ids = [lease.job.job_id for lease in leases if lease.job.job_type == job_type]
                paid |= dict.fromkeys(ids, (await self._rates.charge(job_type, rate, len(ids))).at)
        return paid

    async def run(self) -> None:
        """Release until cancelled."""
        while True:
            self._wake.clear()
            try:
                wait_s = await self.release_once()
            except Unavailable as error:
                wait_s = self._failed.next_s()
                log.warning("releasing jobs at the rates of their types is suspended, retrying in %.1f s: %s", wait_s, error)
                await asyncio.sleep(wait_s)
                continue
            self._failed.reset()
            if wait_s is None:
                await self._wake.wait()
            else:
                await wait_for_event(self._wake, wait_s)

    async def release_once(self) -> float | None:
        """Release what is due; returns the seconds until more is due, None if nothing waits."""
        if self._rates is None:
            return None
        for job_type, rate in list(self._ended.items()):
            await self._rates.release(job_type, rate, 0, waiting=False)
            self._ended.pop(job_type, None)
        turns = [(key, job_type) for key, owners in self._waiting.items() for job_type in sorted({owner.job_type for owner in owners})]
        waits = [await self._release(key, job_type, self._rates) for key, job_type in turns]
        return min(waits, default=None)

    async def _release(self, key: BreakerKey, job_type: str, rates: RunRates) -> float:
        owners = {owner: count for owner, count in self._waiting.get(key, {}).items() if owner.job_type == job_type}
        rate = self._rate_of(job_type)
        known = {breaker.key: breaker for breaker in await self._breakers.snapshots([key])}.get(key)
        if rate is None or (known is not None and (known.degraded or known.state.refuses)):
            self._forget(key, owners)  # the healer decides about them again
            return LONGEST_S
        if not owners or (held_s := self._backoff.wait_s(key)) > 0:
            return LONGEST_S if not owners else min(held_s, LONGEST_S)
        wanted = min(1 if self._backoff.is_held(key) else WINDOW, rate.burst, sum(owners.values()))
        has_room = await self._broker.depth(Queue.MAIN) < MAX_MAIN_DEPTH
        wanted = await self._breakers.reserve(key, wanted) if has_room else 0
        grant = await rates.release(job_type, rate, wanted, waiting=True)
        if grant.granted:
            leases = await self._leaser.lease(key, owners, grant.granted, self._unhandled)
            self._backoff.record_release(key, known)
            await self._publish(key, owners, leases, grant)
        return _next_s(rate, grant, wanted)

    async def _publish(self, key: BreakerKey, owners: Mapping[BreakerKey, int], leases: Sequence[ReleaseLease], grant: RunGrant) -> None:
        if leases:
            try:
                await self._releaser.release(leases, {lease.job.job_id: grant.at for lease in leases})
            finally:
                self._count_off(key, leases)
        if len(leases) < grant.granted:  # fewer wait than was counted: another control plane released some, or they were cancelled
            self._forget(key, owners)

    def _count_off(self, key: BreakerKey, leases: Sequence[ReleaseLease]) -> None:
        owners = self._waiting.get(key, {})
        for lease in leases:
            owner = BreakerKey(lease.job.job_type, lease.job.tenant)
            if owner in owners:
                owners[owner] -= 1
        empty = {owner: 0 for owner, count in owners.items() if count <= 0}
        if empty:
            self._forget(key, empty)

    def _forget(self, key: BreakerKey, owners: Mapping[BreakerKey, int]) -> None:
        """Until the healer has counted them again."""
        left = {owner: count for owner, count in self._waiting.get(key, {}).items() if owner not in owners}
        if left:
            self._waiting[key] = left
        else:
            self._waiting.pop(key, None)
        gone = {owner.job_type for owner in owners} - {owner.job_type for owner in self.waiting}
        self._ended |= {job_type: rate for job_type in gone if (rate := self._rate_of(job_type)) is not None}
        self._wake.set()
        self._recount()
        self._on_released()  # now, not at each turn: most of them have no copy in `jobs.quarantine`


def _next_s(rate: Rate, grant: RunGrant, wanted: int) -> float:
    """Until half of the burst is there again: the more per second, the more at a time."""
    each_s = rate.period_us / rate.frequency.count / 1_000_000
    pace_s = max(LEAST_PACE_S, min(PACE_S, rate.burst * each_s / 2))
    if grant.granted == wanted:
        return pace_s
    further_s = max(0, rate.burst // 2 - 1) * each_s
    return min(LONGEST_S, max(pace_s, grant.wait_us / 1_000_000 + further_s))
