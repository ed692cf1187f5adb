"""What admins and a wrong clock do to a circuit."""

from __future__ import annotations

import pytest

from sickbay.breaker.machine import Effect
from sickbay.domain.breaker import Action, BreakerState, PermitKind, Refusal
from sickbay.domain.outcome import SUCCESS
from tests.support.breaker_driver import DOWN, KEY, START, Circuit


@pytest.mark.parametrize("state", ["closed", "open", "half-open", "forced", "disabled"])
def test_reset_closes_whatever_there_was(state):
    breaker = Circuit()
    stale = breaker.admit()
    if state in {"open", "half-open"}:
        breaker.open()
        stale = breaker.probe() if state == "half-open" else stale
    elif state != "closed":
        breaker.command(Action.FORCE_OPEN if state == "forced" else Action.DISABLE)
    epoch = breaker.doc.epoch
    breaker.command(Action.RESET)
    assert (breaker.doc.state, breaker.doc.trips, breaker.doc.cooldown_ms) == (BreakerState.CLOSED, 0, 0)
    assert breaker.doc.epoch > epoch
    assert breaker.settle(stale, DOWN) is Effect.STALE
    kind = PermitKind.RAMP if state in {"open", "half-open", "forced"} else PermitKind.NORMAL  # where jobs wait they come back gently
    assert breaker.admit().kind is kind


def test_a_hold_that_ends_before_the_probe_lends_no_second_one():
    """Force-open for a second beside a probe of three: the next probe waits for the first, whose verdict moves nothing."""
    breaker = Circuit().open()
    first = breaker.probe()
    breaker.command(Action.FORCE_OPEN, duration_ms=1_000)
    breaker.now += 1_000
    assert breaker.look().probe_job_id == first.job_id
    assert breaker.admit() == Refusal(KEY, BreakerState.OPEN)
    assert breaker.renew(first)
    assert breaker.look().probe_at == breaker.now + 15_000
    breaker.now += 2_000
    assert breaker.settle(first, SUCCESS) is Effect.STALE
    assert (breaker.doc.state, breaker.look().probe_job_id) == (BreakerState.OPEN, "")
    assert breaker.admit().kind is PermitKind.PROBE


@pytest.mark.parametrize("again", [False, True])
def test_auto_after_a_hold_waits_for_the_probe_that_runs_beside_it(again):
    breaker = Circuit().open()
    first = breaker.probe()
    for _ in range(1 + again):
        breaker.command(Action.FORCE_OPEN)
    breaker.command(Action.AUTO)
    assert isinstance(breaker.admit(), Refusal)
    breaker.now += 15_000
    assert breaker.admit().kind is PermitKind.PROBE
    assert breaker.settle(first, SUCCESS) is Effect.STALE
    assert breaker.doc.state is BreakerState.HALF_OPEN


@pytest.mark.parametrize("action", [Action.RESET, Action.DISABLE, Action.METRICS_ONLY])
def test_where_all_may_run_a_probe_is_one_of_many(action):
    breaker = Circuit().open()
    first = breaker.probe()
    breaker.command(action)
    assert breaker.admit().kind is (PermitKind.RAMP if action is Action.RESET else PermitKind.NORMAL)
    assert breaker.settle(first, DOWN) is Effect.STALE
    assert not breaker.renew(first)


def test_a_forced_hold_ends_in_a_probe():
    breaker = Circuit()
    breaker.command(Action.FORCE_OPEN, duration_ms=10_000, by="ada", why="maintenance")
    assert breaker.admit() == Refusal(KEY, BreakerState.FORCED_OPEN)
    seen = breaker.look()
    assert (seen.forced_until, seen.forced_by, seen.forced_why, seen.opened_at) == (START + 10_000, "ada", "maintenance", START)
    breaker.now += 10_000
    assert breaker.look().cooldown_elapsed
    permit = breaker.probe()
    assert breaker.settle(permit, DOWN) is Effect.REOPENED
    assert breaker.doc.cooldown_ms == 60_000


def test_a_hold_without_end_lasts_until_auto_which_asks_for_a_probe():
    breaker = Circuit()
    breaker.command(Action.FORCE_OPEN)
    breaker.now += 10**12
    assert breaker.admit() == Refusal(KEY, BreakerState.FORCED_OPEN)
    breaker.command(Action.AUTO)
    assert breaker.look().cooldown_elapsed
    assert breaker.admit().kind is PermitKind.PROBE


def test_auto_leaves_an_automatic_circuit_alone():
    breaker = Circuit().open()
    before = breaker.doc
    breaker.command(Action.AUTO)
    assert breaker.doc is before


def test_a_disabled_circuit_admits_everything_and_counts_nothing():
    breaker = Circuit().open()
    breaker.command(Action.DISABLE, by="ada")
    before = breaker.doc
    breaker.run(DOWN, 20)
    assert breaker.doc is before
    breaker.command(Action.AUTO)
    assert breaker.look().state is BreakerState.CLOSED


def test_metrics_only_admits_everything_and_tells_how_often_it_would_have_opened():
    breaker = Circuit()
    breaker.command(Action.METRICS_ONLY)
    assert breaker.run(DOWN, 5) is Effect.WOULD_TRIP
    assert breaker.run(DOWN, 50) is Effect.NOTHING
    breaker.now += 60_000
    assert breaker.run(DOWN, 4) is Effect.COUNTED
    assert breaker.run(SUCCESS) is Effect.RESET
    assert breaker.run(DOWN, 5) is Effect.WOULD_TRIP
    seen = breaker.look()
    assert (seen.state, seen.would_have_tripped, seen.probe_at) == (BreakerState.METRICS_ONLY, 2, None)


def test_a_clock_that_steps_back_prolongs_no_wait():
    breaker = Circuit().open()
    breaker.now -= 3_600_000
    assert breaker.admit() == Refusal(KEY, BreakerState.OPEN)
    epoch, rev = breaker.doc.epoch, breaker.doc.rev
    breaker.now += 60_000
    breaker.probe()
    assert breaker.doc.epoch > epoch
    assert breaker.doc.rev > rev


def test_a_clock_that_was_a_year_ahead_sticks_nothing():
    breaker = Circuit().recover()
    breaker.now += 365 * 86_400_000
    breaker.open()
    breaker.now = START
    breaker.command(Action.FORCE_OPEN, duration_ms=5_000)
    breaker.now += 5_000
    assert breaker.probe().kind is PermitKind.PROBE


def test_an_ordered_probe_runs_now_and_is_the_only_one():
    breaker = Circuit().open()
    epoch, opened = breaker.doc.epoch, breaker.look()
    assert breaker.admit() == Refusal(KEY, BreakerState.OPEN)
    breaker.command(Action.PROBE)
    seen = breaker.look()
    assert (seen.state, seen.cooldown_elapsed, seen.probe_at, breaker.doc.epoch) == (BreakerState.OPEN, True, breaker.now, epoch)
    assert (seen.opened_at, seen.trips, seen.cooldown_ms, seen.reason_code) == (opened.opened_at, 1, 60_000, "API_TIMEOUT")
    permit = breaker.admit()
    assert permit.kind is PermitKind.PROBE
    assert breaker.admit() == Refusal(KEY, BreakerState.HALF_OPEN)
    assert breaker.settle(permit, SUCCESS) is Effect.CLOSED


def test_an_ordered_probe_that_fails_begins_a_whole_cooldown():
    breaker = Circuit().open()
    breaker.command(Action.PROBE)
    assert breaker.settle(breaker.admit(), DOWN) is Effect.REOPENED
    assert breaker.look().probe_at == breaker.now + 60_000


def test_an_order_while_a_probe_runs_or_is_due_changes_nothing():
    breaker = Circuit().open()
    breaker.now = breaker.doc.probe_at
    due = breaker.doc
    breaker.command(Action.PROBE)
    assert breaker.doc is due
    breaker.probe()
    probed = breaker.doc
    breaker.command(Action.PROBE)
    assert breaker.doc is probed
    assert isinstance(breaker.admit(), Refusal)


def test_an_order_waits_for_the_probe_from_before_a_hold():
    breaker = Circuit().open()
    breaker.probe()
    breaker.command(Action.FORCE_OPEN)
    breaker.command(Action.AUTO)
    breaker.command(Action.PROBE)
    assert isinstance(breaker.admit(), Refusal)
    breaker.now += 15_000
    assert breaker.admit().kind is PermitKind.PROBE


@pytest.mark.parametrize("action", [Action.RESET, Action.FORCE_OPEN, Action.DISABLE, Action.METRICS_ONLY])
def test_other_states_have_no_probe_to_order(action):
    breaker = Circuit()
    breaker.command(action)
    if action is Action.METRICS_ONLY:
        breaker.run(DOWN, 5)
        assert breaker.look().would_have_tripped == 1
    before = breaker.doc
    breaker.command(Action.PROBE)
    assert breaker.doc is before
