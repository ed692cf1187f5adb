"""How long a run usually takes, from the runs of this process."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sickbay.breaker.durations import MAX_BREAKERS, SAMPLE_MS, WEIGHT, UsualDurations, is_slow
from sickbay.domain.breaker import BreakerKey, Permit, PermitKind
from sickbay.domain.outcome import SUCCESS, Outcome, OutcomeKind

KEY = BreakerKey("email")
NORMAL = Permit(KEY, PermitKind.NORMAL, 1, "job")


def learned(*took_ms, every_ms=SAMPLE_MS):
    durations = UsualDurations()
    for number, took in enumerate(took_ms):
        durations.record(NORMAL, SUCCESS, took, lambda number=number: number * every_ms)
    return durations


def test_nothing_is_known_before_the_first_success():
    durations = UsualDurations()
    for permit, outcome in (
        (NORMAL, Outcome(OutcomeKind.SYSTEMIC, "API_TIMEOUT")),
        (NORMAL, Outcome(OutcomeKind.DATA, "VALIDATION_ERROR")),
        (Permit(KEY, PermitKind.PROBE, 1, "job", "token"), SUCCESS),
    ):
        durations.record(permit, outcome, 700, lambda: 0)
    assert durations.usual_ms(KEY) == 0
    assert learned(700).usual_ms(KEY) == 700
    assert learned(0).usual_ms(KEY) == 1, "it is known"


@pytest.mark.parametrize("usual", [1, 20, 300, 8_000])
def test_the_average_is_found_whatever_came_first(usual):
    for first in (0, 1, 60_000):
        assert 0.8 * usual <= learned(first, *[usual] * 200).usual_ms(KEY) <= max(1.3 * usual, usual + 1)


def test_rare_long_runs_weigh_little():
    """One in twenty takes a hundred times as long: the mean would be six times the usual duration."""
    rng = Random(7)
    durations = learned(*(10_000 if rng.random() < 0.05 else 100 for _ in range(2_000)))
    assert 100 <= durations.usual_ms(KEY) <= 160


@pytest.mark.parametrize("longer", [5, 10, 40])
def test_what_has_become_longer_is_accepted_within_a_minute_and_a_half_and_not_within_ten_seconds(longer):
    for seconds, is_accepted in ((10, False), (90, True)):
        took = [100] * WEIGHT + [100 * longer] * (seconds * 50)
        assert is_slow(100 * longer, learned(*took, every_ms=20).usual_ms(KEY)) is not is_accepted


@given(st.lists(st.sampled_from([5, 50, 500, 5_000, 50_000]), min_size=1, max_size=6), st.integers(0, 100))
@settings(max_examples=40, derandomize=True, deadline=None)
def test_however_wild_durations_are_most_runs_are_not_slow(mixture, seed):
    """A law of averages: if more than a third took three times the average, it would be higher. So they never stop a ramp."""
    rng, durations, slow = Random(seed), UsualDurations(), 0
    for number in range(6_000):
        took = rng.choice(mixture)
        if number >= 2_000:
            slow += is_slow(took, durations.usual_ms(KEY))
        durations.record(NORMAL, SUCCESS, took, lambda number=number: number * SAMPLE_MS)
    assert slow <= 0.45 * 4_000


def test_a_run_is_slow_if_it_takes_three_times_as_long_and_a_quarter_of_a_second_more():
    assert not is_slow(10**6, 0), "it is not known"
    assert not is_slow(259, 10)
    assert is_slow(260, 10)
    assert not is_slow(2_999, 1_000)
    assert is_slow(3_000, 1_000)


def test_a_clock_that_is_set_back_does_not_stop_it():
    durations = learned(*[100] * 50)
    for _ in range(20):
        durations.record(NORMAL, SUCCESS, 1_000, lambda: -(10**9))
    assert durations.usual_ms(KEY) > 100


def test_names_are_bounded():
    durations = UsualDurations()
    for number in range(MAX_BREAKERS + 1):
        durations.record(Permit(BreakerKey("email", f"tenant-{number}"), PermitKind.NORMAL, 1, "job"), SUCCESS, 50, lambda: 0)
    assert durations.usual_ms(BreakerKey("email", "tenant-0")) == 0
    assert durations.usual_ms(BreakerKey("email", f"tenant-{MAX_BREAKERS}")) == 50
    durations.record(Permit(BreakerKey("email", "tenant-1"), PermitKind.NORMAL, 1, "job"), SUCCESS, 50, lambda: 0)
    assert durations.usual_ms(BreakerKey("email", "tenant-2")) == 50, "one that is known takes nobody's place"
