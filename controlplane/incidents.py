"""Records incidents: tells the store of every breaker that opens, goes on failing or closes, and counts the jobs of incidents.

Each control plane tells all it sees, and the store makes one record of it. Whoever was away, or could not reach the ledger, finds out from
the breakers themselves: an open one without an incident gets one, and an incident whose breaker is closed is closed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Sequence
from time import monotonic
from typing import Final

from sickbay.concurrency.pauses import Backoff
from sickbay.concurrency.waiting import wait_for_event
from sickbay.domain.breaker import BreakerKey, BreakerRule, BreakerScope, Snapshot
from sickbay.domain.errors import Unavailable
from sickbay.domain.incident import Change, Incident, is_outage
from sickbay.domain.job import JobEvent, JobState
from sickbay.observer import NOBODY, Observer
from sickbay.ports import Breakers
from sickbay.ports.incidents import IncidentStore, Step

LOOK_EVERY_S: Final = 30.0
"""Between two comparisons of all incidents with all breakers while nothing happens."""
COUNT_EVERY_S: Final = 2.0
"""The same while there are unfinished incidents, whose jobs are counted then."""
COUNT_SHARE: Final = 20
"""It takes at most one part in so many of the time: a long count is repeated less often."""
DEGRADED_S: Final = 5.0
"""The same while the shared breakers are unavailable: a local view proves nothing."""
FAILED_S: Final = 1.0
LONGEST_FAILED_S: Final = 30.0
"""When the ledger is unavailable."""
MAX_NEWS: Final = 10_000
"""Changes that wait for the ledger; the oldest are forgotten first, and what is forgotten is seen in the breakers."""
MAX_TRACES: Final = 10_000
"""Failed jobs whose trace ids are remembered, the latest."""

_FAILED: Final = frozenset({JobState.RETRYING, JobState.PARKED, JobState.QUARANTINED})

log = logging.getLogger(__name__)


class IncidentRecorder:
    """One per control plane; several record the same incidents."""

    def __init__(
        self, breakers: Breakers, store: IncidentStore, *, scope: BreakerRule = BreakerScope.TYPE, observer: Observer = NOBODY
    ) -> None:
        """Does nothing before `run`; `scope` says which jobs ask which breaker."""
        self._breakers = breakers
        self._store = store
        self._scope = scope
        self._observer = observer
        self._open: set[BreakerKey] = set()
        """The breakers that have an open incident, as far as known here: only their news and those of outages concern the store."""
        self._traces: OrderedDict[str, str] = OrderedDict()
        self._news: deque[Snapshot] = deque(maxlen=MAX_NEWS)
        """Changes to tell the store, oldest first; they wait here while it is unavailable."""
        self._wake = asyncio.Event()
        self._due = 0.0
        self._failed = Backoff(FAILED_S, LONGEST_FAILED_S)

    def observe_events(self, events: Sequence[JobEvent]) -> None:
        """Events that were written to the ledger: remembers the traces of failed jobs, which the ledger keeps only in part."""
        for event in events:
            if event.job.trace and event.code and event.state in _FAILED:
                self._traces[event.job.job_id] = event.job.trace.split("-")[1]
                self._traces.move_to_end(event.job.job_id)
        while len(self._traces) > MAX_TRACES:
            self._traces.popitem(last=False)

    async def run(self) -> None:
        """Record until cancelled."""
        async with self._breakers.watch() as changes:
            listener = asyncio.create_task(self._listen(changes), name="incidents' breaker watch")
            try:
                while True:
                    self._wake.clear()
                    try:
                        wait_s = await self._work()
                    except Unavailable as error:
                        wait_s = self._failed.next_s()
                        log.warning("incidents cannot be recorded, they wait here, retrying in %.1f s: %s", wait_s, error)
                        await asyncio.sleep(wait_s)
                    else:
                        self._failed.reset()
                        await wait_for_event(self._wake, wait_s)
            finally:
                listener.cancel()

    async def _listen(self, changes: AsyncIterator[Snapshot]) -> None:
        async for change in changes:
            if is_outage(change):
                self._open.add(change.key)
            elif change.key not in self._open:
                continue
            self._news.append(change)
            self._wake.set()

    async def _work(self) -> float:
        """Record what is new, and compare everything when that is due; returns the seconds until then."""
        await self._tell_news()
        if monotonic() >= self._due:
            wait_s = await self._look()
            self._due = monotonic() + wait_s
        return max(0.0, self._due - monotonic())

    async def _tell_news(self) -> None:
        while self._news:
            change = self._news.popleft()
            try:
                await self._observe(change)
            except Unavailable:
                self._news.appendleft(change)
                raise

    async def _look(self) -> float:
        """Compare all incidents with all breakers, and count jobs; returns the seconds until the next time."""
        began = monotonic()
        unfinished = await self._store.unfinished()
        breakers = {breaker.key: breaker for breaker in await self._breakers.snapshots()}
        if any(breaker.degraded for breaker in breakers.values()):
            return DEGRADED_S
        open_ = {incident.key: incident for incident in unfinished if incident.is_open}
        self._open = {*open_, *(change.key for change in self._news)}
        for breaker in breakers.values():
            known = open_.get(breaker.key)
            if is_outage(breaker) if known is None else breaker.rev > known.rev:
                await self._observe(breaker)
        for incident in open_.values():
            if incident.key not in breakers:
                self._take(await self._store.close_missing(incident), incident.key)
        for incident in unfinished:
            await self._store.count_jobs(incident, self._scope, self._traces)
            await self._tell_news()  # it does not wait for the others
        is_busy = bool(unfinished or self._open)
        return max(COUNT_EVERY_S, COUNT_SHARE * (monotonic() - began)) if is_busy else LOOK_EVERY_S

    async def _observe(self, breaker: Snapshot) -> None:
        self._take(await self._store.observe(breaker), breaker.key)

    def _take(self, step: Step, key: BreakerKey) -> None:
        if step.incident is not None and step.incident.is_open:
            self._open.add(key)
        else:
            self._open.discard(key)
        if step.incident is None or step.change is None:
            return
        _log(step.incident, step.change)
        self._observer.incident_changed(step.incident, step.change)
        self._due = 0.0


def _log(incident: Incident, change: Change) -> None:
    name, cause = incident.key.name, incident.cause
    if change is Change.CLOSED:
        log.info("incident %d of %s is closed after %.1f s", incident.number, name, (incident.recovery_ms or 0) / 1000)
    elif change is Change.REOPENED:
        log.info("incident %d of %s goes on: the breaker has opened again", incident.number, name)
    else:
        log.info("incident %d of %s: the breaker has opened after %d x %s", incident.number, name, cause.count, cause.code)
