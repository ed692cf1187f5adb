"""Short ways to write the events of a job's life, as workers tell them to the ledger."""

from sickbay.domain.failure import Failure
from sickbay.domain.job import Job, JobEvent, JobState, Reason
from tests.support.clock import START

DAY = 86_400_000
TIMEOUT = Failure(START + 50, 0, 0, "API_TIMEOUT", "no answer in 30 s")


def job(job_id="j1", **fields):
    return Job(job_id, **{"job_type": "email", "submitted_at": START, "payload_json": b'{"to":"a"}', **fields})


def queued(job_id="j1", *, at=START, **fields):
    return JobEvent(job(job_id, **fields), JobState.QUEUED, at)


def scheduled(job_id="j1", *, at=START, run_at=START + 1_000, **fields):
    return JobEvent(job(job_id, run_at=run_at, **fields), JobState.SCHEDULED, at)


def running(job_id="j1", *, at=START + 100, run="w.1", **fields):
    return JobEvent(job(job_id, **fields), JobState.RUNNING, at, started_at=at, run=run)


def retrying(job_id="j1", *, at=START + 200, **fields):
    fields = {"attempt": 1, "failures": (TIMEOUT,), **fields}
    return JobEvent(
        job(job_id, **fields), JobState.RETRYING, at, started_at=at - 50, run="w.1", code="API_TIMEOUT", message=TIMEOUT.message
    )


def parked(job_id="j1", *, at=START + 300, **fields):
    return JobEvent(job(job_id, **fields), JobState.PARKED, at, reason=Reason.CIRCUIT_OPEN, code="CIRCUIT_OPEN")


def quarantined(job_id="j1", *, at=START + 400, code="API_TIMEOUT", message=TIMEOUT.message, **fields):
    fields = {"attempt": 3, "failures": (TIMEOUT,), **fields}
    ended = {"started_at": at - 50, "run": "w.9", "reason": Reason.RETRIES_EXHAUSTED}
    return JobEvent(job(job_id, **fields), JobState.QUARANTINED, at, code=code, message=message, **ended)


def succeeded(job_id="j1", *, at=START + 500, run="w.2", **fields):
    return JobEvent(job(job_id, **fields), JobState.SUCCEEDED, at, started_at=at - 50, run=run)


def cancelled(job_id="j1", *, at=START + 600, **fields):
    return JobEvent(job(job_id, **fields), JobState.CANCELLED, at, actor="ann")
