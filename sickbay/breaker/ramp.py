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

from dataclasses import dataclass
from typing import Final

from sickbay.breaker.replacing import replacer

FIRST_RATE: Final = 10_000
KNOWN_PARTS: Final = 75
"""Per cent of what it served before an outage, which it is taken to serve again."""
LEAST_RATE: Final = 1_000
MOST_RATE: Final = 10_000_000
"""At this rate, ten thousand runs per second, the ramp ends."""
PERMIT: Final = 1_000
LEAST_BURST: Final = 2 * PERMIT
BURST_PARTS: Final = 10
"""Permits are saved up for a tenth of a second."""
LONGEST_FILL_MS: Final = 10_000
DOUBLING_STEP: Final = 1_000
"""What a success adds while the capacity is unknown: the rate doubles in 0.7 s."""
BURST_PARTS_PER_RUN: Final = 4
"""... of runs that take a quarter of a second; of longer ones it grows more slowly."""
CAREFUL_STEP: Final = 400
"""The same after a cut that has not helped, if few failures are borne: then the capacity may have ended the doubling."""
FEW_BORNE: Final = 80
STEP: Final = 20
"""What a success adds near the rate that was too much: 2 % per second. It grows when that has been a while ago."""
STEP_GROWS_AFTER_MS: Final = 8_000
STEP_GROWS_EVERY_MS: Final = 2_000
INTERVAL_MS: Final = 500
INTERVAL_RUNS: Final = 20
LONGEST_INTERVAL_MS: Final = 5_000
"""Outcomes are judged when there have been enough of them for long enough, or after this time."""
FIRST_FAILURES: Final = 2
"""So many failures are enough to stop doubling."""
MORE_FAILURES: Final = 30
"""The same if some failures are borne."""
MORE_RUNS: Final = 100
"""If some failures are borne, so many outcomes are judged: with fewer, chance would decide."""
LEAST_CUT: Final = 200
MOST_CUT: Final = 500
"""Of a rate that was doubling: before, half of it was served. The first few outcomes that tell may all be failures."""
FIRST_SLOW: Final = 10
"""So many slow runs, if they are most of them, are enough to stop doubling."""
DRAINED: Final = 70
"""Per cent of the rate that was served: the rate while what has queued up is worked off."""
STILL_CROWDED: Final = 85
"""Per cent of the rate that remain if most runs are slow even so; at least half of the rate it will return to."""
RETURNED: Final = 97
"""Per cent of the rate that was too much, or is: the rate it doubles up to afterwards."""
SMALL_SHARE: Final = 20
MARGIN: Final = 50
MOST_BORNE: Final = 650
MEASURED_SHARE: Final = 50
"""If no more than this fails while it measures, there is nothing to limit."""
SUCCEEDED: Final = 95
"""Per cent of the rate that succeeded: the rate after a cut."""
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


_with: Final = replacer(Ramp)


def begin(now: int) -> Ramp:
    """The ramp of a breaker that closes now."""
    return Ramp(FIRST_RATE, LEAST_BURST, now, scarce_at=now, since=now)


def measure(now: int) -> Ramp:
    """The ramp of a closed breaker of whose runs a share fails: it lets all in until it has measured how many succeed."""
    return Ramp(MOST_RATE, MOST_RATE // BURST_PARTS, now, scarce_at=now, since=now)


def is_measuring(ramp: Ramp) -> bool:
    """Whether it has no rate yet."""
    return ramp.rate >= MOST_RATE


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
        ramp = _with(ramp, rate=known, permits=available(ramp, now), at=max(now, ramp.at))
    lapsed = max(0, now - ramp.reserved_at) // RESERVED_MS
    held = ramp.reserved >> min(lapsed, MOST_LAPSES)
    granted = min(wanted, max(0, available(ramp, now) // PERMIT - held, min(1, lapsed)))
    if not granted:
        return ramp, 0
    return _with(ramp, reserved=held + granted, reserved_at=ramp.reserved_at if held and not lapsed else now), granted


def take(ramp: Ramp, now: int, *, released: bool = False) -> tuple[Ramp | None, bool]:
    """Ask for a permit, also for a job that was `released`: the next ramp (None if it is over) and whether there was one."""
    left = available(ramp, now)
    scarce_at = now if 2 * left <= _burst(ramp) else ramp.scarce_at
    if left < PERMIT:
        return _refused(ramp, now, released=released), False
    if ramp.borne == 0 and now - max(scarce_at, ramp.reserved_at) >= UNUSED_MS:
        return None, True
    reserved = max(0, ramp.reserved - 1) if released else ramp.reserved
    return _with(ramp, permits=left - PERMIT, at=now, scarce_at=scarce_at, running=ramp.running + 1, reserved=reserved), True


def has_ended(ramp: Ramp, now: int) -> bool:
    """Whether it is over by time alone."""
    return now - max(ramp.at, ramp.scarce_at) >= FORGOTTEN_MS


def succeed(ramp: Ramp, now: int, *, slow: bool = False) -> Ramp | None:
    """A run succeeded. One that took much longer than usual is no reason to grow."""
    if is_measuring(ramp):
        return _judged(_ended(ramp, now, good=ramp.good + 1), now)
    step = _doubling_step(ramp) if ramp.target == 0 or ramp.rate < ramp.target else _step(ramp, now)
    grows = not slow and now - ramp.scarce_at < USED_MS  # a rate that nobody uses has not been tried
    rate = ramp.rate + (step if grows else 0)
    if rate >= MOST_RATE:
        return None
    return _judged(_ended(ramp, now, rate=rate, good=ramp.good + 1, slow=ramp.slow + slow), now)


def fail(ramp: Ramp, now: int) -> Ramp | None:
    """A run failed."""
    return _judged(_ended(ramp, now, bad=ramp.bad + 1), now)


def pass_over(ramp: Ramp, now: int) -> Ramp:
    """A run ended in a way that says nothing about the dependency."""
    return _ended(ramp, now)


def shifted(ramp: Ramp, by: int) -> Ramp:
    """The ramp after the clock was set forward or back by so much."""

    def moved(at: int) -> int:
        return max(1, at + by) if at else 0

    return _with(ramp, **{name: moved(getattr(ramp, name)) for name in ("at", "cut_at", "scarce_at", "since", "reserved_at")})


def _refused(ramp: Ramp, now: int, *, released: bool) -> Ramp:
    held = max(0, ramp.reserved - 1) if released else max(ramp.reserved, min(ramp.reserved + 1, _burst(ramp) // (2 * PERMIT)))
    is_due = now - ramp.scarce_at >= INTERVAL_MS  # a refusal that changes nothing is not written
    return _with(ramp, scarce_at=now if is_due else ramp.scarce_at, reserved=held) if is_due or held != ramp.reserved else ramp


def _ended(ramp: Ramp, now: int, **changes: int) -> Ramp:
    """A run has ended, and this changes by it; permits are counted at the rate until now."""
    return _with(ramp, running=max(0, ramp.running - 1), permits=available(ramp, now), at=max(now, ramp.at), **changes)


def _burst(ramp: Ramp) -> int:
    return max(LEAST_BURST, ramp.rate // BURST_PARTS)


def _doubling_step(ramp: Ramp) -> int:
    # running / rate is how long a run takes: outcomes are as old as that when they come, and the rate must not grow far meanwhile.
    most = CAREFUL_STEP if 0 < ramp.borne < FEW_BORNE else DOUBLING_STEP
    return max(STEP, min(most, ramp.rate // max(1, BURST_PARTS_PER_RUN * ramp.running)))


def _step(ramp: Ramp, now: int) -> int:
    return STEP * (1 + max(0, now - ramp.cut_at - STEP_GROWS_AFTER_MS) // STEP_GROWS_EVERY_MS)


def _measured(ramp: Ramp, now: int) -> Ramp | None:
    """The ramp after measuring: with a rate, once there have been enough outcomes; None if there is nothing to limit."""
    number, lasted = ramp.good + ramp.bad, now - ramp.since
    if lasted < INTERVAL_MS or (number < INTERVAL_RUNS and lasted < LONGEST_INTERVAL_MS):
        return ramp
    share = 1_000 * ramp.bad // number
    if number < INTERVAL_RUNS or share <= MEASURED_SHARE:
        return None
    rate = max(LEAST_RATE, min(MOST_RATE - 1, ramp.good * 10_000 * SUCCEEDED // lasted))
    return Ramp(rate, 0, max(now, ramp.at), target=rate, cut_at=now, scarce_at=now, since=now, share=share)


def _judged(ramp: Ramp, now: int) -> Ramp | None:
    """The ramp after the outcomes of an interval, once there are enough."""
    if is_measuring(ramp):
        return _measured(ramp, now)
    number, lasted = ramp.good + ramp.bad, now - ramp.since
    if _is_crowded(ramp, number, lasted):
        return _drained(ramp, now, lasted)
    bound = max(SMALL_SHARE, ramp.borne)
    share = 1_000 * ramp.bad // number
    enough = FIRST_FAILURES if ramp.borne == 0 else MORE_FAILURES
    doubling = ramp.target == 0 and ramp.bad >= enough and share > bound
    overdue = ramp.borne == 0 and lasted >= LONGEST_INTERVAL_MS
    if not doubling and not overdue and (lasted < INTERVAL_MS or number < (MORE_RUNS if ramp.borne else INTERVAL_RUNS)):
        return ramp
    ramp = _with(ramp, since=now, good=0, bad=0, slow=0)
    if share <= bound:
        return _with(ramp, share=0, borne=ramp.borne if share > SMALL_SHARE else 0)
    if ramp.share and 2 * share >= ramp.share:  # the cut has not helped
        rate = min(MOST_RATE - 1, ramp.rate * 100_000 // ((1_000 - min(ramp.share, 900)) * SUCCEEDED))
        return _with(ramp, rate=rate, target=0, share=0, borne=min(MOST_BORNE, share * 3 // 2 + MARGIN))
    cut = min(MOST_CUT, max(share, LEAST_CUT)) if doubling else share
    rate = max(LEAST_RATE, ramp.rate * (1_000 - min(cut, 900)) * SUCCEEDED // 100_000)
    target = rate
    if ramp.rate < ramp.target:  # while it drains refusals come first, because successes have to queue
        rate = max(rate, ramp.rate // 2)
        target = max(rate, ramp.target // 2)
    return _with(ramp, rate=rate, permits=0, at=max(now, ramp.at), target=target, cut_at=now, running=0, share=0 if doubling else share)


def _is_crowded(ramp: Ramp, number: int, lasted: int) -> bool:
    """Whether most of the runs are slow. If a third or less of them usually is, that does not happen by chance."""
    enough = (number >= INTERVAL_RUNS and lasted >= INTERVAL_MS) or (ramp.target == 0 and ramp.slow >= FIRST_SLOW)
    return enough and 2 * ramp.slow > number


def _drained(ramp: Ramp, now: int, lasted: int) -> Ramp:
    """The ramp at a lower rate, so that what has queued up is worked off, and with the rate to which it will return soon."""
    if ramp.target == 0:
        served = ramp.good * 1_000_000 // lasted if lasted >= INTERVAL_MS else ramp.rate
        target = max(ramp.rate // 2, min(ramp.rate, served)) * SUCCEEDED // 100
        rate = target * DRAINED // 100
    elif 100 * ramp.rate < RETURNED * ramp.target:
        target = ramp.target * RETURNED // 100
        rate = max(target // 2, ramp.rate * STILL_CROWDED // 100)
    else:
        target = ramp.rate * RETURNED // 100
        rate = target * DRAINED // 100
    rate = max(LEAST_RATE, rate)
    return _with(
        ramp, rate=rate, permits=0, at=max(now, ramp.at), target=max(rate, target), cut_at=now, since=now, good=0, bad=0, slow=0, running=0,
        share=0,
    )  # fmt: skip
