"""A runner that tells of its runs, and makes the job known to every log line that its handler writes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import perf_counter

from sickbay.domain.breaker import Permit
from sickbay.domain.job import Job
from sickbay.domain.outcome import Outcome
from sickbay.handlers.registry import HandlerSpec
from sickbay.telemetry.logs import RUNNING
from worker.runs import AroundRunner, Runs

log = logging.getLogger(__name__)

Ran = Callable[[Job, Permit, Outcome, float], None]
"""Hears of a run that has ended: job, permit, outcome, and how many seconds it took."""


class WatchedRunner(AroundRunner):
    """Implements `Runs` around another runner. Each job has a task of its own, so its context is set and never reset."""

    def __init__(self, runner: Runs, ran: Ran) -> None:
        """What only looks on keeps no job from being settled: a `ran` that raises is logged."""
        super().__init__(runner)
        self._ran = ran

    async def run(self, spec: HandlerSpec, job: Job, permit: Permit) -> Outcome:
        """See `Runs.run`."""
        RUNNING.set(job)
        began = perf_counter()
        outcome = await self._runner.run(spec, job, permit)
        try:
            self._ran(job, permit, outcome, perf_counter() - began)
        except Exception:
            log.exception("a hook of the runner failed")
        return outcome
