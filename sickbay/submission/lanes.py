"""Chooses the lane of a submitted job: by its priority, or that of the demoted if its flow floods.

A flow floods if a worker says so (in the registry), or if this Job API has accepted more of its jobs within the present second than its
part of BURSTS: so most of a burst never stands in the main lane, where others would wait behind it, and no worker has to move it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Final

from sickbay.concurrency.tasks import DetachedTasks
from sickbay.domain.job import Job
from sickbay.domain.lane import DEMOTABLE, Flow, Lane, flow_of
from sickbay.domain.workers import Fleet
from sickbay.fleet import FleetView
from sickbay.ports import PoolQueue

BURSTS: Final[Mapping[Lane, int]] = {Lane.HIGH: 500, Lane.MAIN: 200}
"""Jobs per second of all large flows that wait in the lane of their priority, in equal parts. That of HIGH ones is larger, because behind
NORMAL ones they would miss their purpose."""
SMALL: Final = 40
"""A flow with at most so many jobs per second is not large, and waits there however many flows there are."""


class LaneChoice:
    """One per Job API. A look into memory for each job; the registry is asked in the background, at most once a second."""

    def __init__(self, fleet: FleetView | None, seconds: Callable[[], float] = monotonic) -> None:
        """`fleet` is None if this Job API cannot see the workers; `seconds` is a monotonic clock."""
        self._fleet = fleet
        self._seconds = seconds
        self._second = 0
        self._counts: Counter[Flow] = Counter()
        self._large: Counter[Lane] = Counter()
        """How many flows of a lane are large in this second,"""
        self._large_before: Counter[Lane] = Counter()
        """... and in the one before."""
        self.detached = DetachedTasks()
        self.demoted: Counter[str] = Counter()
        """How many jobs of each type were sent to the lane of the demoted."""

    async def look(self) -> None:
        """Look at the workers, for a caller who can wait: `keys` then knows the pools. Never raises Unavailable."""
        if self._fleet is not None:
            await self._fleet.look()

    def keys(self, jobs: Sequence[Job]) -> Sequence[str]:
        """The routing key of each job: of the queue of a pool if that alone handles its type, else of its lane.

        That is the main lane while not every worker certainly takes jobs from all lanes.
        """
        if self._fleet is None:
            return [Lane.MAIN] * len(jobs)
        fleet = self._fleet.seen
        if not self._fleet.is_new:
            self.detached.start(self._fleet.look())
        return [self._key(job, fleet) for job in jobs]

    def _key(self, job: Job, fleet: Fleet) -> str:
        if pool := fleet.pool_of(job.job_type, job.job_id):
            return PoolQueue(pool).key
        if not fleet.takes_lanes:
            return Lane.MAIN
        second = int(self._seconds())
        if second != self._second:
            self._large_before = self._large if second == self._second + 1 else Counter()
            self._large = Counter()
            self._second = second
            self._counts.clear()
        return self._lane(flow_of(job), fleet.floods)

    def _lane(self, flow: Flow, floods: frozenset[tuple[str, str, str]]) -> Lane:
        if flow.lane not in DEMOTABLE:
            return flow.lane
        lane, count = flow.lane, self._counts[flow] + 1
        self._counts[flow] = count
        if count == SMALL + 1:
            self._large[lane] += 1
        part = BURSTS[lane] // max(1, self._large[lane], self._large_before[lane])
        if count <= max(SMALL, part) and flow not in floods:
            return lane
        self.demoted[flow.job_type] += 1
        return Lane.DEMOTED
