"""Heals automatically: releases the oldest parked job as the probe when one is due, and the others after the breaker has closed.

Nothing is sent to a job type that no live worker handles. Jobs that were quarantined for that (UNKNOWN_TYPE) come back like parked ones
when a worker handles their type.

It works on the current state and not only on a stream of events, so the next check sees whatever it missed. It checks when a breaker
changes, when a job was parked, when a cooldown or the patience with a probe ends, when other job types have live workers, and every 30 s.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Final

from controlplane.arrivals import Arrivals
from controlplane.background_releases import BackgroundReleases, Leased
from controlplane.breaker_log import BreakerLog
from controlplane.leasing import Leaser
from controlplane.leftover_breakers import LeftoverBreakers
from controlplane.rate_release import RateReleaser
from controlplane.release import Releaser
from controlplane.release_backoff import ReleaseBackoff
from sickbay.concurrency.pauses import Backoff
from sickbay.concurrency.tasks import run_with_restarts
from sickbay.concurrency.waiting import wait_for_event
from sickbay.domain.breaker import BreakerKey, BreakerRule, BreakerScope, BreakerState, Snapshot
from sickbay.domain.errors import Unavailable
from sickbay.domain.job import JobEvent, JobState, Reason
from sickbay.domain.queries import ReleaseLease
from sickbay.domain.rate_limit import Rate
from sickbay.fleet import FleetView
from sickbay.ports import Breakers, Broker, Clock, QuarantineStore, Queue
from sickbay.ports.run_rates import RunRates

LOOK_EVERY_S: Final = 30.0
RECOUNT_S: Final = 10.0
"""The same while jobs wait for the rate of their type."""
PACE_S: Final = 0.1
"""A check begins so long after the last one began, or later: permits are saved up for as long (`ramp.py`), and the rest would be lost."""
REST_PART: Final = 4
"""After a check that took longer it rests for a fourth of that time, so that others get their turns; PACE_S at most."""
WINDOW: Final = 500
"""Jobs of one breaker released per check; fewer while the breaker lets jobs in gradually."""
MAX_DEPTH: Final = 500
"""While this many jobs wait in the lane of released ones, no more are released than ROOM."""
ROOM: Final = 10
"""Jobs of one breaker released per check however many wait in their lane: the backlog of another type holds up nobody. (None if they would
wait in the main lane, before fresh ones.)"""
DEGRADED_S: Final = 1.0
LONGEST_DEGRADED_S: Final = 5.0
"""No releases while the shared breakers are unavailable: no worker would probe, and a breaker closed here may be open there."""
FAILED_S: Final = 1.0
LONGEST_FAILED_S: Final = 10.0
PROBE_TAKEN_MS: Final = 10_000
"""A released probe that no worker has taken by then is released again."""
EXPIRED_EVERY_MS: Final = 1_000
"""How often it looks for leases that have expired, after 30 s."""
WORKERS_EVERY_S: Final = 1.0
"""How often it looks which job types have live workers."""

log = logging.getLogger(__name__)


class Healer:
    """One per control plane; several share the work by the ledger's leases."""

    def __init__(
        self,
        *,
        breakers: Breakers,
        quarantine: QuarantineStore,
        broker: Broker,
        releaser: Releaser,
        on_released: Callable[[], None],
        clock: Clock,
        scope: BreakerRule = BreakerScope.TYPE,
        fleet: FleetView,
        release_backoff: ReleaseBackoff | None = None,
        rates: RunRates | None = None,
        rate_of: Callable[[str], Rate | None] = lambda _: None,
    ) -> None:
        """Does nothing before `run`; `on_released` is called when jobs have left the quarantine, `scope` says whose breaker a job asks.

        `rate_of` is the rate of runs of a type, kept in `rates`.
        """
        self._fleet = fleet
        self._unhandled: Mapping[BreakerKey, int] = {}
        self._on_released = on_released
        self.release_backoff = release_backoff or ReleaseBackoff(scope=scope)
        self._scope = scope
        self._leftovers = LeftoverBreakers(breakers, scope)
        self._leaser = Leaser(quarantine)
        self._arrivals = Arrivals()
        self._breakers = breakers
        self._quarantine = quarantine
        self._broker = broker
        self._releaser = releaser
        self._releases = BackgroundReleases(releaser, on_released)
        self._clock = clock
        self._look = asyncio.Event()
        self._expired_at = 0
        self.rates = RateReleaser(
            rates=rates,
            rate_of=rate_of,
            breakers=breakers,
            broker=broker,
            leaser=Leaser(quarantine),
            releaser=releaser,
            backoff=self.release_backoff,
            on_released=on_released,
            recount=self.wake,
        )
        self._at_rates: dict[BreakerKey, Mapping[BreakerKey, int]] = {}
        self._probes: dict[BreakerKey, tuple[int, int]] = {}
        self._failed = Backoff(FAILED_S, LONGEST_FAILED_S)
        self._degraded = Backoff(DEGRADED_S, LONGEST_DEGRADED_S)

    def wake(self) -> None:
        """Check soon: something has changed."""
        self._look.set()

    def observe_events(self, events: Sequence[JobEvent]) -> None:
        """Events that were written to the ledger: outcomes of released jobs, and newly parked jobs."""
        blamed = [event for event in events if event.reason is not Reason.RATE_LIMITED or not self.rates.limits(event.job.job_type)]
        for key in self.release_backoff.observe_events(blamed):
            log.warning(
                "released jobs of %s are parked again although their breaker is closed: a worker uses its own breaker, because it "
                "cannot connect to Redis, Redis rejects its writes, or its settings file names another dependency or a rate that is not "
                "set here; "
                "the next one is released in %.0f s",
                key.name, self.release_backoff.wait_s(key),
            )  # fmt: skip
        parked = [event for event in events if event.state is JobState.PARKED or event.reason is Reason.UNKNOWN_TYPE]
        known = [self.rates.count_parked(self._scope.key_of(event.job.job_type, event.job.tenant), event) for event in parked]
        if not all(known):
            self.wake()

    async def run(self) -> None:
        """Check and release until cancelled."""
        async with self._breakers.watch() as changes:
            listener = asyncio.create_task(self._listen(changes), name="healer's breaker watch")
            workers = asyncio.create_task(self._watch_workers(), name="healer's watch of workers")
            at_rates = asyncio.create_task(run_with_restarts(self.rates.run), name="releases at rates")
            try:
                while True:
                    await self._look_and_rest()
            finally:
                listener.cancel()
                workers.cancel()
                at_rates.cancel()
                await self._releases.close()

    async def _look_and_rest(self) -> None:
        """One check, and the time until the next."""
        now = asyncio.get_running_loop().time
        self._look.clear()
        began = now()
        wait_s = await self._look_once()
        took_s = now() - began
        if wait_s > PACE_S:
            await wait_for_event(self._look, min(wait_s, LOOK_EVERY_S))
        rest_s = max(began + PACE_S - now(), min(took_s / REST_PART, PACE_S))
        await asyncio.sleep(rest_s)

    async def _listen(self, changes: AsyncIterator[Snapshot]) -> None:
        logged = BreakerLog(log)
        async for change in changes:
            logged.record(change)
            self.wake()

    async def _watch_workers(self) -> None:
        """Wake when a job type gets its first live worker, or loses its last."""
        known = frozenset[str]()
        while True:
            handled = frozenset((await self._fleet.look()).live)
            if handled != known:
                known = handled
                self.wake()
            await asyncio.sleep(WORKERS_EVERY_S)

    async def _look_once(self) -> float:
        """Do what the state requires; returns the seconds until the next check is due."""
        try:
            await self._finish_expired()
            breakers = {breaker.key: breaker for breaker in await self._breakers.snapshots()}
            if any(breaker.degraded for breaker in breakers.values()):
                return self._degraded.next_s()
            self._degraded.reset()
            await self._leftovers.retire(list(breakers.values()))
            parked = self._by_breaker(await self._waiting())
            self._leaser.retain(parked)
            self._arrivals.retain(parked)
            self._at_rates = {}
            waits = [await self._heal(key, breakers.get(key), waiting) for key, waiting in sorted(parked.items(), key=_size)]
            self.rates.update(self._at_rates, self._unhandled)
        except Unavailable as error:
            wait_s = self._failed.next_s()
            log.warning("releasing jobs is suspended, retrying in %.1f s: %s", wait_s, error)
            return wait_s
        self._failed.reset()
        return min(waits, default=LOOK_EVERY_S)

    async def _waiting(self) -> Mapping[BreakerKey, int]:
        """How many jobs of which type and tenant may come back: those that a worker handles, as far as known."""
        fleet = await self._fleet.look()
        parked = {owner: count for owner, count in (await self._quarantine.parked()).items() if not fleet.lacks(owner.job_type)}
        self._unhandled = await self._quarantine.unhandled(fleet.live) if fleet.live else {}
        return dict(Counter(parked) + Counter(self._unhandled))

    async def _finish_expired(self) -> None:
        if 0 <= self._clock() - self._expired_at < EXPIRED_EVERY_MS:
            return
        self._expired_at = self._clock()
        while leases := await self._quarantine.lease_expired():
            log.warning("%d releases were interrupted and are finished now", len(leases))
            await self._bring_back(leases)

    async def _bring_back(self, leases: Sequence[ReleaseLease], *, is_probe: bool = False) -> None:
        await self._releaser.release(leases, await self.rates.pay(leases), is_probe=is_probe)
        self._on_released()

    def _by_breaker(self, parked: Mapping[BreakerKey, int]) -> Mapping[BreakerKey, Mapping[BreakerKey, int]]:
        """How many jobs of which type and tenant are parked, by the breaker that decides about them."""
        grouped: dict[BreakerKey, dict[BreakerKey, int]] = {}
        for owner, count in parked.items():
            grouped.setdefault(self._scope.key_of(*owner), {})[owner] = count
        return grouped

    async def _heal(self, key: BreakerKey, breaker: Snapshot | None, parked: Mapping[BreakerKey, int]) -> float:
        self.release_backoff.observe_breaker(key, breaker)
        if breaker is None or not breaker.state.refuses:
            self._probes.pop(key, None)
            others = {owner: count for owner, count in parked.items() if not self.rates.limits(owner.job_type)}
            if len(others) < len(parked):
                self._at_rates[key] = {owner: count for owner, count in parked.items() if owner not in others}
            return await self._release(key, breaker, others, WINDOW) if others else RECOUNT_S
        now = breaker.now or self._clock()
        self._arrivals.observe(key, sum(parked.values()), now)
        if breaker.state is BreakerState.OPEN and breaker.probe_at is not None:
            return await self._probe(key, parked, breaker, now)
        if breaker.state is BreakerState.HALF_OPEN and breaker.probe_at is not None and now < breaker.probe_at:
            return (breaker.probe_at - now) / 1000
        if breaker.forced_until is not None:
            return max(0.0, (breaker.forced_until - now) / 1000)
        return LOOK_EVERY_S

    async def _probe(self, key: BreakerKey, parked: Mapping[BreakerKey, int], breaker: Snapshot, now: int) -> float:
        """Release exactly one job for each time a probe is due; the breaker makes it the probe, or parks it again.

        `now` is from the same clock as the breaker's times; our own may be minutes off.
        """
        probe_at = breaker.probe_at or 0
        if now < probe_at:
            return (probe_at - now) / 1000
        sent_for, sent_at = self._probes.get(key, (0, 0))
        if sent_for != probe_at or abs(now - sent_at) > PROBE_TAKEN_MS:
            self._probes[key] = (probe_at, now)
            leases = await self._lease(key, parked, 1)
            if leases:
                why = f"the probe of {key.name} hangs" if breaker.hanging_probes else f"the cooldown of {key.name} is over"
                log.info("%s: job %s is sent as the probe", why, leases[0].job.job_id)
                await self._bring_back(leases, is_probe=True)
        return PROBE_TAKEN_MS / 1000

    async def _release(self, key: BreakerKey, breaker: Snapshot | None, parked: Mapping[BreakerKey, int], limit: int) -> float:
        if (wait_s := self.release_backoff.wait_s(key)) > 0:
            return wait_s
        is_held = self.release_backoff.is_held(key)
        if is_held:
            limit = 1
        await self._releases.has_room()
        wanted = min(limit, await self._room(), waiting := sum(parked.values()))
        if wanted > 0 and (number := await self._breakers.reserve(key, wanted, self._arrivals.rate(key))) > 0:
            self._releases.begin(self._leased(key, breaker, parked, number))
            if is_held or number >= waiting:
                await self._releases.finish()
        return max(PACE_S, self.release_backoff.wait_s(key))

    async def _leased(self, key: BreakerKey, breaker: Snapshot | None, parked: Mapping[BreakerKey, int], number: int) -> Leased:
        leases = await self._lease(key, parked, number)
        if leases:
            log.info("releasing %d of the parked jobs of %s", len(leases), key.name)
            self.release_backoff.record_release(key, breaker)
        return leases, await self.rates.pay(leases)

    async def _room(self) -> int:
        if await self._releaser.takes_lanes():
            return max(ROOM, MAX_DEPTH - await self._broker.depth(Queue.LOW))
        return MAX_DEPTH - await self._broker.depth(Queue.MAIN)

    async def _lease(self, key: BreakerKey, parked: Mapping[BreakerKey, int], limit: int) -> Sequence[ReleaseLease]:
        return await self._leaser.lease(key, parked, limit, self._unhandled)


def _size(parked: tuple[BreakerKey, Mapping[BreakerKey, int]]) -> int:
    """A breaker with few parked jobs comes before one with many: all share the room for released jobs, and it leaves most of it."""
    return sum(parked[1].values())
