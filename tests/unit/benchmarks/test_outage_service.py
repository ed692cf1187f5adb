"""The fake dependency's mind: its capacity is exact, and each condition answers as it says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.outage.service import NEVER, QUEUE_S, Condition, Service


def test_it_serves_its_capacity_and_refuses_the_rest_at_once():
    service = Service(Condition(90), seed=1, now=0.0)
    answers = [(now, service.call(now)) for now in (number / 200 for number in range(2_000))]
    assert sum(answer.word == "ok" and answer.at < 10 for _, answer in answers) == pytest.approx(900, abs=3)
    assert all(answer.at == now for now, answer in answers if answer.word == "full")
    assert max(answer.at - now for now, answer in answers) <= QUEUE_S + 2 / 90


@given(st.floats(1, 5_000), st.lists(st.floats(0, 0.1), max_size=200))
def test_never_more_than_the_capacity_whatever_comes_when(capacity, pauses):
    service, now, ends = Service(Condition(capacity), seed=1, now=0.0), 0.0, []
    for pause in pauses:
        now += pause
        answer = service.call(now)
        if answer.word == "ok":
            ends.append(answer.at)
    slots = max(1, round(capacity * 0.02))
    for first, last in zip(ends, ends[slots:], strict=False):
        assert last - first >= slots / capacity * 0.999_999


def test_a_load_below_the_capacity_waits_for_nothing():
    service = Service(Condition(90), seed=1, now=0.0)
    waits = [service.call(now).at - now for now in (number / 60 for number in range(600))]
    assert max(waits) == pytest.approx(2 / 90)


@pytest.mark.parametrize(
    ("condition", "word", "at"),
    [
        (Condition(90, "refusing"), "refused", 7.0),
        (Condition(90, "hanging"), "", NEVER),
        (Condition(90, "limited", wait_s=2.5), "limited 2.5", 7.0),
        (Condition(100, "slow", wait_s=2.0), "ok", 9.02),
        (Condition(100, "errors", share=1.0), "error", 7.02),
        (Condition(100, "up"), "ok", 7.02),
    ],
)
def test_each_condition_answers_as_it_says(condition, word, at):
    service = Service(Condition(90), seed=1, now=0.0)
    service.change(condition, 5.0)
    assert service.call(7.0) == (pytest.approx(at), word)


def test_slow_calls_free_their_slots_in_time():
    service = Service(Condition(90, "slow", wait_s=2.0), seed=1, now=0.0)
    assert {service.call(number / 60).word for number in range(600)} == {"ok"}


def test_errors_are_the_same_for_the_same_seed():
    def words(seed):
        service = Service(Condition(90, "errors", share=0.3), seed, 0.0)
        return [service.call(number / 10).word for number in range(1_000)]

    assert words(1) == words(1) != words(2)
    assert words(1).count("error") == pytest.approx(300, abs=50)


def test_flapping_begins_down():
    condition = Condition(90, "flapping", down_s=3.0, up_s=2.0)
    service = Service(condition, seed=1, now=10.0)
    assert [service.call(10.0 + second).word for second in (0.5, 2.9, 3.1, 4.9, 5.1)] == ["refused", "refused", "ok", "ok", "refused"]
    assert [condition.serves(second) for second in (0.5, 3.1, 5.1)] == [0, 90, 0]


def test_what_is_wrong_says_how_much_succeeds():
    assert Condition(90, "errors", share=0.25).serves(1.0) == 67.5
    assert Condition(90, "hanging").serves(1.0) == 0
    assert Condition(90, "slow", wait_s=2).serves(1.0) == 90
