"""A process ends when it is told to, whatever its handlers left behind; what they left behind does not stand in for it afterwards."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from scripts.servers import free_port
from tests.support import SUPPORT
from tests.support.clients import Clients
from tests.support.fleet import Fleet
from tests.support.forked import forked
from tests.support.system_under_test import PORTS, Product

pytestmark = pytest.mark.executed

ENV = {"JOB_HANDLERS": "leaving_handlers", "LOG_FORMAT": "json"}
SOON_S = 15
"""Far less than what is left behind lasts."""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """With the handlers in it; what they leave behind ends with the test."""
    shutil.copy(SUPPORT / "leaving_handlers.py", tmp_path)
    yield tmp_path
    for left in tmp_path.glob("left.*"):
        with suppress(ProcessLookupError):
            os.kill(int(left.suffix[1:]), signal.SIGKILL)


def left_behind(folder: Path) -> list[int]:
    return [int(left.suffix[1:]) for left in folder.glob("left.*")]


def run_job(product: Any, job_type: str) -> None:
    with Clients(product) as sickbay:
        sickbay.wait(sickbay.submit(job_type), "SUCCEEDED")


def ends_soon(product: Any, number: int = signal.SIGTERM) -> int:
    """The exit code; its streams may be open for longer, in the hands of what was left behind."""
    product.process.send_signal(number)
    return int(product.process.wait(SOON_S))


NAMED = {"thread": "the thread 'stray'", "multiprocessing": "the child process", "subprocess": "", "fork": "", "fork-async": ""}


@pytest.mark.parametrize("left", NAMED)
def test_what_a_handler_leaves_behind_does_not_keep_the_process(folder: Path, start: Callable[..., Product], left: str):
    """SIGTERM ends it in seconds, with exit code 0 and a line that names what is in the way."""
    product = start(folder, ENV).ready()
    run_job(product, left)
    assert ends_soon(product) == 0
    for pid in left_behind(folder):
        os.kill(pid, signal.SIGKILL)
    product.end_well()
    if NAMED[left]:
        assert NAMED[left] in product.err.text


@pytest.mark.servers
@pytest.mark.parametrize("left", ["thread", "multiprocessing"])
def test_nor_does_it_keep_a_worker_of_a_fleet(folder: Path, corner: Any, left: str):
    """The same for a process of its own."""
    with Fleet(folder, ENV | dict(corner.env)) as fleet:
        with forked():
            fleet.launch_all(workers=0)
        fleet.launch("worker")
        fleet.ready()
        run_job(fleet, left)
        assert ends_soon(fleet.workers[0]) == 0
        for pid in left_behind(folder):
            os.kill(pid, signal.SIGKILL)
        assert NAMED[left] in fleet.workers[0].err.text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_every_signal_that_asks_for_the_end_drains(folder: Path, start: Callable[..., Product], number: int):
    """A closed terminal is no kill: running jobs finish, and the exit code is 0."""
    product = start(folder, ENV).ready()
    run_job(product, "ok")
    product.process.send_signal(number)
    assert product.logged("stopping")
    assert product.wait() == 0


@pytest.mark.servers
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT])
def test_so_does_every_service_of_a_fleet(folder: Path, corner: Any, number: int):
    """All three of them."""
    with Fleet(folder, ENV | dict(corner.env)) as fleet:
        fleet.launch_all(workers=1).ready()
        for services in fleet.services.values():
            assert ends_soon(services[0], number) == 0


def test_nohup_is_obeyed(folder: Path, start: Callable[..., Product]):
    """Whoever had SIGHUP ignored before the start meant it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        product = start(folder, ENV)
    finally:
        signal.signal(signal.SIGHUP, before)
    product.ready().process.send_signal(signal.SIGHUP)
    run_job(product, "ok")


def test_a_signal_to_a_forked_child_is_not_ours(folder: Path, start: Callable[..., Product]):
    """A handler that terminates its own child does not stop the system."""
    product = start(folder, ENV).ready()
    run_job(product, "signalled")
    run_job(product, "ok")
    assert "stopping" not in product.err.text


def test_no_thread_goes_on_in_a_fork(folder: Path, start: Callable[..., Product]):
    """Those of grpc's core would answer on connections of the parent, which both then lose."""
    product = start(folder, ENV).ready()
    with Clients(product) as sickbay:
        sickbay.wait(sickbay.submit("threads"), "SUCCEEDED")  # the connection of this call is open while the handler forks


def fixed_ports() -> Mapping[str, str]:
    """Ports that are free now."""
    return {option: str(free_port()) for option in PORTS}


@pytest.mark.parametrize("fork", ["fork", "fork-async", "multiprocessing"])
def test_a_fork_that_outlives_a_kill_keeps_neither_ports_nor_the_folder(folder: Path, start: Callable[..., Product], fork: str):
    """The next start finds both free, although the fork still lives."""
    options = [word for pair in fixed_ports().items() for word in pair]
    product = start(folder, ENV, options).ready()
    run_job(product, fork)
    product.process.kill()
    product.process.wait(SOON_S)
    (left,) = left_behind(folder)
    with forked():
        again = start(folder, ENV, options)
    again.ready()
    os.kill(left, 0)  # it lives
    run_job(again, "ok")
    os.kill(left, signal.SIGKILL)
    product.wait()
    forget(product)


def forget(product: Product) -> None:
    """It was killed: the end of the test has nothing to say about its exit code."""
    product.process.returncode = 0


@pytest.mark.servers
def test_a_fork_that_outlives_a_kill_holds_no_message(folder: Path, corner: Any):
    """RabbitMQ sees at once that the worker is gone, and not after two heartbeats: its connection is not open in the fork."""
    with Fleet(folder, ENV | dict(corner.env)) as fleet:
        with forked():
            fleet.launch_all(workers=0)
        fleet.launch("worker")
        fleet.ready()
        with Clients(fleet) as sickbay:
            job = sickbay.submit("held-fork")
            sickbay.wait(job, "RUNNING")
            while not left_behind(folder):
                time.sleep(0.01)
            (folder / "killed").touch()
            worker = fleet.workers[0]
            worker.process.kill()
            worker.process.wait(SOON_S)
            with forked():
                fleet.launch("worker")
            began = time.monotonic()
            sickbay.wait(job, "SUCCEEDED")
            assert time.monotonic() - began < SOON_S
        for pid in left_behind(folder):
            os.kill(pid, signal.SIGKILL)
        fleet.retire(worker)
