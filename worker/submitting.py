"""Assembles what a worker submits its handlers' follow-up jobs with: the parts of a Job API, with the limits of the same settings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from time import monotonic

from sickbay.contract.requests import Submission
from sickbay.domain.errors import SickbayError
from sickbay.domain.queries import Accepted
from sickbay.fleet import FleetView
from sickbay.job_types.view import REFRESH_S, JobTypeView
from sickbay.observer import Observer
from sickbay.runtime.door_rules import DoorRules
from sickbay.runtime.parts import WorkerParts
from sickbay.runtime.policies import Policies
from sickbay.runtime.settings import Settings
from sickbay.submission.circuits import Circuits
from sickbay.submission.door import Door
from sickbay.submission.lanes import LaneChoice
from sickbay.submission.names import NameLimits, Names
from sickbay.submission.recent import RecentJobs
from sickbay.submission.submit import JobSubmitter
from sickbay.submission.waiting import WaitingJobs


class FreshTypes:
    """Looks at the job types before a submission, at most once in a while: a worker whose handlers submit nothing asks for nothing."""

    def __init__(self, submitter: JobSubmitter, types: JobTypeView) -> None:
        """`types` are those that `submitter` checks payloads with."""
        self._submitter = submitter
        self._types = types
        self._looked_at = -REFRESH_S

    async def accept(self, submissions: Sequence[Submission]) -> Sequence[Accepted | SickbayError]:
        """See `JobSubmitter.accept`."""
        now = monotonic()
        if now - self._looked_at >= REFRESH_S:
            self._looked_at = now
            await self._types.refresh()
        return await self._submitter.accept(submissions)


@asynccontextmanager
async def open_submitter(
    backends: WorkerParts, settings: Settings, policies: Policies, fleet: FleetView, observer: Observer, *, trace: Callable[[], str]
) -> AsyncIterator[FreshTypes | None]:
    """Until the context ends; None if there is nowhere to keep idempotency keys. `trace` says the context of the run that submits."""
    if backends.keys is None:
        yield None
        return
    rules = DoorRules(policies)
    waiting = WaitingJobs(backends.waiting, backends.clock, lambda: rules.limits_waiting)
    lanes = LaneChoice(fleet)
    types = JobTypeView(backends.job_types, backends.workers)
    submitter = JobSubmitter(
        backends.broker,
        backends.keys,
        RecentJobs(),
        backends.clock,
        names=Names(NameLimits.of(settings)),
        circuits=Circuits(backends.circuits, backends.breaker_scope),
        door=Door(rules, backends.rate_limiter, waiting) if backends.rate_limiter is not None else None,
        lanes=lanes,
        types=types,
        kept_bytes=backends.kept_bytes,
        observer=observer,
        trace=trace,
    )
    async with lanes.detached, submitter.detached, waiting.watched():
        yield FreshTypes(submitter, types)
