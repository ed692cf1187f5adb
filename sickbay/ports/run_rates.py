"""The port of rates of runs. The rules of the package apply."""

from __future__ import annotations

from typing import Protocol

from sickbay.domain.rate_limit import Rate
from sickbay.domain.run_rate import RunGrant


class RunRates(Protocol):
    """A bucket for each job type that has a rate, and the line of its parked jobs, shared by the fleet (`domain/run_rate.py`).

    Never more than rate x time + burst are granted in any span of time, whoever asks; what was charged comes on top of that. All methods
    raise Unavailable if the store is; then something may have been taken.
    """

    async def run(self, job_type: str, rate: Rate, paid_at: int = 0) -> RunGrant:
        """A worker wants to run one job: refused if the bucket is empty, or others wait in line.

        `paid_at` (microseconds, by the clock of the store) is when it was released from the line, 0 if it was not.
        """

    async def release(self, job_type: str, rate: Rate, wanted: int, *, waiting: bool) -> RunGrant:
        """Take for as many jobs in line as there is, at most `wanted`. `waiting`: the line goes on, for a few seconds; else it ends."""

    async def charge(self, job_type: str, rate: Rate, number: int) -> RunGrant:
        """So many run in any case, as a probe does: take for them what there is."""
