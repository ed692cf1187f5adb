"""Clocks that do not step, and the steps of those that do."""

from sickbay.system.clock import STEP_MS, SteadyClock, Steps, uptime, wall_clock
from tests.support.clock import ManualClock


def test_a_steady_clock_takes_no_part_in_the_steps_of_the_wall():
    wall, steady = ManualClock(), ManualClock(7)
    clock = SteadyClock(wall, steady)
    assert clock() == wall.now
    for step in (-3_600_000, 86_400_000):
        before = clock()
        wall.now += step
        assert clock() == before
    steady.now += 5
    assert clock() == before + 5


def test_steps_are_told_once_and_drift_is_none():
    wall, steady = ManualClock(), ManualClock(7)
    steps = Steps(wall, steady)
    wall.now += STEP_MS - 1
    assert steps.taken() == 0
    wall.now += 3_600_000
    steady.now += 50
    assert (steps.taken(), steps.taken()) == (3_600_000 + STEP_MS - 1 - 50, 0)
    wall.now -= 10_000
    assert (steps.taken(), steps.taken()) == (-10_000, 0)


def test_the_machines_clocks_go_on():
    assert abs(SteadyClock()() - wall_clock()) < STEP_MS
    assert uptime() <= uptime()
