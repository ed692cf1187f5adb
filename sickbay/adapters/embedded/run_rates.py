"""Rates of runs in memory, for one process."""

from __future__ import annotations

from collections.abc import Callable

from sickbay.domain import run_rate
from sickbay.domain.rate_limit import Rate
from sickbay.domain.run_rate import Line, RunGrant


class EmbeddedRunRates:
    """Implements `RunRates`; a restart begins with full buckets. There are as many as the settings file has rates."""

    def __init__(self, now: Callable[[], int]) -> None:
        """`now` is a clock in microseconds that never goes back."""
        self._now = now
        self._lines: dict[str, Line] = {}

    async def run(self, job_type: str, rate: Rate, paid_at: int = 0) -> RunGrant:
        """See the port."""
        return self._keep(job_type, run_rate.run(self._line(job_type), rate, self._now(), paid_at))

    async def release(self, job_type: str, rate: Rate, wanted: int, *, waiting: bool) -> RunGrant:
        """See the port."""
        return self._keep(job_type, run_rate.release(self._line(job_type), rate, self._now(), wanted, waiting=waiting))

    async def charge(self, job_type: str, rate: Rate, number: int) -> RunGrant:
        """See the port."""
        return self._keep(job_type, run_rate.charge(self._line(job_type), rate, self._now(), number))

    def _line(self, job_type: str) -> Line:
        return self._lines.get(job_type, Line())

    def _keep(self, job_type: str, after: tuple[Line, RunGrant]) -> RunGrant:
        self._lines[job_type], grant = after
        return grant
