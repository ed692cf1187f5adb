"""What a process keeps of the runs that it has not reported."""

from __future__ import annotations

from dataclasses import replace

from sickbay.breaker import machine as breaker
from sickbay.breaker.tally import MAX_BREAKERS, Tally
from sickbay.breaker.window import Bucket
from sickbay.domain.breaker import BreakerConfig, BreakerKey
from sickbay.domain.outcome import SUCCESS
from tests.support.breaker_driver import BAD_DATA, BROKEN_OFF, DOWN, KEY, START

CONFIG = BreakerConfig(rate=500, slow_ms=1_000)
WIDTH = 6_000
BEGIN = START - START % WIDTH
HEALTHY = breaker.new_document(KEY, START)
AILING = replace(HEALTHY, calls=(Bucket(BEGIN, 0, 1),))
PERMIT = breaker.normal_permit(HEALTHY, "job")


class Runs:
    """One process's."""

    def __init__(self):
        self.tally, self.now = Tally(), BEGIN

    def record(self, outcome, doc=HEALTHY, permit=PERMIT, took_ms=0, times=1):
        for _ in range(times):
            found = self.tally.record(doc, permit, outcome, took_ms, config=CONFIG, now=self.now)
        return found


def test_good_runs_wait_for_the_next_bad_one():
    runs = Runs()
    assert runs.record(SUCCESS, times=3) is None
    assert runs.record(BAD_DATA) is None
    assert runs.record(BROKEN_OFF) is None
    runs.now += WIDTH
    assert runs.record(SUCCESS, times=2) is None
    assert runs.record(DOWN) == (Bucket(BEGIN, 4, 0), Bucket(BEGIN + WIDTH, 2, 0))
    assert runs.record(SUCCESS, took_ms=1_000) == ()


def test_while_there_are_bad_runs_good_ones_are_reported_once_a_second():
    runs = Runs()
    assert runs.record(SUCCESS, AILING) == ()
    runs.now += 999
    assert runs.record(SUCCESS, AILING, times=5) is None
    runs.now += 1
    assert runs.record(SUCCESS, AILING) == (Bucket(BEGIN, 5, 0),)
    assert runs.record(BAD_DATA, AILING) == (), "it is reported in any case"


def test_runs_older_than_the_window_are_not_kept():
    runs = Runs()
    for _ in range(30):
        runs.record(SUCCESS)
        runs.now += WIDTH
    taken = runs.record(DOWN)
    assert taken is not None
    assert len(taken) == 10


def test_what_could_not_be_reported_is_kept():
    runs = Runs()
    runs.record(SUCCESS)
    taken = runs.record(DOWN)
    runs.record(SUCCESS)
    runs.tally.put_back(PERMIT, taken, CONFIG, runs.now)
    assert runs.record(DOWN) == (Bucket(BEGIN, 2, 0),)


def test_a_new_epoch_begins_with_nothing():
    runs, later = Runs(), replace(PERMIT, epoch=PERMIT.epoch + 1)
    runs.record(SUCCESS, times=5)
    assert runs.record(DOWN, permit=later) == ()
    assert runs.record(DOWN) == (), "a run of before"
    runs.tally.put_back(PERMIT, (Bucket(BEGIN, 9, 0),), CONFIG, runs.now)
    assert runs.record(SUCCESS) is None
    assert runs.record(DOWN, permit=later) == ()


def test_where_jobs_are_refused_nothing_is_kept():
    runs = Runs()
    assert runs.record(SUCCESS, replace(HEALTHY, state=breaker.BreakerState.OPEN)) is None
    assert runs.record(DOWN) == ()


def test_breakers_are_bounded():
    runs = Runs()
    permits = [replace(PERMIT, key=BreakerKey(f"type-{number}")) for number in range(MAX_BREAKERS + 1)]
    for permit in permits:
        runs.record(SUCCESS, permit=permit)
    assert runs.record(DOWN, permit=permits[-1]) == (Bucket(BEGIN, 1, 0),)
    assert runs.record(DOWN, permit=permits[0]) == ()
