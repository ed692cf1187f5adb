"""submit --retry-for: what a limit rejects is submitted again when its answer says, and nothing else is."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from sickbay.contract.faults import Fault
from sickbay.jobs.v1 import job_service_pb2 as pb
from sickbay.server.errors import batch_error
from sickbay_cli import submit as command
from sickbay_cli.retrying import Retries
from tests.support.cli_services import BUSY, JOB_ID, Fleet, job


class Time:
    """Sleeping moves it; it is written down."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Door:
    """A Job API with a bucket: so many jobs at once, and so many a second."""

    def __init__(self, time: Time, burst: int, rate: float) -> None:
        self.time, self.room, self.rate, self.burst, self.at = time, float(burst), rate, burst, 0.0

    def judge(self, late: int) -> Fault | None:
        self.room = min(float(self.burst), self.room + (self.time.now - self.at) * self.rate)
        self.at = self.time.now
        if self.room >= 1 - 1e-6:
            self.room -= 1
            return None
        return too_fast((1 - self.room + late) / self.rate)

    def batch(self, request: pb.BatchSubmitJobsRequest) -> pb.BatchSubmitJobsResponse:
        results, late = [], 0
        for one in request.requests:
            fault = self.judge(late)
            late += fault is not None
            answer = (
                pb.BatchSubmitResult(job_id=f"id-{one.payload_json}") if fault is None else pb.BatchSubmitResult(error=batch_error(fault))
            )
            results.append(answer)
        return pb.BatchSubmitJobsResponse(results=results)


def too_fast(wait: float) -> Fault:
    return Fault(grpc.StatusCode.RESOURCE_EXHAUSTED, "the limit is reached", "SUBMISSION_RATE_EXCEEDED", wait)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    found = Time()
    monkeypatch.setattr(command, "Retries", lambda patience: Retries(patience, lambda: found.now, found.sleep))
    return found


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    with Fleet() as started:
        yield started


def one_by_one(*answers: object) -> object:
    left = iter(answers)
    return lambda _request: next(left)


def test_one_job_waits_for_its_place(fleet: Fleet, time: Time):
    fleet.answers["SubmitJob"] = one_by_one(too_fast(0.5), too_fast(1.5), pb.SubmitJobResponse(job=job()))
    result = fleet.run("submit", "email", "--retry-for", "1m")
    assert (result.exit_code, result.stdout, time.slept) == (0, f"accepted {JOB_ID}\n", [0.5, 1.5])
    assert result.stderr.count("waiting for room") == 1


def test_patience_ends(fleet: Fleet, time: Time):
    """With the service's own words; it does not sleep in vain."""
    fleet.answers["SubmitJob"] = too_fast(4.0)
    result = fleet.run("submit", "email", "--retry-for", "10s")
    assert (result.exit_code, time.slept) == (1, [4.0, 4.0])
    assert "the limit is reached" in result.stderr


@pytest.mark.parametrize("answer", [BUSY, Fault(grpc.StatusCode.RESOURCE_EXHAUSTED, "too large")])
def test_nothing_else_is_submitted_again(fleet: Fleet, time: Time, answer: Fault):
    """It may have been accepted, or never will be."""
    fleet.answers["SubmitJob"] = answer
    assert fleet.run("submit", "email", "--retry-for", "1m").exit_code != 0
    assert (len(fleet.calls), time.slept) == (1, [])


def test_without_the_option_nothing_waits(fleet: Fleet, time: Time):
    fleet.answers["SubmitJob"] = too_fast(0.5)
    assert fleet.run("submit", "email").exit_code == 1
    assert (len(fleet.calls), time.slept) == (1, [])


def test_a_batch_is_submitted_at_the_rate_each_job_once(fleet: Fleet, time: Time):
    """Only what was rejected goes again, when it is due: 30 jobs at 10/s, 10 at once, take 2 s."""
    fleet.answers["BatchSubmitJobs"] = Door(time, 10, 10).batch
    result = fleet.run("submit", "email", "--count", "30", "--retry-for", "1m")
    assert (result.exit_code, result.stdout) == (0, "accepted 30 jobs\n")
    assert time.now == pytest.approx(2.0, abs=0.11)
    assert [len(request.requests) for request in fleet.requests] == pytest.approx([30, 10, 10], abs=1)


def test_lines_that_are_wrong_are_not_submitted_again(fleet: Fleet, time: Time, tmp_path):
    """And what is left when patience ends is reported by its line."""
    fleet.answers["BatchSubmitJobs"] = Door(time, 1, 0.5).batch
    lines = ['{"jobType": "email", "payload": {}}', "[]", *['{"jobType": "email", "payload": {}}'] * 2]
    (tmp_path / "jobs.jsonl").write_text("\n".join(lines))
    result = fleet.run("submit", "--from", str(tmp_path / "jobs.jsonl"), "--retry-for", "3s")
    assert result.exit_code == 1
    assert result.stdout == "accepted 2 jobs, rejected 2\n"
    assert [line.split(":")[0] for line in result.stderr.splitlines() if line.startswith("line ")] == ["line 2", "line 4"]
    assert time.slept == [2.0]
