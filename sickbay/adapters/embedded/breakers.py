"""The breakers of a system that runs in one process: the pure machine of `sickbay.breaker.machine` and a dictionary.

No operation awaits anything (but `snapshots`, between two breakers, and `command` at its end, for the disk), so each is atomic on its event
loop and "exactly one probe" needs no lock. There is no timer either: what happens by time alone (an expired probe lease, the end of a hold)
is applied by the next operation on that breaker, or by `snapshots`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import lru_cache
from random import Random
from typing import Final

from sickbay.adapters.breaker_view import DocumentView
from sickbay.adapters.embedded.announcements import Announcements
from sickbay.adapters.embedded.breaker_file import BreakerFile, Kept
from sickbay.breaker import machine as breaker
from sickbay.breaker.cooldown import MAX_JITTER
from sickbay.breaker.document import shift_times, with_changes
from sickbay.breaker.durations import UsualDurations
from sickbay.breaker.machine import AdmitRequest, Document, Effect
from sickbay.breaker.shown import ShownBreakers
from sickbay.breaker.tally import Tally
from sickbay.breaker.usual import UsualFailures
from sickbay.concurrency.tasks import cooperatively
from sickbay.domain.breaker import Action, BreakerConfig, BreakerKey, BreakerState, Command, ConfigOf, Permit, Refusal, Snapshot
from sickbay.domain.errors import ErrorReason, NotFound
from sickbay.domain.job import DEFAULT_TENANT
from sickbay.domain.outcome import Outcome, OutcomeKind
from sickbay.ports import BreakerView, Clock
from sickbay.system.clock import Steps

log = logging.getLogger(__name__)

RESET_MS: Final = 3_600_000
"""How long after a reset an unused breaker is kept, as in Redis."""
_NO_FAILURES = frozenset({OutcomeKind.SUCCESS, OutcomeKind.CANCELLED})


class EmbeddedBreakers:
    """The `Breakers` port in process. Every success is seen at once, so a run of failures needs no minimum age (trip_confirm 0).

    `stale` counts outcomes that came too late to matter. With a file a restart forgets no breaker; without one all start closed.
    One of a tenant other than `default` is kept only while it is not forgettable (`Document.is_forgettable`).
    """

    def __init__(
        self,
        config: BreakerConfig | ConfigOf,
        clock: Clock,
        rng: Random,
        worker: str = "embedded",
        *,
        steady: Clock | None = None,
        file: BreakerFile | None = None,
    ) -> None:
        """`rng` draws tokens and jitter; `worker` is the name for probes.

        `steady` is a monotonic clock: with it, no wait changes when `clock` is set. `file` is where they are stored; `close` closes it.
        """
        self._steps = Steps(clock, steady) if steady is not None else None
        self.stale = 0
        self._config_of = config if callable(config) else lambda _: config
        self._clock = clock
        self._rng = rng
        self._worker = worker
        self._documents: dict[BreakerKey, Document] = {}
        self._usual = UsualFailures()
        self._durations = UsualDurations()
        self._sorted_keys: Sequence[BreakerKey] | None = None
        """Those of `_documents`; None after one came or went."""
        self._tally = Tally(report_ms=0)
        self._failures: Counter[BreakerKey] = Counter()
        self._shown = ShownBreakers()
        self._announcements = Announcements(self._documents.get, lambda doc: self._snapshot(doc, doc.updated_at))
        self._unused: set[BreakerKey] = set()
        """Breakers that got a command and have run no job since: the name may be wrong."""
        self._file: BreakerFile | None = None
        if file is not None:
            self._restore(file)
            self._file = file

    def view(self) -> BreakerView:
        """The same breakers for who only looks."""
        return DocumentView(self._documents.get, self._config, self._clock)

    def close(self) -> None:
        """Store every breaker as it is now, and close the file. Blocks for the disk."""
        if self._file is not None:
            self._file.keep(*map(self._kept, self._documents.values()))
            self._file.close()
            self._file = None

    async def admit(self, key: BreakerKey, job_id: str, longest_ms: int = 0, *, released: bool = False) -> Permit | Refusal:
        """See `Breakers.admit`."""
        self._unused.discard(key)
        doc = self._documents.get(key) or self._new_document(key)
        if doc.admits_all:
            return breaker.normal_permit(doc, job_id)
        token, usual_ms = f"{self._rng.getrandbits(64):016x}", self._durations.usual_ms(key)
        request = AdmitRequest(job_id, token, self._worker, self._jitter(), longest_ms, released, usual_ms)
        now = self._now()
        doc, answer = breaker.admit(self._documents.get(key, doc), request, self._config(key), now)
        self._store(doc)
        return answer

    async def reserve(self, key: BreakerKey, wanted: int, arrivals: int = 0) -> int:
        """See `Breakers.reserve`."""
        now = self._now()
        doc = self._documents.get(key)
        if doc is None:
            return wanted
        doc, granted = breaker.reserve(doc, wanted, self._config(key), now, jitter=self._jitter(), arrivals=arrivals)
        self._store(doc)
        return granted

    async def settle(self, permit: Permit, outcome: Outcome, took_ms: int = 0) -> BreakerState:
        """See `Breakers.settle`; an unknown breaker is CLOSED."""
        self._usual.record(permit, outcome, self._clock)
        self._durations.record(permit, outcome, took_ms, self._clock)
        doc = self._documents.get(permit.key)
        if doc is None:
            if permit.key.tenant == DEFAULT_TENANT:
                self.stale += 1
                return BreakerState.CLOSED
            doc = self._new_document(permit.key)
        config = self._config_of(permit.key)
        earlier = None
        if config.rate and not permit.token:
            earlier = self._tally.record(doc, permit, outcome, took_ms, config=config, now=self._clock())
        if earlier is None and not breaker.needs_settling(doc, permit, outcome):
            return doc.state
        if outcome.kind not in _NO_FAILURES:
            self._failures[permit.key] += 1
        now = self._now()
        doc, effect = breaker.settle(
            self._documents.get(permit.key, doc), permit, outcome, self._config(permit.key), now, jitter=self._jitter(),
            share=self._usual.share(permit.key), took_ms=took_ms, earlier=earlier or (), usual_ms=self._durations.usual_ms(permit.key),
        )  # fmt: skip
        if effect is Effect.STALE:
            self.stale += 1
        self._store(doc)
        return doc.state

    async def renew(self, permit: Permit) -> bool:
        """See `Breakers.renew`."""
        now = self._now()
        doc = self._documents.get(permit.key)
        if doc is None:
            return False
        doc, renewed = breaker.renew(doc, permit, self._config(permit.key), now, jitter=self._jitter())
        self._store(doc)
        return renewed

    async def keys(self) -> Sequence[BreakerKey]:
        """See `Breakers.keys`."""
        if self._sorted_keys is None:
            self._sorted_keys = sorted(self._documents)
        return self._sorted_keys

    async def snapshots(self, keys: Collection[BreakerKey] | None = None) -> Sequence[Snapshot]:
        """See `Breakers.snapshots`."""
        asked = sorted(self._documents) if keys is None else keys
        self._shown.prune(lambda: self._documents)
        return [seen async for key in cooperatively(asked) if (seen := self._refresh(key, self._now())) is not None]

    async def command(self, key: BreakerKey, command: Command) -> Snapshot:
        """See `Breakers.command`."""
        if key not in self._documents and command.action in {Action.RESET, Action.AUTO, Action.PROBE}:
            raise NotFound(f"Circuit breaker for jobType '{key.name}' not found", ErrorReason.BREAKER_NOT_FOUND)
        now = self._now()
        doc = self._documents.get(key) or self._new_document(key)
        self._unused.add(key)
        doc = breaker.command(doc, command, self._config(key), now, jitter=self._jitter())
        self._store(doc)
        if command.action is Action.PROBE:
            self._keep(doc)  # it lets in what it did before, only sooner
        if self._file is not None:
            await asyncio.to_thread(self._file.sync)
        return self._snapshot(doc, now)

    def watch(self) -> AbstractAsyncContextManager[AsyncIterator[Snapshot]]:
        """See `Breakers.watch`. A ramp that moves is told of now and then."""
        return self._announcements.watch()

    def _now(self) -> int:
        now = self._clock()
        if self._steps is not None and (step := self._steps.taken()):
            log.warning(
                "the machine's clock was set by %+.1f s; the waits of breakers are corrected and stay as long as before", step / 1000
            )
            for doc in list(self._documents.values()):
                if not doc.is_quiet:
                    self._store(shifted := shift_times(doc, step, now))
                    self._keep(shifted)
        return now

    def _new_document(self, key: BreakerKey) -> Document:
        doc = breaker.new_document(key, self._clock())
        if not doc.is_forgettable:
            self._store(doc)
        return doc

    def _refresh(self, key: BreakerKey, now: int) -> Snapshot | None:
        """The current state of a breaker; None if it is forgotten."""
        doc = self._documents.get(key)
        if doc is None:
            return None
        config = self._config(key)
        if shown := self._shown.get(doc, config, now, self._failures[key]):
            return shown
        jitter, idle_ms = 0 if doc.state is BreakerState.CLOSED else self._jitter(), now - doc.updated_at
        doc = breaker.catch_up(doc, config, now, jitter=jitter)
        self._store(doc)
        is_unused = key in self._unused and doc.is_quiet and idle_ms >= RESET_MS
        if is_unused or doc.has_lapsed(config.failure_window_ms, now):
            self._forget(key)
        doc = self._documents.get(key)
        return self._shown.make(doc, config, now, self._failures[key]) if doc is not None else None

    def _forget(self, key: BreakerKey) -> None:
        known = self._documents.pop(key, None)
        self._sorted_keys = None
        self._failures.pop(key, None)
        self._unused.discard(key)
        if known is not None and self._file is not None:
            self._file.forget(key.name)

    def _restore(self, file: BreakerFile) -> None:
        """Take in what was kept. Whoever had a probe has ended with the process: the next job is the probe."""
        now = self._clock()
        for kept in file.load():
            try:
                doc = breaker.from_json(kept.document)
            except ValueError:
                log.warning("the stored breaker of %s cannot be read, so it starts closed", kept.name)
                continue
            if doc.probe_token or doc.superseded:
                doc = with_changes(doc, now, probe_until=now if doc.probe_token else 0, superseded=())
            self._documents[doc.key] = breaker.catch_up(doc, self._config(doc.key), now)
            self._sorted_keys = None
            self._failures[doc.key] = kept.failures

    def _keep(self, doc: Document) -> None:
        if self._file is not None:
            self._file.keep(self._kept(doc))

    def _kept(self, doc: Document) -> Kept:
        return Kept(doc.key.name, breaker.to_json(doc), self._failures[doc.key])

    def _store(self, doc: Document) -> None:
        old = self._documents.get(doc.key)
        if doc is old:
            return
        if doc.is_forgettable:
            self._forget(doc.key)
            if old is None:
                return
        else:
            self._documents[doc.key] = doc
            if old is None:
                self._sorted_keys = None
            if old is None or doc.epoch != old.epoch:
                self._keep(doc)
        self._announcements.record(doc, old)

    def _snapshot(self, doc: Document, now: int) -> Snapshot:
        return breaker.snapshot(doc, self._config(doc.key), now, total_failures=self._failures[doc.key])

    def _config(self, key: BreakerKey) -> BreakerConfig:
        return _unconfirmed(self._config_of(key))

    def _jitter(self) -> int:
        return self._rng.randint(0, MAX_JITTER)


@lru_cache
def _unconfirmed(config: BreakerConfig) -> BreakerConfig:
    """In one process the failures are known at once, so they need not have a least age."""
    return replace(config, trip_confirm_ms=0)
