"""Lists give way to single calls, and lose nothing by it where there are none."""

from itertools import pairwise

import pytest

from sickbay.concurrency.slices import FEW, REST_S, WATCHED_S, Slices
from sickbay.concurrency.tasks import TURN_S

SLICE_S = 1.01 * TURN_S
"""A little more, as floats go."""


class Time:
    """A clock that the work on each item moves, and that sleeping moves."""

    def __init__(self):
        self.now = 100.0
        self.slept = []

    def __call__(self):
        return self.now

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def slices(time):
    return Slices(time, time.sleep)


async def work(slices, time, number, each_s=SLICE_S):
    done = []
    async for item in slices.over(range(number)):
        done.append(item)
        time.now += each_s
    return done


async def test_a_list_is_worked_on_in_order_and_lets_the_loop_run(slices, time):
    assert await work(slices, time, 10, SLICE_S / 2) == list(range(10))
    assert time.slept == [0] * 4


async def test_while_single_calls_come_it_rests_between_its_slices(slices, time):
    slices.called()
    await work(slices, time, 4)
    assert time.slept == [pytest.approx(REST_S)] * 3


async def test_a_single_call_never_rests_however_long_its_job_takes(slices, time):
    slices.called()
    await work(slices, time, 1, 10 * SLICE_S)
    assert time.slept == []


async def test_a_second_after_the_last_single_call_it_rests_no_more(slices, time):
    slices.called()
    time.now += WATCHED_S + 0.1
    await work(slices, time, 3)
    assert time.slept == [0, 0]


async def test_the_slices_of_all_lists_together_are_apart(slices, time):
    """Each waits for its own place in the line, whoever comes first."""
    slices.called()
    first, second = slices.over(range(9)), slices.over(range(9))
    starts = []

    async def at(seconds):
        starts.append(time.now + seconds)

    slices._sleep = at
    for one in (first, second, first, second):
        await anext(one)
        time.now += SLICE_S
    await anext(first)
    await anext(second)
    assert len(starts) == 4
    assert [late - early for early, late in pairwise(starts)] == [pytest.approx(REST_S)] * 3
    await first.aclose()
    await second.aclose()


async def test_many_lists_are_not_many_times_slower(slices, time):
    """A client's deadline must not pass because others send lists, too."""
    slices.called()
    others = [slices.over(range(2)) for _ in range(10 * FEW - 1)]
    for one in others:
        await anext(one)
    await work(slices, time, 2)
    assert time.slept == [pytest.approx(REST_S / 10)]
    for one in others:
        await one.aclose()
    time.slept.clear()
    time.now += 1
    slices.called()
    await work(slices, time, 2)
    assert time.slept == [pytest.approx(REST_S)]
