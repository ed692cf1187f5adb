"""The clock that leaves standstills out, driven by hand: wall seconds pass, beats come when the test lets them."""

import pytest

from worker.alive import BEAT_S, MAX_GAP_S, AliveClock


class Bench:
    """A clock, its seconds, and the beat that it has asked for."""

    def __init__(self):
        self.now = 100.0
        self.beats = []
        self.told = []
        self.clock = AliveClock(self._later, seconds=lambda: self.now, on_standstill=self.told.append)

    def _later(self, _, beat):
        self.beats.append(beat)
        return beat

    def beat(self, after=BEAT_S):
        self.now += after
        self.beats.pop()()


def test_while_it_beats_every_second_counts():
    """Without standstills it is an ordinary clock."""
    bench = Bench()
    bench.clock.use()
    began = bench.clock.alive()
    for _ in range(40):
        bench.beat()
    bench.now += 0.1
    assert bench.clock.alive() - began == pytest.approx(10.1)
    assert (bench.clock.lost(), bench.told) == (0, [])


def test_a_standstill_counts_as_a_second_and_is_told():
    """SIGSTOP for 35 s in the middle of a run takes one second of it, before and after the beat that sees it."""
    bench = Bench()
    bench.clock.use()
    began = bench.clock.alive()
    bench.beat()
    bench.now += 35
    assert bench.clock.alive() - began == pytest.approx(BEAT_S + MAX_GAP_S)
    assert bench.clock.lost() == pytest.approx(34)
    bench.beat(after=0)
    assert bench.clock.alive() - began == pytest.approx(BEAT_S + MAX_GAP_S)
    assert bench.clock.lost() == pytest.approx(34)
    assert bench.told == [pytest.approx(35)]


def test_it_beats_only_while_it_is_used():
    """An idle worker wakes up for nothing, and the time in which nobody used it is no standstill."""
    bench = Bench()
    bench.clock.use()
    bench.clock.release()
    bench.beat(after=5)
    assert bench.beats == []
    bench.now += 3_600
    bench.clock.use()
    assert len(bench.beats) == 1
    bench.beat()
    assert (bench.clock.lost(), bench.told) == (0, [])


def test_one_that_is_used_again_before_its_last_beat_beats_once():
    """Jobs that come one after the other do not multiply the beats."""
    bench = Bench()
    for _ in range(5):
        bench.clock.use()
        bench.clock.release()
    assert len(bench.beats) == 1
