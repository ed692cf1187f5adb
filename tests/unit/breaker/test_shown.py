"""A kept snapshot is what a new one would be, and it is let go as soon as it might not be."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sickbay.breaker import machine
from sickbay.breaker import shown as module
from sickbay.breaker.shown import ShownBreakers
from sickbay.domain.breaker import Action, BreakerConfig, BreakerKey, BreakerState, Command, Permit
from tests.support.breaker_driver import DOWN, Circuit

CONFIG = BreakerConfig()


def failing(times, apart_ms=1_000):
    circuit = Circuit()
    for _ in range(times):
        circuit.now += apart_ms
        permit = circuit.admit()
        if isinstance(permit, Permit):
            circuit.settle(permit, DOWN)
    return circuit


@given(times=st.integers(0, 7), ahead=st.integers(-5_000, 2 * CONFIG.failure_window_ms), apart=st.integers(0, 200_000))
def test_it_is_what_a_new_one_would_be(times, ahead, apart):
    circuit = failing(times, apart)
    shown, made_at = ShownBreakers(), circuit.now
    doc = circuit.doc
    assert shown.make(doc, CONFIG, made_at, 7) == machine.snapshot(doc, CONFIG, made_at, total_failures=7)
    if kept := shown.get(doc, CONFIG, made_at + ahead, 7):
        assert machine.catch_up(doc, CONFIG, made_at + ahead) is doc
        assert kept == machine.snapshot(doc, CONFIG, made_at + ahead, total_failures=7)
        assert kept.now == made_at + ahead or kept.state is BreakerState.CLOSED


@given(
    times=st.integers(5, 7),
    looked=st.integers(0, 2 * CONFIG.cooldown_ms),
    ahead=st.integers(-2 * CONFIG.cooldown_ms, 2 * CONFIG.cooldown_ms),
)
def test_an_open_one_is_kept_until_its_cooldown_is_over_and_again_after_it(times, looked, ahead):
    """With the time of each look; also if the clock is set back."""
    circuit = failing(times)
    doc, made_at, at = circuit.doc, circuit.now + looked, circuit.now + looked + ahead
    shown = ShownBreakers()
    shown.make(doc, CONFIG, made_at, 7)
    kept, new = shown.get(doc, CONFIG, at, 7), machine.snapshot(doc, CONFIG, at, total_failures=7)
    assert (kept is not None) == ((made_at < doc.probe_at) == (at < doc.probe_at) and at >= doc.updated_at)
    if kept is not None:
        assert machine.catch_up(doc, CONFIG, at) is doc
        assert (kept, kept.now) == (new, at)


def test_the_same_object_comes_back_until_something_is_different():
    circuit = failing(2)
    shown, doc, now = ShownBreakers(), circuit.doc, circuit.now
    made = shown.make(doc, CONFIG, now, 2)
    assert shown.get(doc, CONFIG, now + 5, 2) is made
    assert shown.get(replace(doc), CONFIG, now, 2) is None
    assert shown.get(doc, replace(CONFIG), now, 2) is None
    assert shown.get(doc, CONFIG, now, 3) is None
    assert shown.get(doc, CONFIG, doc.updated_at - 1, 2) is None
    assert shown.get(doc, CONFIG, now + CONFIG.failure_window_ms, 2) is None


@pytest.mark.parametrize("action", [Action.FORCE_OPEN, Action.DISABLE, Action.METRICS_ONLY])
def test_only_closed_ones_with_failures_and_open_ones_are_kept(action):
    circuit, probed = failing(2), failing(5)
    changed = machine.command(circuit.doc, Command(action), CONFIG, circuit.now)
    probed.now += CONFIG.cooldown_ms
    probed.admit()
    hanging = failing(5)
    hanging.now += CONFIG.cooldown_ms
    hanging.admit(usual_ms=100)
    hanging.now += 1_000
    hanging.look()
    assert (hanging.doc.state, len(hanging.doc.superseded)) == (BreakerState.OPEN, 1)
    for doc in (changed, Circuit().doc, probed.doc, hanging.doc):
        shown = ShownBreakers()
        shown.make(doc, CONFIG, circuit.now, 0)
        assert shown.get(doc, CONFIG, circuit.now, 0) is None


def test_those_that_are_gone_are_forgotten(monkeypatch):
    monkeypatch.setattr(module, "MIN_KEPT", 2)
    circuit, shown = failing(1), ShownBreakers()
    docs = [replace(circuit.doc, key=BreakerKey(f"type-{number}")) for number in range(4)]
    for doc in docs:
        shown.make(doc, CONFIG, circuit.now, 1)
    shown.prune(lambda: [docs[0].key])
    assert [shown.get(doc, CONFIG, circuit.now, 1) is not None for doc in docs] == [True, False, False, False]
