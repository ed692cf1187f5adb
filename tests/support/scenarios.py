"""The three documented scenarios as stories to be told of any running system, in steps that a test may look between.

A story speaks to the system through `Clients` alone. What differs is how a payload asks the handlers for something (`Words`), and how the
dependency of a job type is made to fail (`Dependency`): the clinic's handlers and the demo's are both spoken to here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

from tests.support.clients import Clients

MAX_RETRIES: Final = 3
THRESHOLD: Final = 5


@dataclass(frozen=True, slots=True)
class Words:
    """How a payload says what its runs come to: "ok" or an error code, one for all runs or one for each attempt."""

    key: str

    def __call__(self, *outcomes: str) -> dict[str, Any]:
        """The payload."""
        return {self.key: outcomes[0] if len(outcomes) == 1 else list(outcomes)}


CLINIC: Final = Words("do")
DEMO: Final = Words("simulate")


class Dependency(Protocol):
    """What the handlers of a type call; jobs with an empty payload succeed while it works and end with API_TIMEOUT while it does not."""

    def break_down(self, job_type: str) -> None:
        """It fails from now on."""

    def repair(self, job_type: str) -> None:
        """It works again."""


class DemoDependency:
    """Breaks down and recovers by itself: ten good calls, five bad ones, and so on, in each worker for itself."""

    PERIOD: Final = 15

    def break_down(self, job_type: str) -> None:
        """It will, within PERIOD calls of each worker."""

    def repair(self, job_type: str) -> None:
        """It has, after five failures."""


@dataclass(frozen=True, slots=True)
class Outage:
    """What scenario 1 left behind: the jobs in the order of their submission."""

    ran: list[str]
    """Those that ran before the circuit opened; some succeeded, some failed."""
    parked: list[str]
    """Those that came while it was open."""


def transient(sickbay: Clients, words: Words, job_type: str, delay_ms: int) -> str:
    """Scenario 3: one NETWORK_ERROR, one retry after the delay, success, and no circuit cares. The job's id."""
    job_id = sickbay.submit(job_type, words("NETWORK_ERROR", "ok"))
    sickbay.wait(job_id, "SUCCEEDED")
    job = sickbay.job(job_id)
    assert [(change["state"], change["attempt"]) for change in job["history"]] == [
        ("QUEUED", 0),
        ("RUNNING", 0),
        ("RETRYING", 1),
        ("RUNNING", 1),
        ("SUCCEEDED", 1),
    ]
    assert [error["code"] for error in job["errors"]] == ["NETWORK_ERROR"]
    retrying, again = job["history"][2:4]
    assert _ms(again) - _ms(retrying) >= delay_ms
    assert sickbay.breaker(job_type)["state"] == "CLOSED"
    return job_id


def bad_data(sickbay: Clients, words: Words, job_type: str) -> str:
    """Scenario 2: VALIDATION_ERROR is retried, then quarantined with its payload, and no circuit cares. The job's id."""
    job_id = sickbay.submit(job_type, words("VALIDATION_ERROR"))
    sickbay.wait(job_id, "QUARANTINED")
    case = sickbay.case(job_id)
    assert (case["state"], case["reason"], case["attempt"]) == ("QUARANTINED", "RETRIES_EXHAUSTED", MAX_RETRIES)
    assert case["payload"] == words("VALIDATION_ERROR")
    assert [(error["code"], error["attempt"]) for error in case["errors"]] == [("VALIDATION_ERROR", n) for n in range(1 + MAX_RETRIES)]
    assert sickbay.breaker(job_type)["state"] == "CLOSED"
    return job_id


def cure(sickbay: Clients, words: Words, job_id: str) -> None:
    """The end of scenario 2: somebody mends the data, and the job runs."""
    answer = sickbay.plane.post(
        f"/quarantine/{job_id}/resubmit", json={"payload": words("ok"), "by": "ada", "etag": sickbay.case(job_id)["etag"]}
    )
    assert answer.status_code == 200, answer.text
    sickbay.wait(job_id, "SUCCEEDED")
    assert sickbay.job(job_id)["generation"] == 1
    assert sickbay.plane.get(f"/quarantine/{job_id}").status_code == 404


def introduce(sickbay: Clients, job_type: str) -> None:
    """Make a circuit known: one job succeeds."""
    sickbay.wait(sickbay.submit(job_type), "SUCCEEDED")


def fall_ill(sickbay: Clients, dependency: Dependency, job_type: str, at_most: int, others: tuple[str, ...] = ()) -> Outage:
    """Scenario 1 up to the outage: the circuit opens after five failures in a row, later jobs are parked, `others` go on.

    The jobs are submitted one after the other, `at_most` so many: enough for the dependency to fail five times.
    """
    introduce(sickbay, job_type)
    dependency.break_down(job_type)
    ran: list[str] = []
    while sickbay.breaker(job_type)["state"] == "CLOSED":
        assert len(ran) < at_most, f"{at_most} jobs did not open the circuit: {sickbay.breaker(job_type)}"
        ran.append(sickbay.submit(job_type))
        sickbay.wait(ran[-1], "SUCCEEDED", "RETRYING", "PARKED")
    reason = sickbay.breaker(job_type)["reason"]
    assert reason["code"] == "API_TIMEOUT"
    assert reason["count"] >= THRESHOLD
    parked = sickbay.submit_all(job_type, {}, {}, {})
    healthy = [sickbay.submit(other) for other in others]
    sickbay.wait_all(parked, "PARKED")
    sickbay.wait_all(healthy, "SUCCEEDED")
    assert all(sickbay.breaker(other)["state"] == "CLOSED" for other in others)
    return Outage(ran, parked)


def recover(sickbay: Clients, dependency: Dependency, job_type: str, outage: Outage) -> None:
    """The end of scenario 1: nobody does anything, and every job comes back."""
    dependency.repair(job_type)
    sickbay.wait_all([*outage.ran, *outage.parked], "SUCCEEDED")
    assert sickbay.breaker(job_type)["state"] == "CLOSED"
    assert sickbay.plane.get("/quarantine", params={"jobType": job_type}).json()["count"] == 0


def _ms(change: dict[str, Any]) -> float:
    return datetime.fromisoformat(change["time"]).timestamp() * 1000
