"""Programs that run a worker's jobs over WorkerService.Work: the example in plain Python, as a user starts it, and what kills leave."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.clients import Clients
from tests.support.fleet import Fleet
from tests.support.process import Lines
from tests.support.system_under_test import Product

ROOT: Final = Path(__file__).parents[2]
ENV: Final = {"LOG_FORMAT": "json", "RETRY_DELAY_MS": "100", "UNKNOWN_TYPE_GRACE": "60"}
Start = Callable[..., Product]


class Program:
    """The example in a process of its own, which has only the contract's code, compiled anew."""

    def __init__(self, folder: Path, port: int) -> None:
        env = os.environ | {"SICKBAY_WORKER": f"127.0.0.1:{port}", "SLOTS": "2"}
        words = [sys.executable, "worker.py"]
        self.process = subprocess.Popen(words, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self.process.stdout
        self.out = Lines(self.process.stdout)

    def connected(self) -> Program:
        """Wait until it has registered."""
        assert self.out.wait_for(lambda line: line.startswith("connected")), self.out.text
        return self

    def running(self, job_id: str) -> None:
        """Wait until it runs this job."""
        assert self.out.wait_for(lambda line: line == f"running {job_id}\n"), self.out.text

    def stop(self, sent: int = signal.SIGKILL) -> int:
        """Send it a signal, and wait for its end; its exit code."""
        self.process.send_signal(sent)
        code = self.process.wait(60)
        self.out.close()
        return code


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example and the code that its first lines say how to generate."""
    folder = tmp_path_factory.mktemp("program")
    files = [*(ROOT / "proto/google/api").glob("*.proto"), *(ROOT / "proto/sickbay/jobs/v1").glob("*.proto")]
    options = [f"-I{ROOT / 'proto'}", f"--python_out={folder}", f"--grpc_python_out={folder}"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *options, *files], check=True)
    for package in ("sickbay", "sickbay/jobs", "sickbay/jobs/v1"):
        (folder / package / "__init__.py").touch()  # so that it is found before our own, which the tests have installed
    (folder / "worker.py").write_bytes((ROOT / "examples/python_worker/worker.py").read_bytes())
    return folder


@pytest.fixture
def program(compiled: Path) -> Iterator[Callable[[int], Program]]:
    """Starts programs, and kills what is left of them."""
    programs: list[Program] = []

    def start(port: int) -> Program:
        programs.append(Program(compiled, port))
        return programs[-1]

    yield start
    for one in programs:
        if one.process.poll() is None:
            one.stop()


def result(sickbay: Clients, job_id: str) -> Any:
    return sickbay.job(job_id)["result"]


def test_the_example_runs_jobs_and_stops_when_it_is_asked_to(tmp_path: Path, start: Start, program: Callable[[int], Program]):
    product = start(tmp_path, ENV, options=["--programs"]).ready()
    assert "runs the jobs of programs that connect" in product.out.text
    with Clients(product) as sickbay:
        mine = program(sickbay.grpc_ports["Worker"]).connected()
        good, bad = sickbay.submit("thumbnail", {"image": "cat.png"}), sickbay.submit("thumbnail", {"seconds": 0})
        sickbay.wait(good, "SUCCEEDED")
        assert result(sickbay, good) == {"thumbnail": "cat.png.small", "attempt": 0, "process": mine.process.pid}
        sickbay.wait(bad, "QUARANTINED")
        found = sickbay.job(bad)
        assert [error["code"] for error in found["errors"]] == ["VALIDATION_ERROR"] * 4
        assert found["errors"][0]["message"] == "the payload has no image"
        assert [one["jobTypes"] for one in sickbay.plane.get("/workers").json()["workers"]] == [["thumbnail"]]
        last = sickbay.submit("thumbnail", {"image": "last.png", "seconds": 0.5})
        mine.running(last)
        assert mine.stop(signal.SIGTERM) == 0
        sickbay.wait(last, "SUCCEEDED")
        assert "sickbay_program_runs_lost_total 0.0" in sickbay.worker.get("/metrics").text


def test_a_killed_programs_jobs_run_in_another_one_and_no_attempt_is_counted(
    tmp_path: Path, start: Start, program: Callable[[int], Program]
):
    with Clients(start(tmp_path, ENV, options=["--programs"]).ready()) as sickbay:
        port = sickbay.grpc_ports["Worker"]
        first = program(port).connected()
        jobs = [sickbay.submit("thumbnail", {"image": str(number), "seconds": 1}) for number in range(2)]
        waiting = sickbay.submit("thumbnail", {"image": "waiting", "seconds": 0})
        for job_id in jobs:
            first.running(job_id)
        first.stop()
        second = program(port).connected()
        for job_id in (*jobs, waiting):
            sickbay.wait(job_id, "SUCCEEDED")
            assert result(sickbay, job_id)["process"] == second.process.pid
            found = sickbay.job(job_id)
            assert (found["attempt"], found["errors"], found["duplicates"]) == (0, [], 0)
        assert "sickbay_program_runs_lost_total 2.0" in sickbay.worker.get("/metrics").text


def test_a_job_that_kills_its_programs_is_quarantined_after_the_third(tmp_path: Path, start: Start, program: Callable[[int], Program]):
    with Clients(start(tmp_path, ENV, options=["--programs"]).ready()) as sickbay:
        port = sickbay.grpc_ports["Worker"]
        victim = program(port).connected()
        killer = sickbay.submit("thumbnail", {"image": "killer", "seconds": 60})
        for more in (True, True, False):
            victim.running(killer)
            victim.stop()
            victim = program(port).connected() if more else victim
        sickbay.wait(killer, "QUARANTINED")
        assert sickbay.case(killer)["reason"] == "WORKER_LOST"


def test_a_killed_worker_loses_nothing_and_the_program_connects_to_the_next_one(
    tmp_path: Path, start: Start, program: Callable[[int], Program]
):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = ["--programs", "--worker-grpc-port", str(port)]
    product = start(tmp_path, ENV, options=options).ready()
    with Clients(product) as sickbay:
        mine = program(port).connected()
        job_id = sickbay.submit("thumbnail", {"image": "cat.png", "seconds": 1})
        mine.running(job_id)
        product.kill()
    assert mine.out.wait_for(lambda line: line.startswith("the stream has ended"))
    with Clients(start(tmp_path, ENV, options=options).ready()) as sickbay:
        sickbay.wait_until_known(job_id)
        sickbay.wait(job_id, "SUCCEEDED")
        assert result(sickbay, job_id)["process"] == mine.process.pid
        assert sickbay.job(job_id)["attempt"] == 0


KILLER: Final = '''
import os, signal
from sickbay.observer import Observer

class Killer(Observer):
    """Dies by kill -9 between the confirm of the copy of a lost program's job and the acknowledgement of the job."""
    def published(self, messages, seconds, error):
        if error is None and any("runs-lost" in message.headers for message in messages):
            os.kill(os.getpid(), signal.SIGKILL)

killer = Killer()
'''


@pytest.mark.servers
@pytest.mark.timeout(180)
@pytest.mark.parametrize("dies_too", [False, True], ids=["its worker lives", "its worker dies in the middle"])
def test_the_job_of_a_lost_program_runs_in_a_program_of_another_worker(fleet: Fleet, program: Callable[[int], Program], dies_too: bool):
    (fleet.folder / "killer.py").write_text(KILLER)
    fleet.launch_all(workers=0)
    mine = {"JOB_HANDLERS": "", "WORK_STREAM": "local", "UNKNOWN_TYPE_GRACE": "60"}
    (first,) = fleet.launch("worker", **mine, **({"OBSERVERS": "killer:killer"} if dies_too else {}))
    fleet.ready()
    victim = program(first.ports[1]).connected()
    with Clients(fleet) as sickbay:
        job_id = sickbay.submit("thumbnail", {"image": "cat.png", "seconds": 2})
        victim.running(job_id)
        victim.process.send_signal(signal.SIGSTOP)  # or it may have ended by the time that another one is there
        (second,) = fleet.launch("worker", **mine)
        other = program(second.ready().ports[1]).connected()
        victim.stop()
        if dies_too:
            assert first.wait() == -signal.SIGKILL
        sickbay.wait(job_id, "SUCCEEDED")
        found = sickbay.job(job_id)
        assert (found["attempt"], found["result"]["process"]) == (0, other.process.pid)
        other.stop(signal.SIGTERM)
