"""A kept snapshot is what a new one would be, and it is let go as soon as it might not be."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sickbay.breaker import machine
from sickbay.breaker import shown as module
from sickbay.breaker.shown import ShownBreakers
from sickbay.domain.breaker import Action, BreakerConfig, BreakerKey, Command, Permit
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
def test_only_closed_ones_with_failures_are_kept(action):
    circuit = failing(2)
    changed = machine.command(circuit.doc, Command(action), CONFIG, circuit.now)
    for doc in (changed, Circuit().doc, failing(5).doc):
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
