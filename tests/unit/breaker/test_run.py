"""When a circuit opens: the trip rule by example, and what keeps out of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sickbay.breaker.machine import Effect
from sickbay.domain.breaker import BreakerState
from sickbay.domain.outcome import SUCCESS, Outcome, OutcomeKind
from tests.support.breaker_driver import BAD_DATA, BROKEN_OFF, DOWN, START, Circuit


def test_the_fifth_failure_opens_for_exactly_the_cooldown():
    breaker = Circuit()
    assert breaker.run(DOWN, 4) is Effect.COUNTED
    assert breaker.look().failures_in_row == 4
    assert breaker.run(replace(DOWN, message="still no answer")) is Effect.TRIPPED
    seen = breaker.look()
    assert (seen.state, seen.opened_at, seen.probe_at, seen.cooldown_ms) == (BreakerState.OPEN, START, START + 60_000, 60_000)
    assert (seen.reason_code, seen.reason_count, seen.reason_message, seen.trips) == ("API_TIMEOUT", 5, "still no answer", 1)


def test_jitter_does_not_touch_the_first_cooldown():
    breaker = Circuit()
    breaker.run(DOWN, 4)
    assert breaker.settle(breaker.admit(), DOWN, jitter=1000) is Effect.TRIPPED
    assert breaker.doc.cooldown_ms == 60_000


def test_a_success_in_between_starts_the_count_again():
    breaker = Circuit()
    breaker.run(DOWN, 4)
    assert breaker.run(SUCCESS) is Effect.RESET
    assert breaker.run(DOWN, 4) is Effect.COUNTED


def test_codes_are_counted_apart_and_do_not_interrupt_each_other():
    breaker = Circuit()
    other = Outcome(OutcomeKind.TRANSIENT, "NETWORK_ERROR")
    for _ in range(4):
        assert breaker.run(DOWN) is Effect.COUNTED
        assert breaker.run(other) is Effect.COUNTED
    assert breaker.run(other) is Effect.TRIPPED
    assert breaker.doc.reason_code == "NETWORK_ERROR"


def test_one_poison_job_alone_cannot_open():
    breaker = Circuit()
    assert breaker.run(DOWN, 50, job="poison") is Effect.COUNTED
    assert breaker.look().failures_in_row == 50
    assert breaker.run(DOWN, job="another") is Effect.TRIPPED
    assert breaker.doc.reason_count == 51


def test_a_threshold_of_one_trips_at_the_first_failure():
    assert Circuit(failure_threshold=1).run(DOWN) is Effect.TRIPPED


@pytest.mark.parametrize(("late_ms", "effect"), [(0, Effect.TRIPPED), (1, Effect.COUNTED)])
def test_the_run_lies_within_the_window(late_ms, effect):
    breaker = Circuit()
    breaker.run(DOWN)
    breaker.now += 599_999
    breaker.run(DOWN, 3)
    breaker.now += 1 + late_ms
    assert breaker.run(DOWN) is effect


def test_a_run_older_than_the_window_is_not_shown():
    breaker = Circuit()
    breaker.run(DOWN, 3)
    breaker.now += 600_001
    assert breaker.look().failures_in_row == 0


def test_a_run_must_have_its_age_to_be_trusted():
    breaker = Circuit(trip_confirm_ms=50)
    assert breaker.run(DOWN, 500) is Effect.COUNTED
    breaker.now += 49
    assert breaker.run(DOWN) is Effect.COUNTED
    breaker.now += 1
    assert breaker.run(DOWN) is Effect.TRIPPED
    assert breaker.doc.reason_count == 502


@pytest.mark.parametrize("outcome", [BAD_DATA, BROKEN_OFF])
def test_blameless_outcomes_neither_count_nor_reset(outcome):
    breaker = Circuit()
    breaker.run(DOWN, 4)
    before = breaker.doc
    assert breaker.run(outcome, 20) is Effect.NOTHING
    assert breaker.doc is before
    assert breaker.run(DOWN) is Effect.TRIPPED


def test_the_healthy_path_never_rewrites_the_document():
    breaker = Circuit()
    before = breaker.doc
    breaker.run(SUCCESS, 10)
    assert breaker.doc is before


def test_a_late_success_removes_only_failures_up_to_its_watermark():
    breaker = Circuit()
    breaker.run(DOWN, 2)
    permit = breaker.admit()
    known = breaker.doc.seq
    breaker.run(DOWN, 2)
    assert breaker.settle(permit, SUCCESS, watermark=known) is Effect.RESET
    assert breaker.look().failures_in_row == 2
    again = breaker.doc
    assert breaker.settle(permit, SUCCESS, watermark=known) is Effect.NOTHING
    assert breaker.doc is again


def test_a_late_success_after_a_very_long_run_leaves_enough_to_trip():
    breaker = Circuit(trip_confirm_ms=50)
    permit = breaker.admit()
    breaker.run(DOWN)
    known = breaker.doc.seq
    breaker.run(DOWN, 100)
    breaker.settle(permit, SUCCESS, watermark=known)
    assert breaker.look().failures_in_row >= 5
    breaker.now += 50
    assert breaker.run(DOWN) is Effect.TRIPPED


def test_retry_after_is_the_least_cooldown_up_to_the_cap():
    breaker = Circuit()
    breaker.run(Outcome(OutcomeKind.TRANSIENT, "RATE_LIMITED"), 4)
    breaker.run(Outcome(OutcomeKind.TRANSIENT, "RATE_LIMITED", retry_after_ms=300_000))
    assert breaker.doc.cooldown_ms == 300_000
    breaker.settle(breaker.probe(), Outcome(OutcomeKind.TRANSIENT, "RATE_LIMITED", retry_after_ms=86_400_000))
    assert breaker.doc.cooldown_ms == 900_000


def test_beyond_64_codes_the_rest_is_other():
    breaker = Circuit()
    for number in range(64):
        breaker.run(Outcome(OutcomeKind.UNKNOWN, f"CODE_{number}"))
    for number in range(64, 68):
        assert breaker.run(Outcome(OutcomeKind.UNKNOWN, f"CODE_{number}")) is Effect.COUNTED
    assert breaker.look().failures_in_row_code == "OTHER"
    assert breaker.run(Outcome(OutcomeKind.UNKNOWN, "CODE_0")) is Effect.COUNTED
    assert breaker.run(Outcome(OutcomeKind.UNKNOWN, "not a code")) is Effect.TRIPPED
    assert breaker.doc.reason_code == "OTHER"
