"""The trip rule of the breaker: failures of one error code in a row, from more than one job, in a bounded time.

Pure. A run is the failures since the last success, of all codes together, in the order of their sequence numbers. A success removes
the failures up to the last one that its reporter knew (its watermark), so a late, repeated or reordered success removes no later failure.

Where a share of the runs fails all the time, a few failures in a row come by chance: then more are needed (`needed`).
"""

from __future__ import annotations

from typing import Final

from sickbay.breaker.packed_run import CountedFailure
from sickbay.domain.breaker import BreakerConfig
from sickbay.domain.job import is_code

MAX_CODES: Final = 64
OTHER: Final = "OTHER"
SHARE_STEP: Final = 50
MORE_NEEDED: Final = (10, 13, 15, 18, 21, 24, 27, 31, 36, 41, 48, 56, 66)
"""Tenths of the threshold, by the usual share of failures in steps of SHARE_STEP: so many in a row are as unlikely everywhere."""

Run = tuple[CountedFailure, ...]


def after_watermark(run: Run, watermark: int) -> Run:
    """The failures that came after the watermark."""
    return tuple(failed for failed in run if failed.seq > watermark)


def within_window(run: Run, window_ms: int, now: int) -> Run:
    """The failures no older than the window."""
    return tuple(failed for failed in run if now - failed.at <= window_ms)


def fold_code(run: Run, code: str) -> str:
    """The code to count under: OTHER beyond 64 codes, so that the document stays small."""
    if not is_code(code):
        return OTHER
    codes = {failed.code for failed in run}
    return code if code in codes or len(codes - {OTHER}) < MAX_CODES else OTHER


def add_failure(run: Run, code: str, keep: int, *, seq: int, at: int, job: str) -> Run:
    """The run with one more failure.

    Of each code the first and the last `keep` are kept: the first gives the age of the run, and the others are still enough to open
    the breaker when a late success removes the first.
    """
    mine = _of_code(run, code)
    number = mine[-1].number + 1 if mine else 1
    if len(mine) > keep:
        run = tuple(failed for failed in run if failed is not mine[1])
    return (*run, CountedFailure(seq, at, number, code, job))


def count(run: Run, code: str) -> int:
    """How many failures of the code are in the run, including those left out between kept ones."""
    mine = _of_code(run, code)
    return mine[-1].number - mine[0].number + 1 if mine else 0


def most_frequent(run: Run) -> tuple[str, int]:
    """The code with the most failures and their number; the first of equals, `("", 0)` if there are none."""
    if len(run) <= 1:
        return (run[0].code, 1) if run else ("", 0)
    first: dict[str, int] = {}
    counts = {failed.code: failed.number - first.setdefault(failed.code, failed.number) + 1 for failed in run}
    return max(counts.items(), key=lambda item: item[1], default=("", 0))


def needed(threshold: int, share: int) -> int:
    """How many failures in a row open the breaker if usually this share of the runs fails (thousandths, 0 if unknown).

    The threshold itself below 5 % and from 65 % on: a dependency that fails so often is as good as down.
    """
    step = share // SHARE_STEP
    return -(-threshold * MORE_NEEDED[step] // 10) if step < len(MORE_NEEDED) else threshold


def should_trip(run: Run, code: str, config: BreakerConfig, now: int, *, confirm_ms: int, share: int) -> bool:
    """Whether the failures of `code` are enough to open the breaker, and the first of them is that old."""
    mine = _of_code(run, code)
    if not mine or count(run, code) < needed(config.failure_threshold, share):
        return False
    # A threshold below `distinct_jobs` could otherwise never be met.
    enough = min(config.distinct_jobs, config.failure_threshold)
    return len({failed.job for failed in mine}) >= enough and now - mine[0].at >= confirm_ms


def _of_code(run: Run, code: str) -> Run:
    return tuple(failed for failed in run if failed.code == code)
