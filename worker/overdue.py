"""Counts the handlers that still run after their timeout, because they cannot be stopped: with too many of them no more may start."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Final

from sickbay.handlers.registry import HandlerSpec
from worker.run import Run

MIN_LOST: Final = 4

log = logging.getLogger(__name__)


class Overdue:
    """The overdue handlers of one worker, by job type and by function. Belongs to the worker's loop."""

    def __init__(self, concurrency: int) -> None:
        """Half of `concurrency` (at least MIN_LOST) overdue runs of a handler are too many."""
        self._most = max(MIN_LOST, concurrency // 2)
        self._by_type: Counter[str] = Counter()
        self._by_function: Counter[int] = Counter()
        """By its id, of which there is no other meanwhile: the run has it. A function that has replaced it, mended perhaps, starts."""

    @property
    def total(self) -> int:
        """The number of all."""
        return self._by_type.total()

    def of(self, job_type: str) -> int:
        """The number of those of one job type."""
        return self._by_type[job_type]

    def is_exhausted(self, spec: HandlerSpec) -> bool:
        """Whether there are so many of this handler that no further run of it may begin."""
        return self._by_function[id(spec.function)] >= self._most

    def add(self, run: Run) -> None:
        """The run has an outcome, and its handler goes on, unless it has just ended. Each run counts once."""
        if run.overdue or run.ended:
            return
        run.overdue = True
        self._by_type[run.spec.job_type] += 1
        self._by_function[id(run.spec.function)] += 1
        if not run.cancelled:
            self._warn(run)

    def remove(self, run: Run) -> None:
        """Its handler has ended; nothing happens if it was not overdue."""
        if run.overdue:
            run.overdue = False
            self._by_type[run.spec.job_type] -= 1
            self._by_function[id(run.spec.function)] -= 1

    def _warn(self, run: Run) -> None:
        kind = "on the handlers' loop" if run.on_loop else "in its thread"
        number = self._by_function[id(run.spec.function)]
        log.warning(
            "the handler of %s still runs %s after its timeout of %g s; %d of this type do, and with %d no more start in this worker",
            run.spec.job_type, kind, run.seconds, number, self._most,
            extra={"job_id": run.job.job_id},
        )  # fmt: skip
