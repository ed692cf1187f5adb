"""Handlers that leave something behind: a thread that Python waits for, a child, a fork; and one that writes more than anybody reads.

What they leave behind writes its process id to a file `left.PID`, so that a test can end it.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Final

from sickbay import Job, JobError, handler

HERE: Final = Path(__file__).parent
LONG_S: Final = 300
AT_LENGTH: Final = ", at length" * 50


def note(pid: int) -> None:
    (HERE / f"left.{pid}").touch()


def linger() -> None:
    note(os.getpid())
    time.sleep(LONG_S)


@handler("ok")
async def ok(job: Job) -> None:
    """Nothing special."""


@handler("thread")
def thread(job: Job) -> None:
    """Leave a thread behind that is no daemon."""
    threading.Thread(target=time.sleep, args=(LONG_S,), name="stray", daemon=False).start()


@handler("multiprocessing")
def child(job: Job) -> None:
    """Leave a child behind that `multiprocessing` waits for at the end."""
    multiprocessing.get_context("fork").Process(target=linger).start()


@handler("subprocess")
def program(job: Job) -> None:
    """Leave another program behind."""
    note(subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({LONG_S})"]).pid)


@handler("fork")
def fork(job: Job) -> None:
    """Leave a copy of the whole process behind; the parent returns once it is there, and lives on."""
    ready, told = os.pipe()
    if os.fork() == 0:
        note(os.getpid())
        os.write(told, b"x")
        time.sleep(LONG_S)
        os._exit(0)
    os.read(ready, 1)


@handler("fork-async")
async def fork_async(job: Job) -> None:
    """The same on the handlers' loop."""
    fork(job)


@handler("threads")
async def threads(job: Job) -> None:
    """Fork, and fail if the fork has any thread but the one that forked."""
    pid = os.fork()
    if pid == 0:
        time.sleep(0.2)  # for threads that are started in it
        os._exit(len(list(Path("/proc/self/task").iterdir())))
    count = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if count != 1:
        raise JobError("THREADS", f"{count} threads", kind="data")


@handler("signalled")
def signalled(job: Job) -> None:
    """End a forked child with SIGTERM, as `Process.terminate` does.

    A fork of a process with threads may have copied a lock that one of them held, and stand still: then another one is made.
    """
    for _ in range(5):
        child = multiprocessing.get_context("fork").Process(target=linger)
        child.start()
        for _ in range(200):
            if (HERE / f"left.{child.pid}").exists():
                child.terminate()
                child.join()
                return
            time.sleep(0.01)
        child.kill()
        child.join()
    raise RuntimeError("no forked child came to life")


@handler("held-fork")
def held_fork(job: Job) -> None:
    """Leave a fork behind, and run on in the first run, until somebody kills the process."""
    fork(job)
    if not (HERE / "killed").exists():
        time.sleep(LONG_S)


@handler("prints")
async def prints(job: Job) -> None:
    """Print more than a pipe holds."""
    for number in range(2_000):
        print(f"line {number} of a handler that tells everything it does{AT_LENGTH}", flush=True)  # noqa: T201 - as handlers do
        print(f"line {number} to standard error, with a surrogate \udce9{AT_LENGTH}", file=sys.stderr)  # noqa: T201 - the same
