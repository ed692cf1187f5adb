"""Chooses the lane of a submitted job: by its priority, or that of the demoted if its flow floods.

A flow floods if a worker says so (in the registry), or if this Job API has accepted more than BURST of its jobs within the present second:
so most of a burst never stands in the main lane, where others would wait behind it, and no worker has to move it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final

from sickbay.concurrency.tasks import DetachedTasks
from sickbay.domain.job import Job
from sickbay.domain.lane import DEMOTABLE, Flow, Lane, flow_of
from sickbay.fleet import FleetView

BURST: Final = 500
"""Jobs of one flow per second that wait in the lane of their priority."""


class LaneChoice:
    """One per Job API. A look into memory for each job; the registry is asked in the background, at most once a second."""

    def __init__(self, fleet: FleetView | None, seconds: Callable[[], float] = monotonic) -> None:
        """`fleet` is None if this Job API cannot see the workers; `seconds` is a monotonic clock."""
        self._fleet = fleet
        self._seconds = seconds
        self._second = 0
        self._counts: Counter[Flow] = Counter()
        self.detached = DetachedTasks()
        self.demoted: Counter[str] = Counter()
        """How many jobs of each type were sent to the lane of the demoted."""

    def lanes(self, jobs: Sequence[Job]) -> Sequence[Lane]:
        """The lane of each job: the main one while not every worker certainly takes jobs from all lanes."""
        if self._fleet is None:
            return [Lane.MAIN] * len(jobs)
        fleet = self._fleet.seen
        if not self._fleet.is_new:
            self.detached.start(self._fleet.look())
        if not fleet.takes_lanes:
            return [Lane.MAIN] * len(jobs)
        second = int(self._seconds())
        if second != self._second:
            self._second = second
            self._counts.clear()
        return [self._lane(flow_of(job), fleet.floods) for job in jobs]

    def _lane(self, flow: Flow, floods: frozenset[tuple[str, str, str]]) -> Lane:
        if flow.lane not in DEMOTABLE:
            return flow.lane
        self._counts[flow] += 1
        if self._counts[flow] <= BURST and flow not in floods:
            return flow.lane
        self.demoted[flow.job_type] += 1
        return Lane.DEMOTED
