"""The circuits of a system that runs in one process: the pure machine of `sickbay.breaker` and a dictionary.

No operation awaits anything, so each is atomic on its event loop and "exactly one probe" needs no lock. There is no timer either:
what time alone does (a lost prober, the end of a hold) is seen by the next operation on that circuit, or by `snapshots`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random

from sickbay import breaker
from sickbay.adapters.watcher import Watcher
from sickbay.breaker import Ask, Document, Effect
from sickbay.breaker_moves import MAX_JITTER
from sickbay.circuit import Action, BreakerConfig, CircuitState, Command, Key, Permit, Refusal, Snapshot
from sickbay.errors import ErrorReason, NotFound
from sickbay.outcome import Kind, Outcome
from sickbay.ports import Clock

_NO_FAILURES = frozenset({Kind.SUCCESS, Kind.CANCELLED})


class EmbeddedBreakers:
    """The `Breakers` port in process. Everybody sees every success at once, so runs need no age to be trusted (trip_confirm 0).

    `stale` counts outcomes that came too late to matter. Circuits are forgotten with the process: it starts with all of them closed.
    """

    def __init__(self, config: BreakerConfig, clock: Clock, rng: Random, worker: str = "embedded") -> None:
        """`rng` draws tokens and jitter; `worker` is the name probes are lent to."""
        self.stale = 0
        self._config = replace(config, trip_confirm_ms=0)
        self._clock = clock
        self._rng = rng
        self._worker = worker
        self._documents: dict[Key, Document] = {}
        self._failures: Counter[Key] = Counter()
        self._watchers: set[Watcher] = set()

    async def admit(self, key: Key, job_id: str) -> Permit | Refusal:
        """See `Breakers.admit`."""
        doc = self._documents.get(key) or self._registered(key)
        if doc.admits_all:
            return breaker.normal_permit(doc, job_id)
        ask = Ask(job_id, f"{self._rng.getrandbits(64):016x}", self._worker, self._jitter())
        doc, answer = breaker.admit(doc, ask, self._config, self._clock())
        self._store(doc)
        return answer

    async def settle(self, permit: Permit, outcome: Outcome) -> CircuitState:
        """See `Breakers.settle`; a type that nobody knows here is CLOSED."""
        doc = self._documents.get(permit.key)
        if doc is None:
            self.stale += 1
            return CircuitState.CLOSED
        if not breaker.is_news(doc, permit, outcome):
            return doc.state
        if outcome.kind not in _NO_FAILURES:
            self._failures[permit.key] += 1
        doc, effect = breaker.settle(doc, permit, outcome, self._config, self._clock(), jitter=self._jitter())
        if effect is Effect.STALE:
            self.stale += 1
        self._store(doc)
        return doc.state

    async def renew(self, permit: Permit) -> bool:
        """See `Breakers.renew`."""
        doc = self._documents.get(permit.key)
        if doc is None:
            return False
        doc, renewed = breaker.renew(doc, permit, self._config, self._clock(), jitter=self._jitter())
        self._store(doc)
        return renewed

    async def snapshots(self) -> Sequence[Snapshot]:
        """See `Breakers.snapshots`."""
        now = self._clock()
        for doc in list(self._documents.values()):
            self._store(breaker.catch_up(doc, self._config, now, jitter=self._jitter()))
        return [self._snapshot(self._documents[key], now) for key in sorted(self._documents)]

    async def command(self, key: Key, command: Command) -> Snapshot:
        """See `Breakers.command`."""
        if key not in self._documents and command.action in {Action.RESET, Action.AUTO}:
            raise NotFound(f"Circuit breaker for jobType '{key.name}' not found", ErrorReason.BREAKER_NOT_FOUND)
        doc = self._documents.get(key) or self._registered(key)
        now = self._clock()
        doc = breaker.command(doc, command, self._config, now, jitter=self._jitter())
        self._store(doc)
        return self._snapshot(doc, now)

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[AsyncIterator[Snapshot]]:
        """See `Breakers.watch`. What a slow reader has not taken yet is at most one snapshot per circuit."""
        watcher = Watcher()
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)
            watcher.close()

    def _registered(self, key: Key) -> Document:
        doc = breaker.new_document(key, self._clock())
        self._store(doc)
        return doc

    def _store(self, doc: Document) -> None:
        if self._documents.get(doc.key) is doc:
            return
        self._documents[doc.key] = doc
        if self._watchers:
            change = self._snapshot(doc, doc.updated_at)
            for watcher in self._watchers:
                watcher.offer(change)

    def _snapshot(self, doc: Document, now: int) -> Snapshot:
        return breaker.snapshot(doc, self._config, now, total_failures=self._failures[doc.key])

    def _jitter(self) -> int:
        return self._rng.randint(0, MAX_JITTER)
