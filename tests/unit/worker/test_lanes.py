"""Whose turn it is among lanes and flows."""

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sickbay.domain.lane import WEIGHTS, Flow, Lane
from worker.lanes import Hand, Rotation

LANES = list(Lane)


@dataclass(frozen=True)
class Waiting:
    flow: Flow
    number: int = 0


def flow(name, lane=Lane.MAIN):
    return Flow(lane, name, "default")


def starts(rotation, ready, count):
    return Counter(rotation.next(dict.fromkeys(ready, flow("a"))) for _ in range(count))


@given(st.sets(st.sampled_from(LANES), min_size=1), st.integers(1, 5))
def test_lanes_get_their_weights_exactly(ready, rounds):
    total = sum(WEIGHTS[lane] for lane in ready)
    expected = {lane: rounds * WEIGHTS[lane] for lane in ready}
    assert starts(Rotation(), sorted(ready), rounds * total) == expected


@given(st.lists(st.sets(st.sampled_from(LANES), min_size=1), max_size=60))
def test_no_lane_waits_longer_than_all_weights_together(history):
    """Whatever was ready before, a lane with something to start waits at most for so many others."""
    rotation = Rotation()
    for ready in history:
        for lane in set(LANES) - ready:
            rotation.idle(lane)
        rotation.next(dict.fromkeys(sorted(ready), flow("a")))
    order = [rotation.next(dict.fromkeys(LANES, flow("a"))) for _ in range(4 * sum(WEIGHTS.values()))]
    for lane in LANES:
        places = [-1, *(place for place, one in enumerate(order) if one is lane)]
        assert max(after - before for before, after in pairwise(places)) <= 3 * sum(WEIGHTS.values())


def test_low_gets_more_than_a_twentieth_beside_all_others():
    counts = starts(Rotation(), LANES, 1_500)
    assert counts[Lane.LOW] / 1_500 > 0.05


def test_an_idle_lane_collects_no_credit():
    rotation = Rotation()
    for _ in range(1_000):
        rotation.next({Lane.MAIN: flow("a")})
        rotation.idle(Lane.HIGH)
    assert starts(rotation, [Lane.HIGH, Lane.MAIN], 12) == {Lane.HIGH: 8, Lane.MAIN: 4}


@given(st.lists(st.sampled_from("abc"), max_size=40))
def test_flows_take_turns_and_each_keeps_its_order(names):
    hand = Hand()
    for number, name in enumerate(names):
        hand.add(Waiting(flow(name), number))
    taken = []
    while (next_flow := hand.startable(lambda _: True)) is not None:
        taken.append(hand.take(next_flow))
    assert hand.size == 0
    assert sorted(one.number for one in taken) == list(range(len(names)))
    for name in set(names):
        own = [one.number for one in taken if one.flow == flow(name)]
        assert own == sorted(own)
    seen, left = Counter(), Counter(names)
    for one in taken:  # nobody is served twice before another that waits is served once
        name = one.flow.job_type
        assert seen[name] <= min((seen[other] for other in left if left[other]), default=seen[name])
        seen[name] += 1
        left[name] -= 1


def test_a_flow_that_may_not_start_is_passed_over():
    hand = Hand()
    for name in "aab":
        hand.add(Waiting(flow(name)))
    assert hand.startable(lambda one: one != flow("a")) == flow("b")
    assert hand.startable(lambda _: False) is None
    assert [one.flow.job_type for one in hand.take_all(flow("a"))] == ["a", "a"]
    assert (hand.size, flow("a") in hand, flow("b") in hand) == (1, False, True)
