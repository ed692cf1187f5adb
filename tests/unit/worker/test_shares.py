"""How many slots a flow may hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sickbay.domain.lane import Flow, Lane
from worker.shares import FLOOD_S, RECENT_S, Shares

EMAIL, SMS = Flow(Lane.MAIN, "email", "default"), Flow(Lane.MAIN, "sms", "default")


def shares_of(slots, **shares):
    return Shares(slots, shares.get)


def fill(shares, flow, now=0.0):
    """Start as many as may start; returns how many."""
    count = 0
    while shares.held < shares._slots and shares.may_start(flow, now):
        shares.begin(flow)
        count += 1
    return count


def busy(slots, *flows, **shares):
    made = shares_of(slots, **shares)
    for flow in flows:
        made.saw(flow, 0.0)
    return made


@pytest.mark.parametrize("slots", [1, 2, 100])
def test_a_flow_alone_uses_all_slots(slots):
    assert fill(busy(slots, EMAIL), EMAIL) == slots


@pytest.mark.parametrize(("slots", "expected"), [(3, 3), (4, 3), (10, 9), (100, 95)])
def test_with_others_about_some_slots_are_never_lent(slots, expected):
    shares = busy(slots, SMS, EMAIL)
    assert fill(shares, EMAIL) == expected
    assert fill(shares, SMS) > 0 or slots < 4


def test_others_are_forgotten_after_a_while():
    shares = busy(100, SMS, EMAIL)
    assert fill(shares, EMAIL, now=RECENT_S) == 100


def test_long_runs_get_three_quarters():
    shares = busy(100, SMS, EMAIL)
    for _ in range(20):
        shares.begin(EMAIL)
        shares.end(EMAIL, 30.0)
    assert fill(shares, EMAIL) == 75
    assert fill(shares, SMS) == 20, "five stay for a third flow"


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.001, 1), (1.0, 100)])
def test_a_share_that_is_set_holds_also_for_a_flow_alone(share, expected):
    assert fill(busy(100, EMAIL, email=share), EMAIL) == expected


@pytest.mark.parametrize(("slots", "count"), [(10, 5), (10, 9), (100, 5), (100, 90)])
def test_floods_together_leave_a_slot_to_one_that_holds_none(slots, count):
    flows = [Flow(Lane.MAIN, f"t{n}", "default") for n in range(count)]
    shares = busy(slots, SMS, *flows)
    for _ in range(slots):
        for flow in flows:
            if shares.held < slots and shares.may_start(flow, 0.0):
                shares.begin(flow)
    assert slots - 5 <= shares.held < slots
    assert shares.may_start(SMS, 0.0)


def test_a_flood_ends():
    shares = busy(100, SMS, EMAIL)
    shares.flood(EMAIL, 0.0)
    assert shares.floods(FLOOD_S - 0.1) == {EMAIL}
    assert (shares.is_flood(EMAIL, FLOOD_S), shares.floods(FLOOD_S), shares.has_floods) == (False, frozenset(), False)


flows = st.builds(Flow, st.sampled_from(list(Lane)), st.sampled_from("abc"), st.sampled_from("xy"))


@given(st.integers(4, 40), st.lists(flows, max_size=200))
def test_jobs_that_hang_never_hold_all_slots_once_another_flow_was_seen(slots, arrivals):
    """Whatever comes, of at least two flows: no flow alone holds every slot."""
    shares = shares_of(slots)
    shares.saw(EMAIL, 0.0)
    shares.saw(SMS, 0.0)
    held = {}
    for flow in arrivals:
        shares.saw(flow, 0.0)
        if shares.held < slots and shares.may_start(flow, 0.0):
            shares.begin(flow)
            held[flow] = held.get(flow, 0) + 1
    assert all(count < slots for count in held.values())
