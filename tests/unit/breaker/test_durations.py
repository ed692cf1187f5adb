"""How long a run usually takes, from the runs of this process."""

from __future__ import annotations

from random import Random

import pytest

from sickbay.breaker.durations import MAX_BREAKERS, UsualDurations
from sickbay.domain.breaker import BreakerKey, Permit, PermitKind
from sickbay.domain.outcome import SUCCESS, Outcome, OutcomeKind

KEY = BreakerKey("email")
NORMAL = Permit(KEY, PermitKind.NORMAL, 1, "job")


def learned(*took_ms):
    durations = UsualDurations()
    for took in took_ms:
        durations.record(NORMAL, SUCCESS, took)
    return durations


def test_nothing_is_known_before_the_first_success():
    durations = UsualDurations()
    durations.record(NORMAL, Outcome(OutcomeKind.SYSTEMIC, "API_TIMEOUT"), 5_000)
    durations.record(NORMAL, Outcome(OutcomeKind.DATA, "VALIDATION_ERROR"), 5)
    durations.record(Permit(KEY, PermitKind.PROBE, 1, "job", "token"), SUCCESS, 700)
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


def test_a_new_usual_duration_is_learned_even_if_it_is_much_longer():
    assert learned(*[10] * 100, *[3_000] * 200).usual_ms(KEY) > 2_500


def test_names_are_bounded():
    durations = UsualDurations()
    for number in range(MAX_BREAKERS + 1):
        durations.record(Permit(BreakerKey("email", f"tenant-{number}"), PermitKind.NORMAL, 1, "job"), SUCCESS, 50)
    assert durations.usual_ms(BreakerKey("email", "tenant-0")) == 0
    assert durations.usual_ms(BreakerKey("email", f"tenant-{MAX_BREAKERS}")) == 50
    durations.record(Permit(BreakerKey("email", "tenant-1"), PermitKind.NORMAL, 1, "job"), SUCCESS, 50)
    assert durations.usual_ms(BreakerKey("email", "tenant-2")) == 50, "one that is known takes nobody's place"
