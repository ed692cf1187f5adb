"""The fleet's breakers: their state is in Redis, changed by one script; a healthy breaker costs no call at all.

Normal permits come from the view. Probes, ramp permits and outcomes always go through the script, so a stale view can cost a few extra
runs, never a wrong state. Without Redis the last state stays: open breakers stay open and are not probed, closed ones are replaced by a
breaker of this process alone (`local.py`), and that is never written back.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from random import Random, SystemRandom
from types import TracebackType
from typing import Final, Self

from sickbay.adapters.breaker_watcher import BreakerWatcher
from sickbay.adapters.redis import script
from sickbay.adapters.redis.address import display_url
from sickbay.adapters.redis.breaker_sync import BreakerSync
from sickbay.adapters.redis.client import Client, open_client
from sickbay.adapters.redis.local import LocalBreakers, LocalPermit
from sickbay.adapters.redis.snapshots import RedisSnapshots
from sickbay.adapters.redis.success_reporter import Success, SuccessReporter
from sickbay.adapters.redis.view import Seen
from sickbay.breaker import machine as breaker
from sickbay.breaker.durations import UsualDurations
from sickbay.breaker.machine import AdmitRequest, Document
from sickbay.breaker.tally import Tally
from sickbay.breaker.usual import UsualFailures
from sickbay.breaker.window import Calls
from sickbay.domain.breaker import BreakerConfig, BreakerKey, BreakerState, Command, ConfigOf, Permit, PermitKind, Refusal, Snapshot
from sickbay.domain.errors import ErrorReason, NotFound, Unavailable
from sickbay.domain.outcome import SUCCESS, Outcome, OutcomeKind
from sickbay.ports import BreakerView, Clock

MAX_REPORT_DELAY_S: Final = 0.02
"""Well below the age that a run of failures must have to open a breaker (BREAKER_TRIP_CONFIRM_MS)."""


class RedisBreakers:
    """The `Breakers` port on Redis. Open it with `async with`; Redis need not be available.

    `stale` counts outcomes that came too late to matter, as far as this process knows.
    """

    def __init__(
        self,
        url: str,
        config: BreakerConfig | ConfigOf,
        *,
        clock: Clock | None = None,
        worker: str = "",
        rng: Random | None = None,
        connect: Callable[[str], Client] = open_client,
    ) -> None:
        """`url` is redis://, rediss:// or unix://; `clock` replaces the time of Redis (tests); `worker` is the name for its probes.

        SettingsError if the URL is invalid.
        """
        self.stale = 0
        config_of: ConfigOf = config if callable(config) else lambda _: config
        self._config = config_of
        self._rng = rng or SystemRandom()
        self._worker = worker
        self._usual = UsualFailures()
        self._durations = UsualDurations()
        self._tally = Tally()
        self._watchers: set[BreakerWatcher] = set()
        self._leases: dict[str, int] = {}
        """The ends of the leases of this process's probes, by their tokens."""
        self._unreported: dict[str, tuple[Permit, Outcome]] = {}
        self._sync = BreakerSync(
            connect(url), display_url(url), config_of, clock, self._rng, on_change=self._on_change, on_recovered=self._on_recovered
        )
        self._local = LocalBreakers(config_of, self._sync.time.now, self._rng, worker)
        self._snapshots = RedisSnapshots(self._sync, self._local, config_of)
        self._successes = SuccessReporter(self._report_success, lambda: self._rng.uniform(0, MAX_REPORT_DELAY_S))

    async def __aenter__(self) -> Self:
        await self._sync.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._successes.close()
        await self._sync.stop()

    @property
    def is_degraded(self) -> bool:
        """Whether this process uses its last view, because Redis is unavailable."""
        return self._sync.is_unavailable

    @property
    def trouble(self) -> str:
        """Why it is degraded; "" if it is not."""
        return self._sync.trouble

    @property
    def shut_here(self) -> frozenset[BreakerKey]:
        """Breakers that refuse jobs in this process alone, because Redis is unavailable."""
        return self._local.shut

    def view(self) -> BreakerView:
        """The same breakers for who only looks."""
        return self._sync.breaker_view()

    async def admit(self, key: BreakerKey, job_id: str, longest_ms: int = 0, *, released: bool = False) -> Permit | Refusal:
        """See `Breakers.admit`."""
        doc = self._sync.use(key)
        if doc is not None:
            if doc.admits_all and not (self._sync.is_unavailable and doc.state is BreakerState.CLOSED):
                return breaker.normal_permit(doc, job_id)
            refusal = self._refusal(doc, job_id)
            if refusal is not None:
                return refusal
        try:
            return await self._admit_in_redis(key, job_id, longest_ms, released=released)
        except Unavailable:
            return await self._admit_offline(key, job_id, longest_ms)

    async def reserve(self, key: BreakerKey, wanted: int, arrivals: int = 0) -> int:
        """See `Breakers.reserve`."""
        reply = await self._sync.call("reserve", key, [wanted, arrivals])
        return wanted if reply.doc is None else int(reply.answer)

    async def settle(self, permit: Permit, outcome: Outcome, took_ms: int = 0) -> BreakerState:
        """See `Breakers.settle`."""
        if isinstance(permit, LocalPermit):
            return await self._settle_locally(permit, outcome, took_ms)
        self._usual.record(permit, outcome, self._sync.time.now)
        self._durations.record(permit, outcome, took_ms, self._sync.time.now)
        doc, config, earlier = self._sync.view.get(permit.key), self._config(permit.key), None
        if config.rate and doc is not None and not permit.token:
            earlier = self._tally.record(doc, permit, outcome, took_ms, config=config, now=self._sync.time.now())
        if earlier is None and doc is not None and not permit.token and self._needs_no_report(doc, permit, outcome):
            return doc.state
        try:
            return await self._report(permit, outcome, took_ms, earlier or ())
        except Unavailable:
            if earlier:
                self._tally.put_back(permit, earlier, config, self._sync.time.now())
            return await self._settle_offline(permit, outcome, took_ms)

    async def renew(self, permit: Permit) -> bool:
        """See `Breakers.renew`. While Redis is unavailable a lease is valid until its last known end; never raises."""
        if isinstance(permit, LocalPermit):
            return await self._local.renew(permit)
        try:
            reply = await self._sync.call("renew", permit.key, script.renew_args(permit))
        except Unavailable:
            return self._sync.time.now() < self._leases.get(permit.token, 0)
        if reply.answer != "renewed" or reply.doc is None:
            return False
        self._leases[permit.token] = breaker.lease_end(reply.doc, permit)
        return True

    async def keys(self) -> Sequence[BreakerKey]:
        """See `Breakers.keys`. Without Redis those of the last view; Unavailable if it is empty."""
        return await self._snapshots.keys()

    async def snapshots(self, keys: Collection[BreakerKey] | None = None) -> Sequence[Snapshot]:
        """See `Breakers.snapshots`. Without Redis the last view, marked as degraded; Unavailable if it is empty."""
        return await self._snapshots.read(keys)

    async def command(self, key: BreakerKey, command: Command) -> Snapshot:
        """See `Breakers.command`; Unavailable while Redis is."""
        reply = await self._sync.call("command", key, script.command_args(command))
        if reply.doc is None:
            raise NotFound(f"Circuit breaker for jobType '{key.name}' not found", ErrorReason.BREAKER_NOT_FOUND)
        return self._snapshots.of(Seen(reply.doc, reply.total))

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[AsyncIterator[Snapshot]]:
        """See `Breakers.watch`. For a slow reader at most one snapshot per breaker is kept."""
        watcher = BreakerWatcher()
        self._watchers.add(watcher)
        self._sync.watch_all(1)
        try:
            yield watcher
        finally:
            self._sync.watch_all(-1)
            self._watchers.discard(watcher)
            watcher.close()

    # admission

    def _refusal(self, doc: Document, job_id: str) -> Refusal | None:
        """The refusal if the machine would refuse without changing the document; otherwise the script decides."""
        now = max(self._sync.time.now(), doc.updated_at)
        after, answer = breaker.admit(doc, AdmitRequest(job_id, ""), self._config(doc.key), now)
        return answer if after is doc and isinstance(answer, Refusal) else None

    async def _admit_in_redis(self, key: BreakerKey, job_id: str, longest_ms: int, *, released: bool) -> Permit | Refusal:
        token = f"{self._rng.getrandbits(64):016x}"
        usual_ms = self._durations.usual_ms(key)
        request = AdmitRequest(job_id, token, self._worker, longest_ms=longest_ms, released=released, usual_ms=usual_ms)
        reply = await self._sync.call("admit", key, script.admit_args(request))
        answer = script.parse_admission(reply, key, request)
        if isinstance(answer, Permit) and answer.kind is PermitKind.PROBE:
            self._leases[answer.token] = reply.now + answer.lease_ms
        return answer

    async def _admit_offline(self, key: BreakerKey, job_id: str, longest_ms: int) -> Permit | Refusal:
        """Redis is unavailable: open breakers stay open, otherwise this process decides."""
        doc = self._sync.view.get(key)
        if doc is not None and doc.state.refuses:
            return Refusal(key, doc.state)
        if doc is not None and doc.state is not BreakerState.CLOSED:
            return breaker.normal_permit(doc, job_id)
        return await self._local.admit(key, job_id, longest_ms)

    # outcomes

    def _needs_no_report(self, doc: Document, permit: Permit, outcome: Outcome) -> bool:
        """Whether the outcome of a job that is not a probe need not be reported, or only later."""
        if outcome.kind is OutcomeKind.CANCELLED:
            return True
        if outcome.kind is not OutcomeKind.SUCCESS or permit.epoch > doc.epoch:
            return False
        if permit.epoch < doc.epoch:
            self.stale += 1
            return True
        if doc.ramp is not None or self._sync.is_unavailable:
            return False
        if doc.run:
            self._successes.add(Success(permit, doc.seq))
        return True

    async def _report(self, permit: Permit, outcome: Outcome, took_ms: int, earlier: Calls) -> BreakerState:
        """Report to the fleet, after pending successes of the same breaker."""
        await self._successes.flush(permit.key)
        watermark = self._watermark(permit.key) if outcome.kind is OutcomeKind.SUCCESS and not permit.token else None
        share, usual_ms = self._usual.share(permit.key), self._durations.usual_ms(permit.key)
        words = script.settle_args(permit, outcome, watermark, share, took_ms=took_ms, earlier=earlier, usual_ms=usual_ms)
        reply = await self._sync.call("settle", permit.key, words)
        if permit.token:
            self._leases.pop(permit.token, None)
        if reply.answer in {"stale", "unknown"}:
            self.stale += 1
        return reply.doc.state if reply.doc is not None else BreakerState.CLOSED

    async def _settle_offline(self, permit: Permit, outcome: Outcome, took_ms: int) -> BreakerState:
        """Redis is unavailable. The outcome of a probe is reported when it is back: its fencing token makes a late report harmless."""
        doc = self._sync.view.get(permit.key)
        if permit.token:
            self._unreported[permit.token] = (permit, outcome)
            return doc.state if doc is not None else BreakerState.HALF_OPEN
        if doc is not None and doc.state is not BreakerState.CLOSED:
            return doc.state
        return await self._local.settle_for_fleet(permit, outcome, took_ms)

    async def _settle_locally(self, permit: LocalPermit, outcome: Outcome, took_ms: int) -> BreakerState:
        state = await self._local.settle(permit, outcome, took_ms)
        doc = self._sync.view.get(permit.key)
        return state if doc is None or (self._sync.is_unavailable and doc.state is BreakerState.CLOSED) else doc.state

    async def _report_success(self, success: Success) -> None:
        permit, share = success.permit, self._usual.share(success.permit.key)
        with contextlib.suppress(Unavailable):
            await self._sync.call("settle", permit.key, script.settle_args(permit, SUCCESS, success.watermark, share))

    def _watermark(self, key: BreakerKey) -> int:
        doc = self._sync.view.get(key)
        return doc.seq if doc is not None else 0

    # changes

    def _on_change(self, key: BreakerKey, seen: Seen | None) -> None:
        self._successes.on_change(key, seen.doc if seen is not None else None)
        if seen is not None and self._watchers:
            change = self._snapshots.of(seen)
            for watcher in self._watchers:
                watcher.offer(change)

    async def _on_recovered(self) -> None:
        self._local.forget()
        unreported, self._unreported = self._unreported, {}
        for permit, outcome in unreported.values():
            await self.settle(permit, outcome)
