"""When a circuit opens: the trip rule by example, and what keeps out of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sickbay.breaker.machine import Effect
from sickbay.domain.breaker import Action, BreakerState
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


def asks(retry_after_ms, code="RATE_LIMITED"):
    return Outcome(OutcomeKind.TRANSIENT, code, "slow down", retry_after_ms)


@pytest.mark.parametrize("code", ["RATE_LIMITED", "HTTP_429"])
def test_a_rate_limit_that_says_until_when_opens_at_once_and_for_just_so_long(code):
    breaker = Circuit()
    assert breaker.run(asks(10_000, code)) is Effect.TRIPPED
    for wait in (10_000, 3_000, 10_000):
        assert breaker.settle(breaker.probe(), asks(wait, code), jitter=1000) is Effect.REOPENED
        assert breaker.doc.probe_at == breaker.now + wait
    seen = breaker.look()
    assert (seen.reason_code, seen.reason_count, seen.cooldown_ms) == (code, 4, 10_000)


def test_a_rate_limit_without_a_time_counts_like_any_failure():
    breaker = Circuit()
    assert breaker.run(Outcome(OutcomeKind.TRANSIENT, "RATE_LIMITED"), 4) is Effect.COUNTED
    assert breaker.run(Outcome(OutcomeKind.TRANSIENT, "RATE_LIMITED")) is Effect.TRIPPED
    assert breaker.doc.cooldown_ms == 60_000


def test_another_failure_opens_at_the_threshold_and_for_as_long_as_the_dependency_asks():
    breaker = Circuit()
    assert breaker.run(asks(300_000, "SERVICE_UNAVAILABLE"), 4) is Effect.COUNTED
    assert breaker.run(asks(300_000, "SERVICE_UNAVAILABLE")) is Effect.TRIPPED
    assert breaker.doc.probe_at == breaker.now + 300_000
    breaker.settle(breaker.probe(), asks(1_000, "SERVICE_UNAVAILABLE"))
    assert breaker.doc.probe_at == breaker.now + 60_000


def test_nobody_is_waited_for_longer_than_an_hour():
    breaker = Circuit()
    breaker.run(asks(86_400_000))
    assert breaker.doc.cooldown_ms == 3_600_000


def test_a_rate_limit_only_watched_would_have_opened():
    breaker = Circuit()
    breaker.command(Action.METRICS_ONLY)
    assert breaker.run(asks(10_000)) is Effect.WOULD_TRIP
    assert breaker.run(asks(10_000)) is Effect.NOTHING
    breaker.now += 10_000
    assert breaker.run(asks(10_000)) is Effect.WOULD_TRIP


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


def test_more_failures_in_a_row_are_needed_where_they_are_usual():
    """With three of ten runs failing, five in a row come by chance every few minutes."""
    breaker = Circuit()
    for _ in range(13):
        assert breaker.run(DOWN, share=300) is Effect.COUNTED
    assert breaker.run(DOWN, share=300) is Effect.TRIPPED


def test_a_dependency_that_mostly_fails_is_as_good_as_down():
    breaker = Circuit()
    assert breaker.run(DOWN, 4, share=800) is Effect.COUNTED
    assert breaker.run(DOWN, share=800) is Effect.TRIPPED


def test_a_closed_breaker_of_whose_runs_a_share_fails_limits_them_to_what_succeeds():
    breaker = Circuit()
    breaker.run(DOWN, share=250)
    breaker.run(SUCCESS, share=250)
    assert not breaker.look().recovering, "it measures, and lets all in"
    for number in range(26):
        breaker.run(SUCCESS if number % 4 else DOWN, share=250)
        breaker.now += 20
    seen = breaker.look()
    assert (seen.state, seen.recovering) == (BreakerState.CLOSED, True)
    assert seen.rate == pytest.approx(0.75 * 50 * 0.95, rel=0.1)


@pytest.mark.parametrize(
    ("share", "ramp", "action"), [(99, True, None), (250, False, None), (250, True, Action.METRICS_ONLY), (250, True, Action.DISABLE)]
)
def test_it_limits_nothing_where_few_fail_or_it_only_watches(share, ramp, action):
    breaker = Circuit(ramp=ramp)
    if action is not None:
        breaker.command(action)
    breaker.run(DOWN, share=share)
    breaker.run(SUCCESS, share=share)
    assert breaker.doc.ramp is None
