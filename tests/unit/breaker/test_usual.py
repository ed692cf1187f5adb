"""What share of the runs usually fails, and what that means for a row of failures."""

from __future__ import annotations

from dataclasses import replace
from math import log
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sickbay.breaker.trip_rule import needed
from sickbay.breaker.usual import MAX_BREAKERS, UsualFailures
from sickbay.domain.breaker import BreakerKey, Permit, PermitKind
from sickbay.domain.outcome import SUCCESS
from tests.support.breaker_driver import BAD_DATA, BROKEN_OFF, DOWN

PERMIT = Permit(BreakerKey("email"), PermitKind.NORMAL, 1, "job")


class Runs:
    """Runs of one breaker on a clock of their own."""

    def __init__(self):
        self.usual, self.now, self.readings = UsualFailures(), 0, 0

    def clock(self):
        self.readings += 1
        return self.now

    def record(self, outcome, permit=PERMIT, times=1):
        for _ in range(times):
            self.usual.record(permit, outcome, self.clock)
        return self.usual.share(permit.key)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.8])
def test_it_finds_the_share(share):
    runs, chance = Runs(), Random(7)
    seen = [runs.record(DOWN if chance.random() < share else SUCCESS) for _ in range(3_000)]
    late = seen[500:]
    assert sum(late) / len(late) / 1_000 == pytest.approx(share, abs=0.06)


def test_healthy_runs_cost_nothing_and_are_not_remembered():
    runs = Runs()
    assert runs.record(SUCCESS, times=100) == 0
    assert runs.record(BAD_DATA, times=100) == 0
    assert runs.record(BROKEN_OFF) == 0
    assert runs.readings == 0
    runs.record(DOWN)
    runs.record(SUCCESS, times=300)
    before = runs.readings
    runs.record(SUCCESS)
    assert runs.readings == before


def test_few_runs_say_nothing():
    """So the first failures in a row open the breaker as documented."""
    runs = Runs()
    assert runs.record(DOWN, times=4) == 0
    assert runs.record(SUCCESS) == 0
    assert runs.record(DOWN, times=4) == 0
    assert runs.record(SUCCESS, times=9) == 0
    assert runs.record(DOWN) == 0
    assert runs.record(SUCCESS) > 100


def test_a_row_of_failures_counts_once_it_has_ended():
    """An outage must not make itself usual."""
    runs = Runs()
    for _ in range(40):
        runs.record(DOWN)
        usual = runs.record(SUCCESS, times=3)
    assert runs.record(DOWN, times=50) == usual
    assert runs.record(SUCCESS) > usual


def test_a_row_that_opened_the_breaker_never_counts():
    runs = Runs()
    for _ in range(40):
        runs.record(DOWN)
        usual = runs.record(SUCCESS, times=3)
    runs.record(DOWN, times=50)
    runs.record(DOWN, replace(PERMIT, token="probe"), times=50)
    assert runs.record(SUCCESS, replace(PERMIT, epoch=2)) < usual


def test_runs_before_a_long_pause_are_forgotten():
    runs = Runs()
    for _ in range(40):
        runs.record(DOWN)
        runs.record(SUCCESS)
    runs.now += 60_001
    assert runs.record(DOWN) == 0


def test_breakers_are_apart_and_bounded():
    runs = Runs()
    for number in range(MAX_BREAKERS + 50):
        for outcome in (DOWN, SUCCESS) * 10:
            runs.record(outcome, replace(PERMIT, key=BreakerKey(f"type-{number}")))
    shares = [runs.usual.share(BreakerKey(f"type-{number}")) for number in range(MAX_BREAKERS + 50)]
    assert shares.count(0) == 50
    assert len(set(shares[50:])) == 1


@given(st.integers(1, 1_000), st.integers(0, 1_000))
def test_more_failures_are_needed_the_more_usual_they_are(threshold, share):
    number = needed(threshold, share)
    assert number >= threshold
    assert number == threshold or 50 <= share < 650
    if share < 600:
        assert needed(threshold, share + 50) >= number
    if 50 <= share < 650:  # by chance about as unlikely as the threshold of failures of which each is one in seventeen
        assert number * log(share / 1_000) <= threshold * log(0.06)
