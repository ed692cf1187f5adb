"""The ramp: the rate at which a breaker that has just closed lets its jobs run, until nobody asks for more.

A dependency that comes back is met by everything that has waited for it. The ramp feels for its capacity, which nobody knows, as TCP does:
the rate grows with every success, doubling at first, and when calls fail it falls to what succeeded. If failures do not get fewer with the
load, they do not come from the load: then they are borne, up to two thirds, and the rate grows on. Calls that queue take longer before
they fail: while most runs are slow, the rate is below what is served, until the queue is gone.

It begins after a probe that succeeded, after a reset, and where a share of the runs of a closed breaker fails: then it first measures how
many of the runs succeed, letting all in, and limits them to as many.

Pure and in whole numbers, because the same arithmetic runs as Lua inside Redis. Times and durations are ms; rates are thousandths of
a run per second, permits thousandths of a run, shares thousandths.
"""

from __future__ import annotations

from typing import Final

from sickbay.breaker.ramp_judging import judged
from sickbay.breaker.ramp_state import INTERVAL_MS, MOST_RATE, Ramp, is_measuring, with_changes

FIRST_RATE: Final = 10_000
KNOWN_PARTS: Final = 75
"""Per cent of what it served before an outage, which it is taken to serve again."""
PERMIT: Final = 1_000
LEAST_BURST: Final = 2 * PERMIT
BURST_PARTS: Final = 10
"""Permits are saved up for a tenth of a second."""
LONGEST_FILL_MS: Final = 10_000
DOUBLING_STEP: Final = 1_000
"""What a success adds while the capacity is unknown: the rate doubles in 0.7 s."""
BURST_PARTS_PER_RUN: Final = 4
"""... of runs that take a quarter of a second; of longer ones it grows more slowly."""
STEP: Final = 20
"""What a success adds near the rate that was too much: 2 % per second. It grows when that has been a while ago."""
STEP_GROWS_AFTER_MS: Final = 8_000
STEP_GROWS_EVERY_MS: Final = 2_000
UNUSED_MS: Final = 5_000
"""If permits have been plentiful and no job has been released for so long, nobody asks for more than the rate: the ramp ends."""
USED_MS: Final = 1_000
"""The rate grows only if permits have been scarce within this time."""
FORGOTTEN_MS: Final = 60_000
"""So it does if there was no run for so long."""
RESERVED_MS: Final = 1_000
"""How long a released job may take to ask for its permit. If new jobs take all permits, one is released this often."""
MOST_LAPSES: Final = 30
CONFIRM_MS: Final = 500
"""For so long failures must be in a row to open the breaker again."""


def begin(now: int) -> Ramp:
    """The ramp of a breaker that closes now."""
    return Ramp(FIRST_RATE, LEAST_BURST, now, scarce_at=now, since=now)


def measure(now: int) -> Ramp:
    """The ramp of a closed breaker of whose runs a share fails: it lets all in until it has measured how many succeed."""
    return Ramp(MOST_RATE, MOST_RATE // BURST_PARTS, now, scarce_at=now, since=now)


def available(ramp: Ramp, now: int) -> int:
    """The permits at this time, in thousandths."""
    saved = ramp.permits + ramp.rate * min(max(0, now - ramp.at), LONGEST_FILL_MS) // 1_000
    return min(_burst(ramp), saved)


def reserve(ramp: Ramp, now: int, wanted: int, arrivals: int = 0) -> tuple[Ramp, int]:
    """How many of the jobs that wait may be released now: permits that are left over, and that nobody else has reserved.

    `arrivals` is how many came while the breaker was open, in thousandths of a job per second: the dependency has served as many before.
    """
    known = arrivals * KNOWN_PARTS // 100
    if ramp.rate < known < MOST_RATE and ramp.cut_at == ramp.bad == ramp.borne == 0:
        ramp = with_changes(ramp, rate=known, permits=available(ramp, now), at=max(now, ramp.at))
    lapsed = max(0, now - ramp.reserved_at) // RESERVED_MS
    held = ramp.reserved >> min(lapsed, MOST_LAPSES)
    granted = min(wanted, max(0, available(ramp, now) // PERMIT - held, min(1, lapsed)))
    if not granted:
        return ramp, 0
    return with_changes(ramp, reserved=held + granted, reserved_at=ramp.reserved_at if held and not lapsed else now), granted


def take(ramp: Ramp, now: int, *, released: bool = False) -> tuple[Ramp | None, bool]:
    """Ask for a permit, also for a job that was `released`: the next ramp (None if it is over) and whether there was one."""
    left = available(ramp, now)
    scarce_at = now if 2 * left <= _burst(ramp) else ramp.scarce_at
    if left < PERMIT:
        return _refused(ramp, now, released=released), False
    if ramp.borne == 0 and now - max(scarce_at, ramp.reserved_at) >= UNUSED_MS:
        return None, True
    reserved = max(0, ramp.reserved - 1) if released else ramp.reserved
    return with_changes(ramp, permits=left - PERMIT, at=now, scarce_at=scarce_at, running=ramp.running + 1, reserved=reserved), True


def has_ended(ramp: Ramp, now: int) -> bool:
    """Whether it is over by time alone."""
    return now - max(ramp.at, ramp.scarce_at) >= FORGOTTEN_MS


def succeed(ramp: Ramp, now: int, *, slow: bool = False) -> Ramp | None:
    """A run succeeded. One that took much longer than usual is no reason to grow."""
    if is_measuring(ramp):
        return judged(_ended(ramp, now, good=ramp.good + 1), now)
    step = _doubling_step(ramp) if ramp.target == 0 or ramp.rate < ramp.target else _step(ramp, now)
    is_tested = ramp.share > 0 and ramp.borne == 0  # whether a cut helps is seen at the rate that it led to
    grows = not slow and not is_tested and now - ramp.scarce_at < USED_MS  # a rate that nobody uses has not been tried
    rate = ramp.rate + (step if grows else 0)
    if rate >= MOST_RATE:
        return None
    return judged(_ended(ramp, now, rate=rate, good=ramp.good + 1, slow=ramp.slow + slow), now)


def fail(ramp: Ramp, now: int) -> Ramp | None:
    """A run failed."""
    return judged(_ended(ramp, now, bad=ramp.bad + 1), now)


def pass_over(ramp: Ramp, now: int) -> Ramp:
    """A run ended in a way that says nothing about the dependency."""
    return _ended(ramp, now)


def shifted(ramp: Ramp, by: int) -> Ramp:
    """The ramp after the clock was set forward or back by so much."""

    def moved(at: int) -> int:
        return max(1, at + by) if at else 0

    return with_changes(ramp, **{name: moved(getattr(ramp, name)) for name in ("at", "cut_at", "scarce_at", "since", "reserved_at")})


def _refused(ramp: Ramp, now: int, *, released: bool) -> Ramp:
    held = max(0, ramp.reserved - 1) if released else max(ramp.reserved, min(ramp.reserved + 1, _burst(ramp) // (2 * PERMIT)))
    is_due = now - ramp.scarce_at >= INTERVAL_MS  # a refusal that changes nothing is not written
    return with_changes(ramp, scarce_at=now if is_due else ramp.scarce_at, reserved=held) if is_due or held != ramp.reserved else ramp


def _ended(ramp: Ramp, now: int, **changes: int) -> Ramp:
    """A run has ended, and this changes by it; permits are counted at the rate until now."""
    return with_changes(ramp, running=max(0, ramp.running - 1), permits=available(ramp, now), at=max(now, ramp.at), **changes)


def _burst(ramp: Ramp) -> int:
    return max(LEAST_BURST, ramp.rate // BURST_PARTS)


def _doubling_step(ramp: Ramp) -> int:
    # running / rate is how long a run takes: outcomes are as old as that when they come, and the rate must not grow far meanwhile.
    return max(STEP, min(DOUBLING_STEP, ramp.rate // max(1, BURST_PARTS_PER_RUN * ramp.running)))


def _step(ramp: Ramp, now: int) -> int:
    return STEP * (1 + max(0, now - ramp.cut_at - STEP_GROWS_AFTER_MS) // STEP_GROWS_EVERY_MS)
