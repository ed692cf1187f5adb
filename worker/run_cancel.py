"""Cancels runs: at once when the worker stops, or with a grace when somebody asked to cancel their job."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Collection
from typing import Final

from sickbay.domain.run_context import context_of
from worker.elsewhere import Stop
from worker.off_loop import OffLoop
from worker.run import CANCELLED, Run

CANCEL_GRACE_S: Final = 5.0

GraceOf = Callable[[str, float | None], float]
"""The grace in force for a job type whose handler says this itself, in seconds."""


class RunCancel:
    """Cancels runs wherever they run. Belongs to the worker's loop."""

    def __init__(
        self,
        running: Collection[Run],
        off_loop: OffLoop,
        later: Callable[[float, Callable[[], None]], asyncio.TimerHandle],
        grace_of: GraceOf | None = None,
    ) -> None:
        """`running` are the runs of the worker, `off_loop` has those in threads and elsewhere, `later` is `call_later` of its loop.

        Without `grace_of` the grace is what the handler says, else CANCEL_GRACE_S.
        """
        self._running = running
        self._off_loop = off_loop
        self._later = later
        self._grace_of: GraceOf = grace_of or (lambda _, own: CANCEL_GRACE_S if own is None else own)

    def cancel(self, run: Run) -> None:
        """Cancel it at once. Its outcome is CANCELLED, unless it has one; what cannot be stopped goes on without it."""
        run.cancelled = True
        if run.on_loop is not None:
            run.on_loop.cancel(run)
        elif run.call is not None:
            self._off_loop.stop_elsewhere(run, run.call, Stop.STOPPING)
        else:
            self._off_loop.abandon(run, CANCELLED)

    def ask(self, job_id: str) -> None:
        """Tell the handler of this job to end, and after its grace cancel it if it can be stopped.

        A run that has an outcome keeps it.
        """
        for run in [run for run in self._running if run.job.job_id == job_id and not run.is_to_end]:
            run.is_to_end = run.outcome is None and not run.expired
            if (context := context_of(run.job)) is not None:
                context.cancel()
            if run.call is not None and run.is_to_end:
                run.call.ask_to_end()
            self._later(self._grace_of(run.spec.job_type, run.spec.cancel_grace), functools.partial(self._end_grace, run))

    def _end_grace(self, run: Run) -> None:
        run.grace_over = True
        if run not in self._running or run.outcome is not None:
            return
        if run.on_loop is not None:
            self.cancel(run)
        elif run.call is not None:
            self._off_loop.stop_elsewhere(run, run.call, Stop.CANCELLED)
