"""A runner whose outcomes tell no secrets."""

from __future__ import annotations

from sickbay.domain.breaker import Permit
from sickbay.domain.job import Job
from sickbay.domain.outcome import Outcome
from sickbay.domain.raised import Redact
from sickbay.handlers.registry import HandlerSpec
from sickbay.runtime.redaction import redacted_outcome
from worker.runs import AroundRunner, Runs


class RedactedRunner(AroundRunner):
    """Implements `Runs` around another runner."""

    def __init__(self, runner: Runs, redact: Redact) -> None:
        """Everybody who hears of an outcome hears what `redact` made of it."""
        super().__init__(runner)
        self._redact = redact

    async def run(self, spec: HandlerSpec, job: Job, permit: Permit) -> Outcome:
        """See `Runs.run`."""
        return redacted_outcome(await self._runner.run(spec, job, permit), self._redact)
