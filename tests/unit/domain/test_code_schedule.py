"""Which of the schedules that live workers announce are in force."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sickbay.domain.code_schedule import Announced, CodeSchedule, CodeScheduleSet, announced, set_of
from sickbay.domain.schedule import ScheduleKey, ScheduleSpec, Timing
from sickbay.domain.workers import UNKNOWN, Fleet, Worker

REPORT = ScheduleKey("default", "report")


def at(hour, name="report"):
    return CodeSchedule(ScheduleKey("default", name), ScheduleSpec(name, Timing(f"0 {hour} * * *")), f"{name}s.make")


def fleet(*workers, unannounced=0):
    """Workers, each as the set it announces and since when."""
    live = [
        Worker(f"w{n}", f"w{n}", ("report",), schedules=one.digest if one else "", code_since=since)
        for n, (one, since) in enumerate(workers)
    ]
    return Fleet(0, live, unannounced)


OLD, NEW = set_of([at(3)]), set_of([at(4), at(5, "poll")])
SETS = {one.digest: one for one in (OLD, NEW)}


def hours(found):
    return {key.schedule_id: one.schedule.spec.timing.cron.split()[1] for key, one in found.schedules.items()}


def test_the_code_that_was_loaded_last_counts():
    """Also if it is older: then it was brought back."""
    assert hours(announced(SETS, fleet((OLD, 1), (NEW, 2)))) == {"report": "4", "poll": "5"}
    assert hours(announced(SETS, fleet((OLD, 3), (NEW, 2)))) == {"report": "3", "poll": "5"}
    found = announced(SETS, fleet((OLD, 3), (NEW, 2)))
    assert (found.schedules[REPORT].since, found.schedules[REPORT].is_disputed) == (3, True)
    assert not announced(SETS, fleet((OLD, 1), (OLD, 2))).schedules[REPORT].is_disputed


@pytest.mark.parametrize(
    ("seen", "is_certain", "has_workers"),
    [
        (fleet((OLD, 1), (None, 2)), True, True),
        (fleet((OLD, 1), unannounced=1), False, True),
        (fleet((OLD, 1), unannounced=None), False, True),
        (fleet(), True, False),
        (UNKNOWN, False, False),
    ],
    ids=["all known", "one more consumes", "the broker is away", "nobody", "the registry is away"],
)
def test_what_is_certain(seen, is_certain, has_workers):
    """Only then may anybody conclude that a schedule is announced no more."""
    found = announced(SETS, seen)
    assert (found.is_certain, found.has_workers) == (is_certain, has_workers)


def test_a_set_that_is_unknown_or_not_whole_leaves_everything_open():
    seen = fleet((OLD, 1), (NEW, 2))
    assert not announced({OLD.digest: OLD}, seen).is_certain
    assert hours(announced({OLD.digest: OLD}, seen)) == {"report": "3"}
    partial = CodeScheduleSet(NEW.schedules[:1], is_whole=False)
    assert not announced({**SETS, NEW.digest: partial}, seen).is_certain


def test_without_schedules_nothing_is_announced():
    assert announced({}, fleet((None, 0))) == Announced({}, is_certain=True, has_workers=True)


SET = st.sampled_from([None, OLD, NEW, set_of([at(6)])])


@given(st.lists(st.tuples(SET, st.integers(0, 3)), max_size=5), st.randoms())
def test_all_control_planes_come_to_the_same_result(workers, chance):
    """In whatever order the registry lists the workers."""
    sets = {one.digest: one for one, _ in workers if one}
    other = fleet(*workers)
    shuffled = list(other.workers)
    chance.shuffle(shuffled)
    assert announced(sets, replace(other, workers=shuffled)) == announced(sets, other)
