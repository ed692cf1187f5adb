"""What the watchdog says and does about a loop that a handler blocks, driven by hand."""

import asyncio
import contextvars
import logging
import sys

import pytest

from sickbay.domain.job import Job
from sickbay.handlers.registry import HandlerSpec
from worker.alive import BEAT_S
from worker.run import Run
from worker.watchdog import Watchdog


class Loop:
    """A handlers' loop that does what the test says."""

    def __init__(self):
        self.run = None
        self.is_busy = True
        self.job_types = set()
        self.last_beat_at = 0.0

    def stalled_s(self, now):
        return now - self.last_beat_at

    def current(self):
        return self.run

    def frame(self):
        return sys._getframe()


class Handle:
    """A timer's."""

    def __init__(self, looks, look):
        self.cancel = lambda: looks.remove(look)


class Bench:
    def __init__(self):
        self.now = 0.0
        self.looks = []
        self.given_up = []
        self.loop = Loop()
        self.dog = Watchdog(
            self._later,
            lambda *told: self.given_up.append(told),
            timeout_s=30,
            is_needed=lambda: self.loop.is_busy,
            seconds=lambda: self.now,
        )
        self.dog.watch(self.loop)

    def _later(self, _, look):
        self.looks.append(look)
        return Handle(self.looks, look)

    def pass_time(self, seconds, *, blocked):
        for _ in range(round(seconds / BEAT_S)):
            self.now += BEAT_S
            if not blocked:
                self.loop.last_beat_at = self.now
            self.looks.pop()()


@pytest.fixture
def bench():
    """A watchdog whose timers are the test's."""
    return Bench()


async def run_of(job_type="email", seconds=5.0):
    """A run that could be the culprit."""
    done = asyncio.get_running_loop().create_future()
    return Run(HandlerSpec(job_type, print), Job("j", job_type), seconds, contextvars.copy_context(), done)


async def test_it_names_the_handler_and_the_line_after_a_second(bench, caplog):
    """Once for each time that the loop is blocked."""
    bench.loop.run = await run_of()
    bench.pass_time(1.0, blocked=True)
    assert caplog.text == ""
    bench.pass_time(1.0, blocked=True)
    (line,) = caplog.records
    assert "the handler of email blocks the event loop at" in line.getMessage()
    assert "test_watchdog.py" in line.getMessage()
    assert bench.dog.blocked == {"email": 1}
    assert bench.loop.run.blocks
    bench.pass_time(1.0, blocked=False)
    bench.pass_time(2.0, blocked=True)
    assert bench.dog.blocked == {"email": 2}


async def test_it_gives_the_loop_up_when_one_run_has_blocked_it_for_its_whole_timeout(bench, caplog):
    """Not before, and not for one that was merely seen at it last."""
    caplog.set_level(logging.INFO)
    bench.loop.run = run = await run_of(seconds=5)
    bench.pass_time(4.5, blocked=True)
    assert bench.given_up == []
    bench.pass_time(1.5, blocked=True)
    ((loop, culprit, place),) = bench.given_up
    assert (loop, culprit) == (bench.loop, run)
    assert "test_watchdog.py" in place


async def test_many_that_block_it_in_turn_are_no_culprit(bench):
    """Each new face begins anew."""
    for number in range(10):
        bench.loop.run = await run_of(f"t{number}", seconds=2)
        bench.pass_time(1.5, blocked=True)
    assert bench.given_up == []
    assert len(bench.dog.blocked) == 10


async def test_code_that_belongs_to_no_run_is_given_the_default_timeout(bench, caplog):
    """A callback that a handler left behind blocks as well."""
    bench.pass_time(25, blocked=True)
    assert "a callback of some handler blocks the event loop" in caplog.text
    assert bench.given_up == []
    bench.pass_time(10, blocked=True)
    assert bench.given_up[0][1] is None


async def test_where_nobody_can_tell_whose_code_it_is_those_are_named_that_ran(bench, caplog):
    """Ten at most."""
    bench.loop.job_types = {"sms", "email"}
    bench.pass_time(3, blocked=True)
    bench.pass_time(1, blocked=False)
    assert "a callback that a handler of email, sms has left behind blocks the event loop" in caplog.text
    bench.loop.job_types = {f"t{number}" for number in range(13)}
    bench.pass_time(3, blocked=True)
    assert "t6 and 3 more types has left behind" in caplog.text


async def test_a_process_that_stood_still_as_a_whole_blames_nobody(bench, caplog):
    """SIGSTOP stops the watchdog, too: the first look after it says nothing."""
    bench.loop.run = await run_of()
    bench.pass_time(1, blocked=False)
    bench.now += 35
    bench.looks.pop()()
    assert (caplog.text, bench.given_up) == ("", [])


async def test_it_looks_only_while_something_runs(bench):
    """An idle worker wakes up for nothing, and does not take the pause for a standstill."""
    bench.loop.is_busy = False
    bench.pass_time(BEAT_S, blocked=False)
    assert bench.looks == []
    bench.now += 3_600
    bench.loop.is_busy, bench.loop.last_beat_at = True, bench.now
    bench.loop.run = await run_of()
    bench.dog.start()
    bench.dog.start()
    bench.pass_time(2, blocked=True)
    assert bench.dog.blocked == {"email": 1}
