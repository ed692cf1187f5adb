"""The policy `rate` of the breaker: what share of the runs of the last minute, or so, failed or was slow.

Pure and in whole numbers, because the same arithmetic runs as Lua inside Redis. Runs are counted in buckets, ten to a window; times and
durations are ms, shares thousandths.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sickbay.domain.breaker import BreakerConfig
from sickbay.domain.outcome import Outcome, OutcomeKind

BUCKETS: Final = 10
MAX_WINDOW_MS: Final = 3_600_000
SLOW_CALLS: Final = "SLOW_CALLS"
"""The code of a breaker that opened at a run which was slow, but did not fail."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """The runs that ended in a tenth of the window, which begins at `start`."""

    start: int
    good: int
    bad: int


Calls = tuple[Bucket, ...]
"""Buckets, the oldest first."""


def is_bad(outcome: Outcome, took_ms: int, config: BreakerConfig) -> bool:
    """Whether the run counts as bad: it failed in a way that counts, or took too long. A cancelled one counts as nothing."""
    if outcome.kind is OutcomeKind.CANCELLED:
        return False
    return outcome.kind.is_breaker_failure or 0 < config.slow_ms <= took_ms


def one(now: int, *, bad: bool) -> Bucket:
    """A single run that ended now."""
    return Bucket(now, int(not bad), int(bad))


def merged(calls: Iterable[Bucket], config: BreakerConfig, now: int) -> Calls:
    """All these runs in the buckets of the window that ends now; what began before it falls out.

    Those who report may have another clock, or another window in their settings: the buckets are always those of this one.
    """
    width = max(1, config.window_ms // BUCKETS)
    found: dict[int, tuple[int, int]] = {}
    for bucket in calls:
        at = min(bucket.start, now)
        start = at - at % width
        if now - start < config.window_ms:
            good, bad = found.get(start, (0, 0))
            found[start] = good + bucket.good, bad + bucket.bad
    return tuple(Bucket(start, *found[start]) for start in sorted(found))


def recent(calls: Calls, config: BreakerConfig, now: int) -> Calls:
    """What of it is in the window now.

    One that has another policy in its settings leaves it alone: a control plane without the workers' file looks every second.
    """
    if config.rate:
        return merged(calls, config, now)
    return tuple(bucket for bucket in calls if now - bucket.start < MAX_WINDOW_MS)


def has_bad(calls: Calls) -> bool:
    """Whether any of the runs was bad."""
    return any(bucket.bad for bucket in calls)


def totals(calls: Calls) -> tuple[int, int]:
    """How many runs there were, and how many of them were bad."""
    bad = sum(bucket.bad for bucket in calls)
    return bad + sum(bucket.good for bucket in calls), bad


def is_reached(calls: Calls, config: BreakerConfig) -> bool:
    """Whether there are enough runs, and enough of them bad, to open the breaker."""
    runs, bad = totals(calls)
    return runs >= config.calls and 1_000 * bad >= config.rate * runs
