"""The rate of runs of a job type, for the whole fleet: a token bucket, and the line of jobs that wait for it. Pure, in whole numbers.

Each run takes one from the bucket of its type. A job that finds it empty is parked, and from then on there is a line: new jobs are parked
behind those that wait, so that the order stays about that of submission. The control plane takes for the jobs in line, and sends them with
the time of their payment; a payment is good for one run that begins within VALID_US. The line ends when the control plane says so, or by
itself if nobody renews it, so that without a control plane new jobs still run, at the rate.
`adapters/redis/lua/run_rate.lua` is the twin of this module; both are tested against each other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from sickbay.domain.job import JobEvent, JobState, Reason
from sickbay.domain.rate_limit import Bucket, Claim, Frequency, Level, Rate, take

VALID_US: Final = 10_000_000
"""A released job that began no run for longer pays anew: what piled up while workers hung does not run all at once."""
FORMED_US: Final = 2_000_000
"""How long a line lasts that a worker began: until the control plane has learnt of the parked job."""
HELD_US: Final = 5_000_000
"""How long a line lasts that the control plane renews."""
OVER_RATE: Final = "RATE_OF_RUNS"
"""The code of jobs that were parked for it. RATE_LIMITED is what dependencies say of themselves."""
_BUCKET: Final = "run"


@dataclass(frozen=True, slots=True)
class Line:
    """A job type's bucket (None: full), and until when new jobs are parked behind others; all times in microseconds."""

    level: Level | None = None
    until: int = 0


@dataclass(frozen=True, slots=True)
class RunGrant:
    """How many runs were granted `at` a time; if there are no more, in how many microseconds there is one."""

    granted: int
    wait_us: int = 0
    at: int = 0


def default_burst(frequency: Frequency) -> int:
    """Half a second's worth, at least one: the control plane takes a few times per second, and must not lose what it comes late for."""
    return max(1, frequency.count * 500 // frequency.period_ms)


def in_ledger_alone(event: JobEvent) -> bool:
    """Whether a job is set aside without a copy in `jobs.quarantine`: it waits for the rate of its type."""
    return event.reason is Reason.RATE_LIMITED and event.state is JobState.PARKED


def run(line: Line, rate: Rate, now: int, paid_at: int = 0) -> tuple[Line, RunGrant]:
    """A worker wants to run one job, which the control plane has paid for at `paid_at`, or nobody (0)."""
    if paid_at and abs(now - paid_at) <= VALID_US:
        return line, RunGrant(1, 0, now)
    if not paid_at and line.until > now:
        return line, RunGrant(0, line.until - now, now)
    after, grant = _taken(line, rate, now, 1)
    if not grant.granted:
        after = replace(after, until=max(after.until, now + FORMED_US))
    return after, grant


def release(line: Line, rate: Rate, now: int, wanted: int, *, waiting: bool) -> tuple[Line, RunGrant]:
    """The control plane takes for so many jobs in line; `waiting`: the line goes on."""
    after, grant = _taken(line, rate, now, wanted)
    return replace(after, until=now + HELD_US if waiting else 0), grant


def charge(line: Line, rate: Rate, now: int, number: int) -> tuple[Line, RunGrant]:
    """So many run in any case: they take what there is."""
    after, grant = _taken(line, rate, now, number)
    return after, replace(grant, granted=number)


def _taken(line: Line, rate: Rate, now: int, wanted: int) -> tuple[Line, RunGrant]:
    levels = {} if line.level is None else {_BUCKET: line.level}
    bucket = Bucket(_BUCKET, rate)
    after, (grant,) = take(levels, [Claim((bucket,), wanted)], now)
    level = after[_BUCKET]
    lacking = level.debt + rate.period_us - rate.burst * rate.period_us
    return replace(line, level=level), RunGrant(grant.granted, max(0, -(-lacking // rate.frequency.count)), now)
