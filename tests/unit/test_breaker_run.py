"""When a circuit opens: the trip rule by example, and what keeps out of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sickbay.breaker.machine import Effect
from sickbay.domain.breaker import CircuitState
from sickbay.domain.outcome import SUCCESS, Kind, Outcome
from tests.unit.breaker_circuit import BAD_DATA, BROKEN_OFF, DOWN, START, Circuit


def test_the_fifth_failure_opens_for_exactly_the_cooldown():
    circuit = Circuit()
    assert circuit.run(DOWN, 4) is Effect.COUNTED
    assert circuit.look().failures_in_row == 4
    assert circuit.run(replace(DOWN, message="still no answer")) is Effect.TRIPPED
    seen = circuit.look()
    assert (seen.state, seen.opened_at, seen.probe_at, seen.cooldown_ms) == (CircuitState.OPEN, START, START + 60_000, 60_000)
    assert (seen.reason_code, seen.reason_count, seen.reason_message, seen.trips) == ("API_TIMEOUT", 5, "still no answer", 1)


def test_jitter_does_not_touch_the_first_cooldown():
    circuit = Circuit()
    circuit.run(DOWN, 4)
    assert circuit.settle(circuit.admit(), DOWN, jitter=1000) is Effect.TRIPPED
    assert circuit.doc.cooldown_ms == 60_000


def test_a_success_in_between_starts_the_count_again():
    circuit = Circuit()
    circuit.run(DOWN, 4)
    assert circuit.run(SUCCESS) is Effect.RESET
    assert circuit.run(DOWN, 4) is Effect.COUNTED


def test_codes_are_counted_apart_and_do_not_interrupt_each_other():
    circuit = Circuit()
    other = Outcome(Kind.TRANSIENT, "NETWORK_ERROR")
    for _ in range(4):
        assert circuit.run(DOWN) is Effect.COUNTED
        assert circuit.run(other) is Effect.COUNTED
    assert circuit.run(other) is Effect.TRIPPED
    assert circuit.doc.reason_code == "NETWORK_ERROR"


def test_one_poison_job_alone_cannot_open():
    circuit = Circuit()
    assert circuit.run(DOWN, 50, job="poison") is Effect.COUNTED
    assert circuit.look().failures_in_row == 50
    assert circuit.run(DOWN, job="another") is Effect.TRIPPED
    assert circuit.doc.reason_count == 51


def test_a_threshold_of_one_trips_at_the_first_failure():
    assert Circuit(failure_threshold=1).run(DOWN) is Effect.TRIPPED


@pytest.mark.parametrize(("late_ms", "effect"), [(0, Effect.TRIPPED), (1, Effect.COUNTED)])
def test_the_run_lies_within_the_window(late_ms, effect):
    circuit = Circuit()
    circuit.run(DOWN)
    circuit.now += 599_999
    circuit.run(DOWN, 3)
    circuit.now += 1 + late_ms
    assert circuit.run(DOWN) is effect


def test_a_run_older_than_the_window_is_not_shown():
    circuit = Circuit()
    circuit.run(DOWN, 3)
    circuit.now += 600_001
    assert circuit.look().failures_in_row == 0


def test_a_run_must_have_its_age_to_be_trusted():
    circuit = Circuit(trip_confirm_ms=50)
    assert circuit.run(DOWN, 500) is Effect.COUNTED
    circuit.now += 49
    assert circuit.run(DOWN) is Effect.COUNTED
    circuit.now += 1
    assert circuit.run(DOWN) is Effect.TRIPPED
    assert circuit.doc.reason_count == 502


@pytest.mark.parametrize("outcome", [BAD_DATA, BROKEN_OFF])
def test_blameless_outcomes_neither_count_nor_reset(outcome):
    circuit = Circuit()
    circuit.run(DOWN, 4)
    before = circuit.doc
    assert circuit.run(outcome, 20) is Effect.NOTHING
    assert circuit.doc is before
    assert circuit.run(DOWN) is Effect.TRIPPED


def test_the_healthy_path_never_rewrites_the_document():
    circuit = Circuit()
    before = circuit.doc
    circuit.run(SUCCESS, 10)
    assert circuit.doc is before


def test_a_late_success_removes_only_failures_up_to_its_watermark():
    circuit = Circuit()
    circuit.run(DOWN, 2)
    permit = circuit.admit()
    known = circuit.doc.seq
    circuit.run(DOWN, 2)
    assert circuit.settle(permit, SUCCESS, watermark=known) is Effect.RESET
    assert circuit.look().failures_in_row == 2
    again = circuit.doc
    assert circuit.settle(permit, SUCCESS, watermark=known) is Effect.NOTHING
    assert circuit.doc is again


def test_a_late_success_after_a_very_long_run_leaves_enough_to_trip():
    circuit = Circuit(trip_confirm_ms=50)
    permit = circuit.admit()
    circuit.run(DOWN)
    known = circuit.doc.seq
    circuit.run(DOWN, 100)
    circuit.settle(permit, SUCCESS, watermark=known)
    assert circuit.look().failures_in_row >= 5
    circuit.now += 50
    assert circuit.run(DOWN) is Effect.TRIPPED


def test_retry_after_is_the_least_cooldown_up_to_the_cap():
    circuit = Circuit()
    circuit.run(Outcome(Kind.TRANSIENT, "RATE_LIMITED"), 4)
    circuit.run(Outcome(Kind.TRANSIENT, "RATE_LIMITED", retry_after_ms=300_000))
    assert circuit.doc.cooldown_ms == 300_000
    circuit.settle(circuit.probe(), Outcome(Kind.TRANSIENT, "RATE_LIMITED", retry_after_ms=86_400_000))
    assert circuit.doc.cooldown_ms == 900_000


def test_beyond_64_codes_the_rest_is_other():
    circuit = Circuit()
    for number in range(64):
        circuit.run(Outcome(Kind.UNKNOWN, f"CODE_{number}"))
    for number in range(64, 68):
        assert circuit.run(Outcome(Kind.UNKNOWN, f"CODE_{number}")) is Effect.COUNTED
    assert circuit.look().failures_in_row_code == "OTHER"
    assert circuit.run(Outcome(Kind.UNKNOWN, "CODE_0")) is Effect.COUNTED
    assert circuit.run(Outcome(Kind.UNKNOWN, "not a code")) is Effect.TRIPPED
    assert circuit.doc.reason_code == "OTHER"
