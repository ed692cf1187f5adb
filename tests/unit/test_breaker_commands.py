"""What admins and a wrong clock do to a circuit."""

from __future__ import annotations

import pytest

from sickbay.breaker.machine import Effect
from sickbay.domain.breaker import Action, CircuitState, PermitKind, Refusal
from sickbay.domain.outcome import SUCCESS
from tests.unit.breaker_circuit import DOWN, KEY, START, Circuit


@pytest.mark.parametrize("state", ["closed", "open", "half-open", "forced", "disabled"])
def test_reset_closes_whatever_there_was(state):
    circuit = Circuit()
    stale = circuit.admit()
    if state in {"open", "half-open"}:
        circuit.open()
        stale = circuit.probe() if state == "half-open" else stale
    elif state != "closed":
        circuit.command(Action.FORCE_OPEN if state == "forced" else Action.DISABLE)
    epoch = circuit.doc.epoch
    circuit.command(Action.RESET)
    assert (circuit.doc.state, circuit.doc.trips, circuit.doc.cooldown_ms) == (CircuitState.CLOSED, 0, 0)
    assert circuit.doc.epoch > epoch
    assert circuit.settle(stale, DOWN) is Effect.STALE
    assert circuit.admit().kind is PermitKind.NORMAL


def test_a_hold_that_ends_before_the_probe_lends_no_second_one():
    """Force-open for a second beside a probe of three: the next probe waits for the first, whose verdict moves nothing."""
    circuit = Circuit().open()
    first = circuit.probe()
    circuit.command(Action.FORCE_OPEN, duration_ms=1_000)
    circuit.now += 1_000
    assert circuit.look().probe_job_id == first.job_id
    assert circuit.admit() == Refusal(KEY, CircuitState.OPEN, 14_000)
    assert circuit.renew(first)
    assert circuit.look().probe_at == circuit.now + 15_000
    circuit.now += 2_000
    assert circuit.settle(first, SUCCESS) is Effect.STALE
    assert (circuit.doc.state, circuit.look().probe_job_id) == (CircuitState.OPEN, "")
    assert circuit.admit().kind is PermitKind.PROBE


@pytest.mark.parametrize("again", [False, True])
def test_auto_after_a_hold_waits_for_the_probe_that_runs_beside_it(again):
    circuit = Circuit().open()
    first = circuit.probe()
    for _ in range(1 + again):
        circuit.command(Action.FORCE_OPEN)
    circuit.command(Action.AUTO)
    assert isinstance(circuit.admit(), Refusal)
    circuit.now += 15_000
    assert circuit.admit().kind is PermitKind.PROBE
    assert circuit.settle(first, SUCCESS) is Effect.STALE
    assert circuit.doc.state is CircuitState.HALF_OPEN


@pytest.mark.parametrize("action", [Action.RESET, Action.DISABLE, Action.METRICS_ONLY])
def test_where_all_may_run_a_probe_is_one_of_many(action):
    circuit = Circuit().open()
    first = circuit.probe()
    circuit.command(action)
    assert circuit.admit().kind is PermitKind.NORMAL
    assert circuit.settle(first, DOWN) is Effect.STALE
    assert not circuit.renew(first)


def test_a_forced_hold_ends_in_a_probe():
    circuit = Circuit()
    circuit.command(Action.FORCE_OPEN, duration_ms=10_000, by="ada", why="maintenance")
    assert circuit.admit() == Refusal(KEY, CircuitState.FORCED_OPEN, 10_000)
    seen = circuit.look()
    assert (seen.forced_until, seen.forced_by, seen.forced_why, seen.opened_at) == (START + 10_000, "ada", "maintenance", START)
    circuit.now += 10_000
    assert circuit.look().cooldown_elapsed
    permit = circuit.probe()
    assert circuit.settle(permit, DOWN) is Effect.REOPENED
    assert circuit.doc.cooldown_ms == 60_000


def test_a_hold_without_end_lasts_until_auto_which_asks_for_a_probe():
    circuit = Circuit()
    circuit.command(Action.FORCE_OPEN)
    circuit.now += 10**12
    assert circuit.admit() == Refusal(KEY, CircuitState.FORCED_OPEN, None)
    circuit.command(Action.AUTO)
    assert circuit.look().cooldown_elapsed
    assert circuit.admit().kind is PermitKind.PROBE


def test_auto_leaves_an_automatic_circuit_alone():
    circuit = Circuit().open()
    before = circuit.doc
    circuit.command(Action.AUTO)
    assert circuit.doc is before


def test_a_disabled_circuit_admits_everything_and_counts_nothing():
    circuit = Circuit().open()
    circuit.command(Action.DISABLE, by="ada")
    before = circuit.doc
    circuit.run(DOWN, 20)
    assert circuit.doc is before
    circuit.command(Action.AUTO)
    assert circuit.look().state is CircuitState.CLOSED


def test_metrics_only_admits_everything_and_tells_how_often_it_would_have_opened():
    circuit = Circuit()
    circuit.command(Action.METRICS_ONLY)
    assert circuit.run(DOWN, 5) is Effect.WOULD_TRIP
    assert circuit.run(DOWN, 50) is Effect.NOTHING
    circuit.now += 60_000
    assert circuit.run(DOWN, 4) is Effect.COUNTED
    assert circuit.run(SUCCESS) is Effect.RESET
    assert circuit.run(DOWN, 5) is Effect.WOULD_TRIP
    seen = circuit.look()
    assert (seen.state, seen.would_have_tripped, seen.probe_at) == (CircuitState.METRICS_ONLY, 2, None)


def test_a_clock_that_steps_back_prolongs_no_wait():
    circuit = Circuit().open()
    circuit.now -= 3_600_000
    assert circuit.admit() == Refusal(KEY, CircuitState.OPEN, 60_000)
    epoch, rev = circuit.doc.epoch, circuit.doc.rev
    circuit.now += 60_000
    circuit.probe()
    assert circuit.doc.epoch > epoch
    assert circuit.doc.rev > rev


def test_a_clock_that_was_a_year_ahead_sticks_nothing():
    circuit = Circuit().recover()
    circuit.now += 365 * 86_400_000
    circuit.open()
    circuit.now = START
    circuit.command(Action.FORCE_OPEN, duration_ms=5_000)
    circuit.now += 5_000
    assert circuit.probe().kind is PermitKind.PROBE
