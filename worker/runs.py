"""What the engine needs of a runner, and the base of what wraps one."""

from __future__ import annotations

from typing import Protocol

from sickbay.domain.breaker import Permit
from sickbay.domain.job import Job
from sickbay.domain.outcome import Outcome
from sickbay.handlers.registry import HandlerSpec


class Runs(Protocol):
    """What the engine needs of a runner."""

    def timeout_of(self, spec: HandlerSpec) -> float:
        """Seconds that a run of this handler may take."""

    def is_exhausted(self, spec: HandlerSpec) -> bool:
        """Whether so many runs of this type outlived their timeout here that no further one may begin."""

    async def run(self, spec: HandlerSpec, job: Job, permit: Permit) -> Outcome:
        """Run a handler once. Raises only Unavailable, if the system gives no thread for it."""

    def break_off(self) -> None:
        """Cancel what still runs, and every later run at once."""


class AroundRunner:
    """Implements `Runs` around another runner, all but `run`."""

    def __init__(self, runner: Runs) -> None:
        """`runner` does the work."""
        self._runner = runner

    def timeout_of(self, spec: HandlerSpec) -> float:
        """See `Runs.timeout_of`."""
        return self._runner.timeout_of(spec)

    def is_exhausted(self, spec: HandlerSpec) -> bool:
        """See `Runs.is_exhausted`."""
        return self._runner.is_exhausted(spec)

    def break_off(self) -> None:
        """See `Runs.break_off`."""
        self._runner.break_off()
