"""The trip rule of the breaker: failures of one error code in a row, from more than one job, in a bounded time.

Pure. A run is the failures since the last success, of all codes together, in the order of their sequence numbers. A success ends
the run up to the last failure it can have known (its watermark), so a late, repeated or reordered success removes no later failure.
"""

from __future__ import annotations

from typing import Final

from sickbay.breaker.document import Failed
from sickbay.domain.breaker import BreakerConfig
from sickbay.domain.job import is_code

MAX_CODES: Final = 64
OTHER: Final = "OTHER"

Run = tuple[Failed, ...]


def above(run: Run, watermark: int) -> Run:
    """The failures that came after the watermark."""
    return tuple(failed for failed in run if failed.seq > watermark)


def within(run: Run, window_ms: int, now: int) -> Run:
    """The failures no older than the window."""
    return tuple(failed for failed in run if now - failed.at <= window_ms)


def folded(run: Run, code: str) -> str:
    """The code to count under: the rest is OTHER beyond 64 codes, so no dependency can bloat the document."""
    if not is_code(code):
        return OTHER
    codes = {failed.code for failed in run}
    return code if code in codes or len(codes - {OTHER}) < MAX_CODES else OTHER


def added(run: Run, code: str, keep: int, *, seq: int, at: int, job: str) -> Run:
    """The run with one more failure.

    Of each code the first and the last `keep` are kept: the first tells the age of the run, and the others are still enough to open
    the circuit when a late success takes the first away.
    """
    mine = _of(run, code)
    number = mine[-1].number + 1 if mine else 1
    if len(mine) > keep:
        run = tuple(failed for failed in run if failed is not mine[1])
    return (*run, Failed(seq, at, number, code, job))


def count(run: Run, code: str) -> int:
    """How many failures of the code are in the run, those between kept ones included."""
    mine = _of(run, code)
    return mine[-1].number - mine[0].number + 1 if mine else 0


def longest(run: Run) -> tuple[str, int]:
    """The code with most failures and how many; the one reached first if there are several, `("", 0)` if there are none."""
    first: dict[str, int] = {}
    counts = {failed.code: failed.number - first.setdefault(failed.code, failed.number) + 1 for failed in run}
    return max(counts.items(), key=lambda item: item[1], default=("", 0))


def is_complete(run: Run, code: str, config: BreakerConfig, now: int) -> bool:
    """Whether the failures of `code` are evidence enough to open the circuit."""
    mine = _of(run, code)
    if not mine or count(run, code) < config.failure_threshold:
        return False
    # A threshold below the number of jobs asked for could never be met at the failure it names.
    enough = min(config.distinct_jobs, config.failure_threshold)
    return len({failed.job for failed in mine}) >= enough and now - mine[0].at >= config.trip_confirm_ms


def _of(run: Run, code: str) -> Run:
    return tuple(failed for failed in run if failed.code == code)
