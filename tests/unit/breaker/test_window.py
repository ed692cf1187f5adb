"""The policy `rate` by example: when it opens, what does not count, and what the document keeps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sickbay.breaker import machine as breaker
from sickbay.breaker.document import shift_times
from sickbay.breaker.machine import Effect
from sickbay.breaker.window import Bucket
from sickbay.domain.breaker import Action, BreakerState
from sickbay.domain.outcome import SUCCESS, Outcome, OutcomeKind
from tests.support.breaker_driver import BAD_DATA, BROKEN_OFF, DOWN, START, Circuit


def circuit(**more):
    return Circuit(**{"rate": 500, "calls": 10, "slow_ms": 5_000} | more)


def good(number, at=START):
    return (Bucket(at, number, 0),)


def test_half_of_the_runs_open_it_for_exactly_the_cooldown():
    breaker = circuit()
    assert breaker.run(DOWN) is Effect.COUNTED
    assert breaker.run(SUCCESS, 5) is Effect.COUNTED
    assert breaker.run(DOWN, 3) is Effect.COUNTED
    breaker.run(SUCCESS)
    seen = breaker.look()
    assert (seen.recent_runs, seen.recent_failure_rate, seen.failures_in_row) == (10, 0.4, 0)
    assert breaker.run(DOWN) is Effect.COUNTED
    assert breaker.run(replace(DOWN, message="still no answer")) is Effect.TRIPPED
    seen = breaker.look()
    assert (seen.state, seen.opened_at, seen.probe_at, seen.cooldown_ms) == (BreakerState.OPEN, START, START + 60_000, 60_000)
    assert (seen.reason_code, seen.reason_count, seen.reason_message, seen.trips) == ("API_TIMEOUT", 6, "still no answer", 1)
    assert (seen.recent_runs, seen.recent_failure_rate) == (0, None)


def test_too_few_runs_do_not_open_it_however_many_fail():
    breaker = circuit()
    assert breaker.run(DOWN, 9) is Effect.COUNTED
    assert breaker.run(DOWN) is Effect.TRIPPED


def test_a_smaller_share_never_opens_it_whatever_the_row():
    breaker = circuit()
    breaker.settle(breaker.admit(), DOWN, earlier=good(100))
    assert breaker.run(DOWN, 98) is Effect.COUNTED
    assert breaker.run(DOWN) is Effect.TRIPPED


def test_a_good_run_never_opens_it():
    """Not even when it makes them enough."""
    breaker = circuit(calls=4, rate=250)
    breaker.run(DOWN, 2)
    assert breaker.run(SUCCESS, 10) is Effect.COUNTED
    assert breaker.doc.state is BreakerState.CLOSED


def test_slow_runs_are_bad_whatever_they_return():
    breaker = circuit(calls=4)
    assert breaker.run(SUCCESS, took_ms=4_999) is Effect.NOTHING
    for outcome in (SUCCESS, BAD_DATA, DOWN):
        assert breaker.run(outcome, took_ms=5_000) is Effect.COUNTED
    assert breaker.run(SUCCESS, took_ms=6_000) is Effect.TRIPPED
    seen = breaker.look()
    assert (seen.reason_code, seen.reason_count, seen.reason_message) == ("SLOW_CALLS", 4, "a run took 6000 ms")


def test_without_a_limit_no_run_is_slow():
    breaker = circuit(slow_ms=0)
    assert breaker.run(SUCCESS, 20, took_ms=10**9) is Effect.NOTHING


def test_bad_data_is_an_answer_and_a_cancelled_run_is_nothing():
    breaker = circuit()
    breaker.run(DOWN)
    assert breaker.run(BAD_DATA) is Effect.COUNTED
    assert breaker.run(BROKEN_OFF, took_ms=9_000) is Effect.NOTHING
    assert breaker.look().recent_runs == 2


def test_runs_fall_out_of_the_window():
    """With their bucket, which began 2 s before the first of them."""
    breaker = circuit(window_ms=60_000)
    breaker.run(DOWN, 9)
    breaker.now += 57_999
    assert breaker.look().recent_runs == 9
    breaker.now += 1
    assert breaker.look().recent_runs == 0
    assert breaker.doc.is_quiet
    assert breaker.run(DOWN, 9) is Effect.COUNTED
    assert breaker.run(DOWN) is Effect.TRIPPED


def test_good_runs_of_before_still_count_when_the_bad_ones_are_gone():
    breaker = circuit()
    breaker.run(DOWN)
    breaker.now += 30_000
    breaker.run(SUCCESS, 20)
    breaker.now += 30_000
    assert breaker.look().recent_runs == 0
    assert breaker.run(SUCCESS) is Effect.NOTHING
    assert breaker.run(DOWN, 19) is Effect.COUNTED
    assert breaker.run(DOWN) is Effect.TRIPPED


def test_a_rate_limit_opens_at_once():
    breaker = circuit()
    assert breaker.run(Outcome(OutcomeKind.TRANSIENT, "RATE_LIMITED", "slow down", 10_000)) is Effect.TRIPPED
    assert (breaker.doc.cooldown_ms, breaker.doc.reason_count) == (10_000, 1)


def test_after_a_probe_the_window_is_empty_and_the_ramp_looks_at_failures_in_a_row():
    breaker = circuit()
    breaker.run(DOWN, 10)
    assert breaker.settle(breaker.probe(), SUCCESS, earlier=good(50)) is Effect.CLOSED
    assert breaker.doc.calls == ()
    for wait_ms in (100, 1_050, 1_050, 1_050):
        breaker.now += wait_ms
        assert breaker.run(DOWN) is Effect.COUNTED
    assert (breaker.look().failures_in_row, breaker.doc.calls) == (4, ())
    breaker.now += 1_050
    assert breaker.run(DOWN) is Effect.TRIPPED


def test_without_a_ramp_it_begins_with_an_empty_window():
    breaker = circuit(ramp=False)
    breaker.run(DOWN, 10)
    breaker.settle(breaker.probe(), SUCCESS)
    assert breaker.run(DOWN, 9) is Effect.COUNTED
    assert breaker.run(DOWN) is Effect.TRIPPED


def test_metrics_only_tells_when_it_would_have_opened():
    breaker = circuit()
    breaker.command(Action.METRICS_ONLY)
    assert breaker.run(DOWN, 9) is Effect.COUNTED
    assert breaker.run(DOWN) is Effect.WOULD_TRIP
    assert (breaker.look().would_have_tripped, breaker.doc.calls) == (1, ())
    assert breaker.run(DOWN, 20) is Effect.NOTHING
    breaker.now += 60_000
    assert breaker.run(DOWN, 9) is Effect.COUNTED


def test_a_disabled_breaker_counts_nothing():
    breaker = circuit()
    breaker.command(Action.DISABLE)
    assert breaker.run(DOWN, 50) is Effect.NOTHING
    assert breaker.doc.calls == ()


def test_failures_in_a_row_of_before_are_forgotten():
    """The ramp's, or those of the other policy."""
    breaker = Circuit()
    breaker.run(DOWN, 4)
    breaker.config = circuit().config
    assert breaker.run(SUCCESS) is Effect.COUNTED
    assert breaker.doc.is_quiet
    breaker.config = Circuit().config
    breaker.run(DOWN, 4)
    breaker.config = circuit().config
    assert breaker.run(DOWN) is Effect.COUNTED
    assert (breaker.doc.run, breaker.look().recent_runs) == ((), 1)


def test_who_has_another_policy_in_its_settings_leaves_the_window_alone():
    """A control plane without the workers' file looks every second. What nobody uses is gone after the longest window."""
    breaker = circuit(window_ms=300_000)
    breaker.run(DOWN, 9)
    ours, breaker.config = breaker.config, Circuit().config
    breaker.now += 120_000
    before = breaker.doc
    assert (breaker.look().recent_runs, breaker.look().by_rate) == (0, False)
    assert breaker.doc is before
    assert breaker.run(DOWN, 4) is Effect.COUNTED
    breaker.run(SUCCESS)
    breaker.config = ours
    assert breaker.look().recent_runs == 9
    breaker.config = Circuit().config
    breaker.now += 3_480_000
    breaker.look()
    assert breaker.doc.is_quiet


def test_nothing_is_measured_where_a_share_usually_fails():
    breaker = circuit()
    breaker.run(DOWN)
    breaker.run(SUCCESS, share=300)
    assert breaker.doc.ramp is None


def test_reports_of_other_clocks_fall_into_the_buckets_of_this_one():
    breaker = circuit(calls=1_000)
    odd = (Bucket(START - 60_000, 7, 0), Bucket(START - 59_999, 1, 0), Bucket(START - 1, 2, 0), Bucket(START + 900_000, 4, 0))
    breaker.settle(breaker.admit(), DOWN, earlier=odd)
    assert all(bucket.start % 6_000 == 0 and START - 60_000 < bucket.start <= START for bucket in breaker.doc.calls)
    assert sum(bucket.good for bucket in breaker.doc.calls) == 6
    breaker.now += 1
    breaker.settle(breaker.admit(), DOWN, earlier=odd * 50)
    assert len(breaker.doc.calls) <= 11


def test_the_waits_of_a_clock_that_is_set_back_stay_the_same():
    breaker = circuit()
    breaker.run(DOWN, 3)
    breaker.now -= 3_600_000
    assert breaker.look().recent_runs == 3
    breaker.now += 60_000
    assert breaker.look().recent_runs == 0


def test_the_clock_of_the_machine_may_be_set_forward():
    breaker = circuit()
    breaker.run(DOWN, 3)
    breaker.now += 3_600_000
    breaker.doc = shift_times(breaker.doc, 3_600_000, breaker.now)
    assert breaker.look().recent_runs == 3


def test_an_earlier_version_reads_a_bucket_as_a_failure_that_never_opens():
    """It refuses a document with a field that it does not know, so the buckets are in one that it knows."""
    circle = circuit()
    circle.settle(circle.admit(), DOWN, earlier=good(12))
    text = breaker.to_json(circle.doc)
    start = START - START % 6_000
    assert f'"run":"0 {start} 1 CALLS 12/1"' in text
    assert breaker.from_json(text) == circle.doc
    circle.config = Circuit().config
    for junk in ("12", "12/x", "1/2/3"):
        with pytest.raises(ValueError, match=r"."):
            breaker.from_json(text.replace("12/1", junk))
