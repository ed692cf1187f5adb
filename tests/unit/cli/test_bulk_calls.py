"""Ctrl-C at any step of a command for many jobs: it ends, and its summary is true."""

from __future__ import annotations

import re
import signal
import sys
import threading
from types import FrameType
from typing import Any, Self

import pytest

from sickbay_cli import bulk_calls
from sickbay_cli.bulk_calls import BulkCalls
from sickbay_cli.options import Endpoint
from tests.support.cli_services import job

JOB_IDS = [f"j{number}" for number in range(3)]
ENDPOINT = Endpoint("Job API", "--jobapi", "localhost:1", 1.0)
LOCKING = ("sickbay_cli/bulk_calls.py", "concurrent/futures/thread.py", "concurrent/futures/_base.py", "threading.py")
PATIENCE_S = 20


class CtrlC:
    """Sends SIGINT before the n-th line that the main thread executes in a module that starts threads or takes locks."""

    def __init__(self, number: int) -> None:
        self.sent = False
        self._left = number
        self._released = threading.Event()
        self._before = sys.gettrace()
        """That of coverage, which would measure nothing any more in this process."""

    def __enter__(self) -> Self:
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)
        self._released.set()

    def answer(self, job_id: str) -> Any:
        """A call that ends when the signal is on its way."""
        self._released.wait(PATIENCE_S)
        return job(job_id)

    def _trace(self, frame: FrameType, event: str, _: object) -> Any:
        if not frame.f_code.co_filename.endswith(LOCKING):
            return None
        if event == "line" and not self.sent:
            self._left -= 1
            if self._left == 0 or frame.f_code.co_name == "collect":
                self._released.set()
            if self._left == 0:
                self.sent = True
                signal.raise_signal(signal.SIGINT)
        return self._trace


def test_ctrl_c_at_any_step_leaves_no_thread_behind(capsys: pytest.CaptureFixture[str]):
    """A lock that stays locked would keep the process from ending."""
    number = 1
    while True:
        begun = set(threading.enumerate())
        done = False
        with CtrlC(number) as ctrl_c:
            try:
                BulkCalls("cancelled", ENDPOINT, as_json=False).run(JOB_IDS, ctrl_c.answer, alone=False)
                done = True
            except KeyboardInterrupt:
                pass
        for thread in set(threading.enumerate()) - begun:
            thread.join(PATIENCE_S)
            assert not thread.is_alive(), f"after step {number}"
        printed = capsys.readouterr()
        if not ctrl_c.sent:
            break
        summary = r"interrupted: [0-3] of 3 jobs cancelled; the others were not touched\n|"  # every call gets its response within the grace
        assert "cancelled 3 jobs" in printed.out or (re.fullmatch(summary, printed.err) and not done), (number, printed)
        number += 1
    assert done
    assert number > 50


def test_ctrl_c_that_does_not_wake_the_wait_is_heard(monkeypatch: pytest.MonkeyPatch):
    """A signal in the last moment before the main thread waits, or that the system gives to another thread, does not end the wait."""
    monkeypatch.setattr(bulk_calls, "_TURN_S", 0.01)
    monkeypatch.setattr(bulk_calls, "LAST_S", 0.01)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    waiting, release = threading.Barrier(len(JOB_IDS) + 1), threading.Event()

    def call(job_id: str) -> Any:
        waiting.wait(PATIENCE_S)
        release.wait()
        return job(job_id)

    def ctrl_c() -> None:
        waiting.wait(PATIENCE_S)
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)

    sender = threading.Thread(target=ctrl_c)
    stuck = threading.Timer(PATIENCE_S, release.set)
    try:
        sender.start()
        stuck.start()
        with pytest.raises(KeyboardInterrupt):
            BulkCalls("cancelled", ENDPOINT, as_json=False).run(JOB_IDS, call, alone=False)
        assert not release.is_set()
    finally:
        stuck.cancel()
        release.set()
        sender.join()
        signal.signal(signal.SIGINT, before)
