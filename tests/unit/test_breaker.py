"""The way from OPEN back to CLOSED: each row of the transition table about probes, ramp and growth as an example."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sickbay.breaker.machine import Effect
from sickbay.domain.breaker import CircuitState, Permit, PermitKind, Refusal
from sickbay.domain.outcome import SUCCESS, Kind, Outcome
from tests.unit.breaker_circuit import BAD_DATA, BROKEN_OFF, DOWN, KEY, START, Circuit


def test_open_refuses_with_the_wait_until_the_cooldown_is_over():
    circuit = Circuit().open()
    circuit.now += 59_999
    assert circuit.admit() == Refusal(KEY, CircuitState.OPEN, 1)
    assert not circuit.look().cooldown_elapsed
    circuit.now += 1
    assert circuit.look().cooldown_elapsed
    permit = circuit.admit("job-x")
    assert permit == Permit(KEY, PermitKind.PROBE, circuit.doc.epoch, "job-x", permit.token, 15_000)
    assert circuit.look().probe_job_id == "job-x"


def test_half_open_refuses_everybody_else():
    circuit = Circuit().open()
    circuit.probe()
    assert [circuit.admit() for _ in range(40)] == [Refusal(KEY, CircuitState.HALF_OPEN, 15_000)] * 40


def test_a_probe_that_succeeds_closes_and_starts_the_ramp():
    circuit = Circuit().recover()
    seen = circuit.look()
    assert (seen.state, seen.recovering, seen.opened_at, seen.reason_code) == (CircuitState.CLOSED, True, None, "")
    assert circuit.admit().kind is PermitKind.RAMP


def test_without_ramp_a_close_is_a_close():
    circuit = Circuit(ramp=False).recover()
    assert not circuit.look().recovering
    assert {circuit.admit().kind for _ in range(100)} == {PermitKind.NORMAL}


def test_a_probe_that_fails_doubles_the_cooldown_with_jitter_up_to_the_cap():
    circuit = Circuit().open()
    for expected in (132_000, 290_400, 638_880, 900_000, 900_000):
        permit = circuit.probe()
        assert circuit.settle(permit, DOWN, jitter=1000) is Effect.REOPENED
        assert circuit.doc.cooldown_ms == expected
        assert circuit.doc.probe_at == circuit.now + expected
    assert circuit.doc.trips == 6
    assert (circuit.doc.reason_count, circuit.doc.opened_at) == (10, START)


def test_a_probe_that_fails_otherwise_tells_the_new_reason():
    circuit = Circuit().open()
    circuit.settle(circuit.probe(), Outcome(Kind.SYSTEMIC, "HTTP_503", "busy"))
    assert (circuit.doc.reason_code, circuit.doc.reason_count, circuit.doc.reason_message) == ("HTTP_503", 1, "busy")


@pytest.mark.parametrize("outcome", [BAD_DATA, BROKEN_OFF])
def test_an_inconclusive_probe_is_repeated_soon_and_after_ten_in_a_row_slowly(outcome):
    circuit = Circuit().open()
    waits = []
    for _ in range(11):
        assert circuit.settle(circuit.probe(), outcome) is Effect.INCONCLUSIVE
        waits.append(circuit.doc.probe_at - circuit.now)
    assert waits == [1_000] * 9 + [60_000] * 2
    assert (circuit.doc.trips, circuit.doc.cooldown_ms, circuit.doc.reason_code) == (1, 60_000, "API_TIMEOUT")


def test_a_lost_prober_is_replaced_at_once_and_its_verdict_is_stale():
    circuit = Circuit().open()
    lost = circuit.probe()
    circuit.now += 14_999
    assert isinstance(circuit.admit(), Refusal)
    circuit.now += 1
    heir = circuit.admit()
    assert heir.kind is PermitKind.PROBE
    before = circuit.doc
    assert circuit.settle(lost, SUCCESS) is Effect.STALE
    assert circuit.settle(lost, DOWN) is Effect.STALE
    assert circuit.doc is before
    assert circuit.settle(heir, SUCCESS) is Effect.CLOSED


def test_a_verdict_after_the_lease_is_stale_even_if_nobody_noticed():
    circuit = Circuit().open()
    lost = circuit.probe()
    circuit.now += 15_000
    assert circuit.settle(lost, SUCCESS) is Effect.STALE
    assert circuit.look().state is CircuitState.OPEN


def test_the_third_lost_prober_in_a_row_counts_as_a_failed_probe():
    circuit = Circuit().open()
    for _ in range(2):
        circuit.probe()
        circuit.now += 15_000
        assert circuit.look().cooldown_elapsed
    circuit.probe()
    circuit.now += 15_000
    lost_at = circuit.now
    circuit.now += 7
    assert circuit.look().probe_at == lost_at + 120_000
    assert (circuit.doc.trips, circuit.doc.expiries, circuit.doc.reason_code) == (2, 0, "API_TIMEOUT")


def test_a_probe_may_run_for_as_long_as_its_timeout():
    """Longer than the 120 s that hold for all: the verdict of a run of 300 s counts, and nobody else probes meanwhile."""
    circuit = Circuit().open()
    probe = circuit.probe(longest_ms=300_000)
    for _ in range(30):
        circuit.now += 10_000
        assert circuit.renew(probe)
        assert isinstance(circuit.admit(), Refusal)
    assert circuit.settle(probe, SUCCESS) is Effect.CLOSED


def test_renewal_keeps_a_probe_alive_up_to_its_longest_time():
    circuit = Circuit().open()
    permit = circuit.probe()
    since = circuit.now
    for _ in range(23):
        circuit.now += 5_000
        assert circuit.renew(permit)
    assert circuit.doc.probe_until == since + 120_000
    circuit.now = since + 119_999
    assert circuit.renew(permit)
    circuit.now = since + 120_000
    assert not circuit.renew(permit)
    assert circuit.doc.state is CircuitState.OPEN


def test_only_the_live_token_of_the_live_epoch_counts():
    circuit = Circuit().open()
    permit = circuit.probe()
    before = circuit.doc
    for forged in (replace(permit, token="guessed"), replace(permit, token=""), replace(permit, epoch=permit.epoch - 1)):
        assert circuit.settle(forged, SUCCESS) is Effect.STALE
        assert circuit.settle(forged, DOWN) is Effect.STALE
        assert not circuit.renew(forged)
    assert circuit.doc is before


def test_a_second_verdict_is_stale():
    circuit = Circuit().open()
    permit = circuit.probe()
    assert circuit.settle(permit, DOWN) is Effect.REOPENED
    before = circuit.doc
    assert circuit.settle(permit, SUCCESS) is Effect.STALE
    assert circuit.doc is before


def test_runs_admitted_before_the_trip_are_stale_after_it():
    circuit = Circuit()
    early = [circuit.admit() for _ in range(10)]
    for permit in early[:5]:
        circuit.settle(permit, DOWN)
    before = circuit.doc
    assert [circuit.settle(permit, outcome) for permit, outcome in zip(early[5:7], (DOWN, SUCCESS), strict=True)] == [Effect.STALE] * 2
    assert circuit.settle(replace(early[7], epoch=circuit.doc.epoch), SUCCESS) is Effect.STALE
    assert circuit.doc is before


def test_the_ramp_gives_its_credits_and_then_one_permit_a_second():
    circuit = Circuit().recover()
    assert [type(circuit.admit()) for _ in range(3)] == [Permit, Permit, Refusal]
    assert circuit.admit() == Refusal(KEY, CircuitState.CLOSED, 1_000)
    circuit.now += 1_000
    permit = circuit.admit()
    assert permit.kind is PermitKind.RAMP
    assert isinstance(circuit.admit(), Refusal)
    circuit.settle(permit, SUCCESS)
    assert [type(circuit.admit()) for _ in range(3)] == [Permit, Permit, Refusal]


def test_eight_successes_end_the_ramp():
    circuit = Circuit().recover()
    circuit.run(SUCCESS, 7)
    assert circuit.look().recovering
    circuit.run(SUCCESS)
    assert not circuit.look().recovering
    assert circuit.admit().kind is PermitKind.NORMAL


def test_three_failures_in_a_row_end_the_ramp_with_a_longer_cooldown():
    circuit = Circuit().recover()
    circuit.now += 1_000
    assert circuit.run(DOWN, 2) is Effect.COUNTED
    circuit.now += 1_000
    assert circuit.run(SUCCESS) is Effect.RESET
    assert circuit.run(DOWN, 2) is Effect.COUNTED
    circuit.now += 1_000
    assert circuit.run(DOWN) is Effect.TRIPPED
    assert (circuit.doc.trips, circuit.doc.cooldown_ms, circuit.look().recovering) == (2, 120_000, False)


def test_a_ramp_that_sees_no_verdict_ends_by_time():
    circuit = Circuit().recover()
    circuit.now += 120_000
    assert not circuit.look().recovering


@pytest.mark.parametrize(("closed_ms", "cooldown"), [(119_999, 120_000), (120_000, 60_000)])
def test_growth_is_forgotten_after_two_cooldowns_closed(closed_ms, cooldown):
    circuit = Circuit(ramp=False).recover()
    circuit.now += closed_ms
    circuit.open()
    assert circuit.doc.cooldown_ms == cooldown
