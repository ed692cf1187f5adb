"""Turns of work that can wait: in order, a few steps at a time, and with rests that keep most of the event loop for others."""

import asyncio

import pytest

from sickbay.server.http import turns as module
from sickbay.server.http.turns import Turns


class Loop:
    """Runs nothing by itself: `turn()` runs what is due now, and tells how long it was asked to wait before the next."""

    def __init__(self, clock):
        self.ready, self.rests, self.clock, self.rest = [], [], clock, 0.0

    def call_soon(self, callback):
        self.ready.append(callback)

    def call_later(self, delay, callback):
        self.rests.append(delay)
        self.rest = delay
        self.ready.append(callback)

    def turn(self):
        due, self.ready = self.ready, []
        self.clock[0] += self.rest
        self.rest = 0.0
        for callback in due:
            callback()


@pytest.fixture
def loop(monkeypatch, clock):
    loop = Loop(clock)
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    return loop


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module, "perf_counter", lambda: now[0])
    return now


def test_so_many_at_a_time_and_in_order(loop, clock):
    turns, done = Turns(2), []
    for number in range(5):
        turns.wait(lambda number=number: done.append(number))
    seen = []
    while loop.ready:
        loop.turn()
        seen.append(list(done))
    assert seen[:3] == [[0, 1], [0, 1, 2, 3], [0, 1, 2, 3, 4]]
    assert loop.rests == []


def test_work_is_followed_by_a_rest_as_many_times_as_long(loop, clock):
    turns = Turns(rests=3)

    def step():
        clock[0] += 0.002

    turns.wait(step)
    turns.wait(step)
    loop.turn()
    assert loop.rests == [pytest.approx(0.006)]
    loop.turn()
    assert loop.rests == [pytest.approx(0.006)] * 2


def test_rests_too_short_for_a_timer_are_saved_up(loop, clock):
    turns, done = Turns(rests=1), []

    def step():
        clock[0] += 0.0003
        done.append(clock[0])
        if len(done) < 8:
            turns.wait(step)

    turns.wait(step)
    for _ in range(8):
        loop.turn()
    assert loop.rests == [pytest.approx(0.0012)] * 2


def test_what_is_owed_is_rested_before_the_next_step(loop, clock):
    turns, done = Turns(), []

    def step():
        turns.owe(0.25)
        done.append("discarded")

    turns.wait(step)
    loop.turn()
    turns.wait(step)
    assert (done, loop.rests) == (["discarded"], [0.25])
    loop.turn()
    assert (done, loop.rests) == (["discarded"] * 2, [0.25, 0.25])


def test_a_step_may_wait_for_its_next_turn(loop, clock):
    turns, done = Turns(), []

    def step():
        done.append(1)
        if len(done) < 3:
            turns.wait(step)

    turns.wait(step)
    while loop.ready:
        loop.turn()
    assert done == [1, 1, 1]


def test_what_was_owed_long_ago_is_rested_already(loop, clock):
    """Small bodies owe without ever waiting for a turn; a large one must not wait for all of them."""
    turns, done = Turns(), []
    for _ in range(1_000):
        turns.owe(0.01)
        clock[0] += 0.02
    turns.wait(lambda: done.append(1))
    turns.wait(lambda: done.append(2))
    while loop.ready:
        loop.turn()
    assert (done, loop.rests) == ([1, 2], [])


@pytest.mark.parametrize(("others", "rate"), [(0, 128), (1, 64), (3, 32), (79, 32)])
def test_large_bodies_are_read_more_slowly_the_more_of_them_wait(loop, clock, others, rate):
    port = module.PortTurns()
    for _ in range(others):
        port.reading.wait(lambda: None)
    port.owe_for_reading(rate * 1024**2)  # of one whose turn it was
    port.reading.wait(lambda: None)
    loop.turn()
    assert loop.rests == [1.0]
