"""What is read out of the states that were seen, also where some were too quick to be seen."""

from __future__ import annotations

from benchmarks.outage.circuits import closed_after, first_open, openings, probes_between
from benchmarks.outage.trace import StateSeen


def seen(*states):
    """Of one circuit, one each second; `OPEN:b` has another cooldown than `OPEN:a`."""
    return [StateSeen(float(second), "email", *state.split(":")) for second, state in enumerate(states)]


def test_closed_is_when_no_circuit_is_open_any_more():
    states = [
        StateSeen(0.0, "email", "OPEN"),
        StateSeen(1.0, "invoice", "OPEN"),
        StateSeen(5.0, "email", "CLOSED"),
        StateSeen(7.0, "invoice", "CLOSED"),
    ]
    assert closed_after(states, 3.0) == 7.0
    assert closed_after(states, 9.0) == 9.0
    assert closed_after(states[:3], 3.0) is None
    assert closed_after([], 3.0) is None


def test_a_circuit_that_never_opened_is_closed_at_once():
    assert closed_after([StateSeen(0.0, "email", "CLOSED")], 3.0) == 3.0
    assert first_open([StateSeen(0.0, "email", "CLOSED")], 0.0) is None


def test_a_failed_probe_is_no_opening():
    states = seen("CLOSED", "OPEN:a", "HALF_OPEN", "OPEN:b", "HALF_OPEN", "CLOSED", "OPEN:c")
    assert openings(states, 0.0, 100.0) == 2
    assert openings(states, 2.0, 100.0) == 1


def test_probes_are_counted_whether_seen_or_not():
    states = seen("OPEN:a", "HALF_OPEN", "OPEN:b", "OPEN:c", "OPEN:c", "HALF_OPEN", "CLOSED")
    assert probes_between(states, 0.0, 100.0) == 3
    assert probes_between(states, 0.0, 2.5) == 1


def test_a_probe_is_counted_once_however_often_its_lease_is_renewed_and_those_that_follow_it_too():
    states = seen("OPEN:a", "HALF_OPEN:d", "HALF_OPEN:d", "HALF_OPEN:e", "OPEN:e", "HALF_OPEN:f", "HALF_OPEN:f", "CLOSED")
    assert probes_between(states, 0.0, 100.0) == 3
