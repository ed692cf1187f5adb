"""What a ramp remembers; see `ramp.py`.

Times and durations are ms; rates are thousandths of a run per second, permits thousandths of a run, shares thousandths.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sickbay.breaker.replacing import replacer

MOST_RATE: Final = 10_000_000
"""At this rate, ten thousand runs per second, the ramp ends."""
INTERVAL_MS: Final = 500


@dataclass(frozen=True, slots=True)
class Ramp:
    """`permits` are those at the time `at`; the others describe how the rate was found.

    A cut begins a new epoch of the breaker, so outcomes of runs that were let in before do not count for what came after.
    """

    rate: int
    permits: int
    at: int
    target: int = 0
    """The rate up to which it doubles; 0 if nothing was too much yet."""
    cut_at: int = 0
    scarce_at: int = 0
    """When permits were last scarce."""
    since: int = 0
    """Outcomes are counted from here on: `good` and `bad` ones."""
    good: int = 0
    bad: int = 0
    running: int = 0
    """Runs of this epoch without an outcome yet."""
    share: int = 0
    """The share of failures that led to the last cut, until it is known whether it helped."""
    borne: int = 0
    """The share of failures that does not depend on the rate."""
    reserved: int = 0
    """Permits that are not offered to jobs that wait: for jobs that were released and have not asked yet, and one for each new job that
    found none, up to half of those that can be saved up. Every RESERVED_MS from `reserved_at` on half are forgotten: some jobs never ask,
    because a worker's own view refuses them, or because they were cancelled.
    """
    reserved_at: int = 0
    """When the first of them was released, or when half were forgotten."""
    slow: int = 0
    """How many of the good runs took much longer than usual."""


with_changes: Final = replacer(Ramp)


def is_measuring(ramp: Ramp) -> bool:
    """Whether it has no rate yet."""
    return ramp.rate >= MOST_RATE
