"""Judges the outcomes of an interval of a ramp: whether the rate was too much, and what becomes of it then.

Failures may come from the load, or they may not; and several breakers may feel for the capacity of one dependency, each knowing only its
own runs. So a cut is a question. The rate stays as it is until enough outcomes have come, and the other breakers have had the time to cut
theirs. If then about as much fails as before, the failures do not come from the load, and are borne.

Units as in `ramp_state.py`.
"""

from __future__ import annotations

from typing import Final

from sickbay.breaker.ramp_state import INTERVAL_MS, MOST_RATE, Ramp, is_measuring, with_changes

LEAST_RATE: Final = 1_000
INTERVAL_RUNS: Final = 20
LONGEST_INTERVAL_MS: Final = 5_000
"""Outcomes are judged when there have been enough of them for long enough, or after this time."""
FIRST_FAILURES: Final = 2
"""So many failures are enough to stop doubling; one alone is chance, and cuts nothing."""
MORE_FAILURES: Final = 30
"""The same if some failures are borne."""
MORE_RUNS: Final = 100
"""If some failures are borne, so many outcomes are judged: with fewer, chance would decide."""
TELLING_FAILURES: Final = 6
"""So many failures after a cut tell whether it has helped,"""
PATIENT_MS: Final = 2_000
"""... and so much time: until then other breakers of the same dependency have cut their rates as well."""
OBVIOUS_SHARE: Final = 400
"""If as much fails, nobody waits for that."""
FEW_BORNE: Final = 150
"""A smaller share may be what remains where several breakers feel for one capacity: it is borne, but the rate does not double for it."""
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


def judged(ramp: Ramp, now: int) -> Ramp | None:
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
    if (not doubling and not _is_due(ramp, number, lasted)) or (share > bound and _is_open(ramp, share, lasted)):
        return ramp
    is_chance = ramp.share == ramp.borne == 0 and ramp.bad < FIRST_FAILURES
    ramp = with_changes(ramp, since=now, good=0, bad=0, slow=0)
    if share <= bound or is_chance:
        return with_changes(ramp, share=0, borne=ramp.borne if share > SMALL_SHARE else 0)
    if ramp.share and (share < FEW_BORNE or _has_not_helped(ramp, share)):
        return _borne(ramp, share)
    return _cut(ramp, now, share, doubling=doubling)


def _is_due(ramp: Ramp, number: int, lasted: int) -> bool:
    if ramp.borne:
        return lasted >= INTERVAL_MS and number >= MORE_RUNS
    return lasted >= LONGEST_INTERVAL_MS or (lasted >= INTERVAL_MS and number >= INTERVAL_RUNS)


def _borne(ramp: Ramp, share: int) -> Ramp:
    """The ramp at the rate of before the cut. A small share may still come from the load of others, so the rate does not double for it."""
    rate = min(MOST_RATE - 1, ramp.rate * 100_000 // ((1_000 - min(ramp.share, 900)) * SUCCEEDED))
    if share < FEW_BORNE:
        return with_changes(ramp, rate=rate, target=rate, share=0, borne=2 * share)
    return with_changes(ramp, rate=rate, target=0, share=0, borne=min(MOST_BORNE, share * 3 // 2 + MARGIN))


def _cut(ramp: Ramp, now: int, share: int, *, doubling: bool) -> Ramp:
    """The ramp at a lower rate; after a cut that ended the doubling it is not asked whether it has helped, since too little is known."""
    cut = min(MOST_CUT, max(share, LEAST_CUT)) if doubling else share
    rate = max(LEAST_RATE, ramp.rate * (1_000 - min(cut, 900)) * SUCCEEDED // 100_000)
    target = rate
    if ramp.rate < ramp.target:  # while it drains refusals come first, because successes have to queue
        rate = max(rate, ramp.rate // 2)
        target = max(rate, ramp.target // 2)
    return with_changes(
        ramp, rate=rate, permits=0, at=max(now, ramp.at), target=target, cut_at=now, running=0, share=0 if doubling else share
    )


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


def _is_open(ramp: Ramp, share: int, lasted: int) -> bool:
    """Whether too little is known: if the last cut has helped, or if a first failure is more than chance."""
    if ramp.borne:
        return False
    if ramp.share == 0:
        return ramp.bad < FIRST_FAILURES and ramp.good + ramp.bad < MORE_RUNS and lasted < LONGEST_INTERVAL_MS
    return ramp.bad < TELLING_FAILURES or (lasted < PATIENT_MS and share <= min(2 * ramp.share, OBVIOUS_SHARE))


def _has_not_helped(ramp: Ramp, share: int) -> bool:
    """Whether as much fails as before the cut. If much more does, others have sent more, and the failures come from the load."""
    return 2 * share >= ramp.share and (ramp.borne > 0 or share <= 2 * ramp.share)


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
    return with_changes(
        ramp, rate=rate, permits=0, at=max(now, ramp.at), target=max(rate, target), cut_at=now, since=now, good=0, bad=0, slow=0, running=0,
        share=0,
    )  # fmt: skip
