"""The ramp on simulated dependencies whose capacity it does not know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sickbay.breaker import ramp as ramps
from sickbay.breaker.ramp_judging import LEAST_RATE, MOST_BORNE
from sickbay.breaker.ramp_state import MOST_RATE, Ramp
from tests.support.breaker_ramp_simulation import Dependency, Recovery, together


@pytest.mark.parametrize(("capacity", "load", "backlog"), [(90, 60, 1_200), (30, 20, 300), (300, 100, 4_000), (90, 0, 1_000)])
def test_a_backlog_comes_back_at_the_dependencys_own_pace(capacity: int, load: int, backlog: int):
    """At most 1.2 times what it can do in any second (and the permits saved up), 1 % refused, four fifths of the spare capacity used."""
    seen = Recovery(Dependency(capacity), load=load, backlog=backlog, lasts_s=90)
    assert seen.peak <= 1.2 * capacity + 3
    assert seen.refused_share <= 0.01
    assert seen.drained_s is not None
    assert seen.drained_s <= (backlog + seen.fresh_parked) / (0.8 * (capacity - load))
    assert (seen.ended_s is not None) == (load > 0)


@pytest.mark.parametrize("capacity", [100, 110, 120, 130, 150, 180])
@pytest.mark.parametrize("arrivals", [0, 60_000])
def test_no_capacity_meets_a_cut_that_is_too_deep(capacity: int, arrivals: int):
    """Whenever the first outcomes of an interval happen to fail, at most half of the rate goes."""
    seen = Recovery(Dependency(capacity), load=60, backlog=1_200, lasts_s=60, arrivals=arrivals)
    assert seen.fresh_parked <= 120
    assert seen.drained_s is not None
    assert seen.drained_s <= 1_200 / (0.65 * (capacity - 60))


@pytest.mark.parametrize("capacity", [75, 90, 300])
def test_it_begins_near_what_came_before_the_outage(capacity: int):
    """So a third as many new jobs are parked behind the backlog."""
    blind = Recovery(Dependency(capacity), load=60, backlog=1_200, lasts_s=30)
    seen = Recovery(Dependency(capacity), load=60, backlog=1_200, lasts_s=30, arrivals=60_000)
    assert seen.fresh_parked <= blind.fresh_parked / 2
    assert seen.refused_share <= 0.02
    assert seen.peak <= 1.2 * capacity + 3


def test_a_dependency_that_comes_back_weaker_is_felt_for_all_the_same():
    seen = Recovery(Dependency(30), load=60, backlog=600, lasts_s=60, arrivals=60_000)
    assert seen.refused_share <= 0.02
    assert seen.counts["ok"] >= 0.9 * 30 * 60


@pytest.mark.parametrize("healers", [1, 3])
def test_healers_share_what_is_left_over(healers: int):
    """A job that is released and parked again costs a round through the broker and the ledger."""
    seen = Recovery(Dependency(90), load=60, backlog=1_200, lasts_s=60, healers=healers)
    assert seen.drained_s is not None
    assert seen.released_in_vain <= 24


def test_new_jobs_do_not_starve_those_that_wait():
    seen = Recovery(Dependency(20), load=60, backlog=50, lasts_s=60)
    assert seen.released >= 55


def test_a_fast_dependency_gets_ten_thousand_jobs_in_seconds():
    seen = Recovery(Dependency(2_000), load=60, backlog=10_000, lasts_s=20)
    assert seen.drained_s is not None
    assert seen.drained_s < 12
    assert seen.refused_share <= 0.02


def test_an_overloaded_dependency_gets_what_it_can_serve():
    """Three quarters of the load, for as long as that lasts."""
    seen = Recovery(Dependency(45), load=60, backlog=0, lasts_s=120)
    assert seen.counts["ok"] >= 0.95 * 45 * 120
    assert seen.refused_share <= 0.02
    assert seen.ended_s is None


@pytest.mark.parametrize("capacity", [15, 30, 45, 54])
def test_a_closed_breaker_limits_an_overload_without_opening(capacity: int):
    """It measures for half a second what succeeds, and lets in as much."""
    seen = Recovery(Dependency(capacity), load=60, backlog=0, lasts_s=120, measures=True)
    assert seen.counts["ok"] >= 0.93 * capacity * 120
    assert seen.refused_share <= 0.04
    assert seen.ended_s is None


@pytest.mark.parametrize(("share", "most_parked"), [(0.0, 0), (0.04, 240), (0.1, 120), (0.3, 240), (0.5, 480)])
def test_errors_that_do_not_come_from_the_load_limit_nothing_for_long(share: float, most_parked: int):
    """A cut that does not help is taken back, and the errors are borne from then on."""
    seen = Recovery(Dependency(400, share=share), load=60, backlog=0, lasts_s=120, measures=True)
    assert seen.counts["ok"] >= 0.95 * (1 - share) * 60 * 115
    assert seen.fresh_parked <= most_parked
    assert (seen.ended_s is not None) if share == 0 else (seen.ended_s is None or share < 0.1)


@pytest.mark.parametrize("every_ms", [20, 600])
def test_one_failure_alone_cuts_nothing(every_ms: int):
    """It is chance, however few outcomes there are."""
    ramp = ramps.fail(Ramp(20_000, 0, 0, target=20_000, cut_at=1, since=1), 1)
    for number in range(1, 150):
        assert ramp is not None
        assert ramp.rate >= 20_000
        ramp = ramps.succeed(ramp, 1 + number * every_ms)


@pytest.mark.parametrize("number", [2, 3])
def test_breakers_that_feel_for_one_capacity_do_not_mislead_each_other(number: int):
    """What others send is no reason to bear failures: at first each took the others' load for errors that do not come from the load."""
    chance = Random(7)
    seen = [together(Dependency(90, 0.02), number, chance, load=60, backlog=1_200, lasts_s=60) for _ in range(6)]
    assert all(one.peak <= 1.5 * 90 for one in seen)
    assert all(one.refused <= 0.05 * one.calls for one in seen)
    assert sum(one.refused for one in seen) <= 0.02 * sum(one.calls for one in seen)


@pytest.mark.parametrize("run_s", [0.3, 1.0])
def test_slow_runs_are_waited_for(run_s: float):
    """The outcome of what was let in comes late, so the rate grows more slowly."""
    seen = Recovery(Dependency(90, run_s), load=60, backlog=600, lasts_s=90)
    assert seen.peak <= 1.5 * 90
    assert seen.refused_share <= 0.03
    assert seen.drained_s is not None


@pytest.mark.parametrize(("share", "least"), [(0.02, 0.97), (0.1, 0.95), (0.3, 0.9)])
def test_errors_that_do_not_come_from_the_load_do_not_strangle(share: float, least: float):
    seen = Recovery(Dependency(400, share=share), load=60, backlog=0, lasts_s=120)
    assert seen.counts["ok"] >= least * 60 * 115  # the last wait for their retries


def both(dependency: Callable[[], Dependency], usual_s: float, **more: Any) -> tuple[Recovery, Recovery]:
    """With what is usual unknown, so that slow runs are no sign, and known."""
    return Recovery(dependency(), **more), Recovery(dependency(), usual_s=usual_s, **more)


@pytest.mark.parametrize("arrivals", [0, 60_000])
@pytest.mark.parametrize(("run_s", "queue_s", "timeout_s"), [(0.02, 2, 60), (0.02, 60, 5), (0.3, 2, 60)])
def test_a_dependency_at_which_calls_queue_is_not_filled_until_it_refuses(run_s: float, queue_s: float, timeout_s: float, arrivals: int):
    """Runs take longer before any fails, so hardly any does, and what waits is back much sooner."""
    blind, seen = both(
        lambda: Dependency(90, run_s, queue_s=queue_s, timeout_s=timeout_s), run_s, load=60, backlog=1_200, lasts_s=90, arrivals=arrivals
    )
    assert blind.refused_share > max(0.02, 3 * seen.refused_share)
    assert seen.refused_share <= 0.01
    assert seen.drained_s is not None
    assert seen.drained_s <= (1_200 + seen.fresh_parked) / (0.85 * 30)
    assert seen.counts["ok"] >= blind.counts["ok"]


@pytest.mark.parametrize("timeout_s", [60, 5])
def test_an_overloaded_dependency_at_which_calls_queue_gets_what_it_can_serve(timeout_s: float):
    blind, seen = both(lambda: Dependency(45, 0.02, queue_s=2, timeout_s=timeout_s), 0.02, load=60, backlog=0, lasts_s=120)
    assert blind.refused_share > 0.15
    assert seen.refused_share <= 0.02
    assert seen.counts["ok"] >= 0.95 * 45 * 120 >= blind.counts["ok"]


@pytest.mark.no_cover  # many examples; shorter tests cover the same
@given(
    st.integers(20, 200),
    st.sampled_from([0.005, 0.02, 0.1, 0.3]),
    st.floats(1, 10),
    st.floats(0.3, 0.9),
    st.sampled_from([0, 1]),
)
@settings(max_examples=20, derandomize=True, deadline=None)
def test_slow_runs_are_a_sign_wherever_calls_queue(capacity: int, run_s: float, queue_s: float, load: float, known: int):
    """Whatever it can do and however many calls it lets wait: few are refused, or no more than without, and as many succeed."""
    load = capacity * load
    blind, seen = both(
        lambda: Dependency(capacity, run_s, queue_s=queue_s),
        run_s,
        load=load,
        backlog=10 * capacity,
        lasts_s=30,
        arrivals=int(1_000 * load * known),
    )
    assert seen.refused_share <= max(0.03, blind.refused_share + 0.02)
    assert seen.counts["ok"] >= 0.9 * blind.counts["ok"]


@pytest.mark.parametrize(("run_s", "spread"), [(1.0, 1.5), (0.3, 2.0)])
def test_runs_that_differ_wildly_are_no_sign(run_s: float, spread: float):
    blind, seen = both(lambda: Dependency(400, run_s, queue_s=2, spread=spread), 2 * run_s, load=60, backlog=3_000, lasts_s=90)
    assert blind.drained_s is not None
    assert seen.drained_s is not None
    assert seen.drained_s <= 1.15 * blind.drained_s
    assert seen.ended_s is not None


@pytest.mark.parametrize("longer", [5, 10, 40])
def test_a_dependency_that_is_slower_for_good_gets_everything_back_all_the_same(longer: int):
    """It takes longer, because until that is usual it may be a queue; then the rate grows as ever."""
    _, seen = both(lambda: Dependency(400, 0.1 * longer, queue_s=2), 0.1, load=60, backlog=3_000, lasts_s=180)
    assert seen.drained_s is not None
    assert seen.drained_s <= 110
    assert seen.ended_s is not None


def test_without_demand_it_ends():
    """Permits are plentiful for five seconds, or nobody asks for a minute."""
    few = Recovery(Dependency(1_000), load=5, backlog=3, lasts_s=15)
    assert few.ended_s is not None
    ramp = ramps.begin(1_000)
    assert not ramps.has_ended(ramp, 60_999)
    assert ramps.has_ended(ramp, 61_000)


def test_it_goes_on_while_jobs_are_released_slowly_and_its_rate_stays():
    """A healer that is slower than the rate must not end it, nor let the rate grow that nobody has tried."""
    ramp = ramps.begin(0)
    for number in range(200):
        now = 200 * number
        ramp, granted = ramps.reserve(ramp, now, 2)
        for _ in range(granted):
            after, _ = ramps.take(ramp, now + 10, released=True)
            assert after is not None
            after = ramps.succeed(after, now + 20)
            assert after is not None
            ramp = after
    assert 10_000 < ramp.rate < 60_000


def test_released_jobs_that_never_ask_for_their_permits_hold_up_no_others():
    """One of fifty is refused by a worker's own view, was cancelled, or runs elsewhere: its reservation lapses though others follow."""
    ramp, released = Ramp(100_000, 0, 0, target=100_000), []
    for now in range(0, 30_000, 50):
        ramp, granted = ramps.reserve(ramp, now, 100)
        for _ in range(granted):
            released.append(now)
            if len(released) % 50:
                after, _ = ramps.take(ramp, now, released=True)
                assert after is not None
                ramp = after
    late = [now for now in released if now >= 20_000]
    assert len(late) >= 0.8 * 100 * 10


@given(
    st.lists(
        st.tuples(st.sampled_from(["take", "reserve", "succeed", "slow", "slow", "fail", "pass_over"]), st.integers(0, 20_000)),
        max_size=200,
    )
)
def test_its_bounds_hold_whatever_happens(steps: list[tuple[str, int]]):
    """Whole numbers, none negative; the rate within its bounds, permits for a tenth of a second; a refusal is over after a second."""
    ramp, now = ramps.begin(1), 1
    for what, passed in steps:
        now += passed
        if what == "take":
            after, granted = ramps.take(ramp, now)
            assert granted or ramps.take(ramp, now + 1_000)[1]
        elif what == "reserve":
            after, number = ramps.reserve(ramp, now, 10)
            assert 0 <= number <= 10
        elif what == "slow":
            after = ramps.succeed(ramp, now, slow=True)
        else:
            after = getattr(ramps, what)(ramp, now)
        if after is None:
            return
        ramp = after
        assert all(type(value) is int and value >= 0 for value in astuple(ramp))
        assert LEAST_RATE <= ramp.rate <= MOST_RATE
        assert ramp.permits <= max(ramps.LEAST_BURST, ramp.rate)
        assert ramp.borne <= MOST_BORNE
        assert ramp.slow <= ramp.good


@given(st.integers(-(10**6), 10**6))
def test_a_clock_step_moves_all_of_it(by: int):
    ramp = Ramp(5_000, 300, 2 * 10**6, cut_at=0, scarce_at=2 * 10**6 - 5, since=2 * 10**6 - 7)
    moved = ramps.shifted(ramp, by)
    assert (moved.at - ramp.at, moved.scarce_at - ramp.scarce_at, moved.since - ramp.since, moved.cut_at) == (by, by, by, 0)
