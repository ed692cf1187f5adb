"""A runner that tells of its runs, and makes the job known to every log line that its handler writes."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

from sickbay.circuit import Permit
from sickbay.job import Job
from sickbay.outcome import Outcome
from sickbay.sdk import HandlerSpec
from sickbay.telemetry.logs import RUNNING
from worker.runner import AroundRunner, Runs

Ran = Callable[[Job, Permit, Outcome, float], None]
"""Hears of a run that has ended: job, permit, outcome, and how many seconds it took."""


class WatchedRunner(AroundRunner):
    """Implements `Runs` around another runner. Each job has a task of its own, so its context is set and never reset."""

    def __init__(self, runner: Runs, ran: Ran) -> None:
        """`ran` must not raise."""
        super().__init__(runner)
        self._ran = ran

    async def run(self, spec: HandlerSpec, job: Job, permit: Permit) -> Outcome:
        """See `Runs.run`."""
        RUNNING.set(job)
        began = perf_counter()
        outcome = await self._runner.run(spec, job, permit)
        self._ran(job, permit, outcome, perf_counter() - began)
        return outcome
