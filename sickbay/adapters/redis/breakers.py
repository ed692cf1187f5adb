"""The fleet's circuits: one truth in Redis, moved by one script; a healthy circuit costs no call at all.

Permits that are a matter of course come from the view. Grants and verdicts always go through the script, so a stale view can cost a
few extra runs, never a wrong verdict. Without Redis the system stands still where it was: open circuits stay open and are not probed,
closed ones run under a breaker of this process alone (`local.py`), and nothing is ever written back.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random, SystemRandom
from types import TracebackType
from typing import Final, Self

from sickbay.adapters.breaker_watcher import BreakerWatcher
from sickbay.adapters.redis import script
from sickbay.adapters.redis.address import place
from sickbay.adapters.redis.breaker_sync import BreakerSync
from sickbay.adapters.redis.client import Client, open_client
from sickbay.adapters.redis.local import LocalBreakers, LocalPermit
from sickbay.adapters.redis.success_reporter import Success, SuccessReporter
from sickbay.adapters.redis.view import Seen
from sickbay.breaker import machine as breaker
from sickbay.breaker.machine import AdmitRequest, Document
from sickbay.concurrency.tasks import in_turns
from sickbay.domain.breaker import BreakerConfig, BreakerKey, BreakerState, Command, Permit, PermitKind, Refusal, Snapshot
from sickbay.domain.errors import ErrorReason, NotFound, Unavailable
from sickbay.domain.outcome import SUCCESS, Outcome, OutcomeKind
from sickbay.ports import Clock

MAX_REPORT_DELAY_S: Final = 0.02
"""Well below the age that a run must have before it opens a circuit (BREAKER_TRIP_CONFIRM_MS)."""


class RedisBreakers:
    """The `Breakers` port on Redis. Open it with `async with`; Redis need not be there.

    `stale` counts outcomes that came too late to matter, as far as this process was told.
    """

    def __init__(
        self,
        url: str,
        config: BreakerConfig,
        *,
        clock: Clock | None = None,
        worker: str = "",
        rng: Random | None = None,
        connect: Callable[[str], Client] = open_client,
    ) -> None:
        """`url` is redis://, rediss:// or unix://; `clock` replaces the time of Redis (tests); `worker` is whom probes are lent to.

        SettingsError if the URL cannot be meant.
        """
        self.stale = 0
        self._config = config
        self._rng = rng or SystemRandom()
        self._worker = worker
        self._watchers: set[BreakerWatcher] = set()
        self._leases: dict[BreakerKey, tuple[str, int]] = {}
        self._unheard: dict[BreakerKey, tuple[Permit, Outcome]] = {}
        self._fleet = BreakerSync(connect(url), place(url), config, clock, self._rng, on_change=self._changed, on_return=self._returned)
        self._local = LocalBreakers(config, self._fleet.time.now, self._rng, worker)
        self._successes = SuccessReporter(self._tell, lambda: self._rng.uniform(0, MAX_REPORT_DELAY_S))

    async def __aenter__(self) -> Self:
        await self._fleet.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._successes.close()
        await self._fleet.stop()

    @property
    def is_degraded(self) -> bool:
        """Whether this process goes by its last view, because Redis is away."""
        return self._fleet.is_away

    @property
    def trouble(self) -> str:
        """Why it does so; "" if it does not."""
        return self._fleet.trouble

    @property
    def shut_here(self) -> frozenset[BreakerKey]:
        """Circuits that refuse jobs in this process alone, because Redis cannot be asked."""
        return self._local.shut

    async def admit(self, key: BreakerKey, job_id: str, longest_ms: int = 0) -> Permit | Refusal:
        """See `Breakers.admit`."""
        doc = self._fleet.use(key)
        if doc is not None:
            if doc.admits_all and not (self._fleet.is_away and doc.state is BreakerState.CLOSED):
                return breaker.normal_permit(doc, job_id)
            refusal = self._refusal(doc, job_id)
            if refusal is not None:
                return refusal
        try:
            return await self._asked(key, job_id, longest_ms)
        except Unavailable:
            return await self._alone(key, job_id, longest_ms)

    async def settle(self, permit: Permit, outcome: Outcome) -> BreakerState:
        """See `Breakers.settle`."""
        if isinstance(permit, LocalPermit):
            return await self._settle_here(permit, outcome)
        doc = self._fleet.view.get(permit.key)
        if doc is not None and not permit.token and self._is_no_news(doc, permit, outcome):
            return doc.state
        try:
            return await self._told(permit, outcome)
        except Unavailable:
            return await self._kept(permit, outcome)

    async def renew(self, permit: Permit) -> bool:
        """See `Breakers.renew`. While Redis is away a lease is good for as long as it was last given; never raises."""
        if isinstance(permit, LocalPermit):
            return await self._local.renew(permit)
        try:
            reply = await self._fleet.call("renew", permit.key, script.renew_args(permit))
        except Unavailable:
            token, until = self._leases.get(permit.key, ("", 0))
            return token == permit.token and self._fleet.time.now() < until
        if reply.answer != "renewed" or reply.doc is None:
            return False
        self._leases[permit.key] = (permit.token, reply.doc.probe_until)
        return True

    async def keys(self) -> Sequence[BreakerKey]:
        """See `Breakers.keys`. Without Redis those of the last view; Unavailable if that is empty."""
        try:
            return await self._fleet.keys()
        except Unavailable:
            return [seen.key for seen in await self._last_known()]

    async def snapshots(self, keys: Collection[BreakerKey] | None = None) -> Sequence[Snapshot]:
        """See `Breakers.snapshots`. Without Redis the last view, marked as degraded; Unavailable if that is empty."""
        asked = None if keys is None else frozenset(keys)
        try:
            await self._fleet.read_all() if asked is None else await self._fleet.read(asked)
            async for seen in in_turns(self._fleet.view.all(asked)):
                if breaker.catch_up(seen.doc, self._config, self._fleet.time.now()) is not seen.doc:
                    await self._fleet.call("look", seen.doc.key)
        except Unavailable:
            return [one for one in await self._last_known() if asked is None or one.key in asked]
        return [self._snapshot(seen) async for seen in in_turns(self._fleet.view.all(asked))]

    async def command(self, key: BreakerKey, command: Command) -> Snapshot:
        """See `Breakers.command`; raises Unavailable while Redis is away."""
        reply = await self._fleet.call("command", key, script.command_args(command))
        if reply.doc is None:
            raise NotFound(f"Circuit breaker for jobType '{key.name}' not found", ErrorReason.BREAKER_NOT_FOUND)
        return self._snapshot(Seen(reply.doc, reply.total))

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[AsyncIterator[Snapshot]]:
        """See `Breakers.watch`. What a slow reader has not taken yet is at most one snapshot per circuit."""
        watcher = BreakerWatcher()
        self._watchers.add(watcher)
        self._fleet.see_all(1)
        try:
            yield watcher
        finally:
            self._fleet.see_all(-1)
            self._watchers.discard(watcher)
            watcher.close()

    # how a job is let in

    def _refusal(self, doc: Document, job_id: str) -> Refusal | None:
        """The refusal if the machine would refuse without a trace; everything else is the script's to say."""
        now = max(self._fleet.time.now(), doc.updated_at)
        after, answer = breaker.admit(doc, AdmitRequest(job_id, ""), self._config, now)
        return answer if after is doc and isinstance(answer, Refusal) else None

    async def _asked(self, key: BreakerKey, job_id: str, longest_ms: int) -> Permit | Refusal:
        request = AdmitRequest(job_id, f"{self._rng.getrandbits(64):016x}", self._worker, longest_ms=longest_ms)
        reply = await self._fleet.call("admit", key, script.admit_args(request))
        answer = script.parse_admission(reply, key, request)
        if isinstance(answer, Permit) and answer.kind is PermitKind.PROBE:
            self._leases[key] = (answer.token, reply.now + answer.lease_ms)
        return answer

    async def _alone(self, key: BreakerKey, job_id: str, longest_ms: int) -> Permit | Refusal:
        """Redis cannot be asked: what was shut stays shut, the rest is up to this process."""
        doc = self._fleet.view.get(key)
        if doc is not None and doc.state.refuses:
            return Refusal(key, doc.state)
        if doc is not None and doc.state is not BreakerState.CLOSED:
            return breaker.normal_permit(doc, job_id)
        return await self._local.admit(key, job_id, longest_ms)

    # how an outcome is reported

    def _is_no_news(self, doc: Document, permit: Permit, outcome: Outcome) -> bool:
        """Whether the outcome of a job that is no probe can be left untold, or told later."""
        if outcome.kind is OutcomeKind.CANCELLED:
            return True
        if outcome.kind is not OutcomeKind.SUCCESS or permit.epoch > doc.epoch:
            return False
        if permit.epoch < doc.epoch:
            self.stale += 1
            return True
        if doc.ramp is not None or self._fleet.is_away:
            return False
        if doc.run:
            self._successes.add(Success(permit, doc.seq))
        return True

    async def _told(self, permit: Permit, outcome: Outcome) -> BreakerState:
        """Tell the fleet, after what it must know before."""
        await self._successes.flush(permit.key)
        watermark = self._watermark(permit.key) if outcome.kind is OutcomeKind.SUCCESS and not permit.token else None
        reply = await self._fleet.call("settle", permit.key, script.settle_args(permit, outcome, watermark))
        if permit.token:
            self._leases.pop(permit.key, None)
        if reply.answer in {"stale", "unknown"}:
            self.stale += 1
        return reply.doc.state if reply.doc is not None else BreakerState.CLOSED

    async def _kept(self, permit: Permit, outcome: Outcome) -> BreakerState:
        """Redis cannot be told. A probe's verdict is told when it is back: fenced by its token, it does no harm if it is late."""
        doc = self._fleet.view.get(permit.key)
        if permit.token:
            self._unheard[permit.key] = (permit, outcome)
            return doc.state if doc is not None else BreakerState.HALF_OPEN
        if doc is not None and doc.state is not BreakerState.CLOSED:
            return doc.state
        return await self._local.overhear(permit, outcome)

    async def _settle_here(self, permit: LocalPermit, outcome: Outcome) -> BreakerState:
        state = await self._local.settle(permit, outcome)
        doc = self._fleet.view.get(permit.key)
        return state if doc is None or (self._fleet.is_away and doc.state is BreakerState.CLOSED) else doc.state

    async def _tell(self, success: Success) -> None:
        with contextlib.suppress(Unavailable):
            await self._fleet.call("settle", success.permit.key, script.settle_args(success.permit, SUCCESS, success.watermark))

    def _watermark(self, key: BreakerKey) -> int:
        doc = self._fleet.view.get(key)
        return doc.seq if doc is not None else 0

    # what is seen

    async def _last_known(self) -> Sequence[Snapshot]:
        here = {seen.key: seen for seen in await self._local.snapshots()}
        known = {seen.doc.key: self._snapshot(seen) for seen in self._fleet.view.all()}
        if not known and not here:
            raise Unavailable("no breaker is known here, and Redis is unavailable")
        closed = {key: one for key, one in here.items() if key not in known or known[key].state is BreakerState.CLOSED}
        return [replace(one, degraded=True) for _, one in sorted({**known, **closed}.items())]

    def _snapshot(self, seen: Seen) -> Snapshot:
        return breaker.snapshot(seen.doc, self._config, self._fleet.time.now(), total_failures=seen.total)

    def _changed(self, key: BreakerKey, seen: Seen | None) -> None:
        self._successes.heard(key, seen.doc if seen is not None else None)
        if seen is not None and self._watchers:
            change = self._snapshot(seen)
            for watcher in self._watchers:
                watcher.offer(change)

    async def _returned(self) -> None:
        self._local.forget()
        unheard, self._unheard = self._unheard, {}
        for permit, outcome in unheard.values():
            await self.settle(permit, outcome)
