"""Whatever way the copies of a job go, each has its priority."""

from dataclasses import replace
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from sickbay.adapters.sql.merge import changes_from, completed
from sickbay.adapters.sql.quarantine_store import lease_of
from sickbay.adapters.sql.rows import JOB_VALUES, event_of, job_of, values_of
from sickbay.domain.breaker import BreakerState
from sickbay.domain.job import Job, JobEvent, JobState, Reason
from sickbay.domain.outcome import Outcome, OutcomeKind
from sickbay.domain.priority import Priority
from sickbay.domain.retry import RetryPolicy, after_fault, after_run
from sickbay.messages.codec import decode_events, decode_job, encode_event, encode_job, job_message
from sickbay.ports import TO_MAIN

FAILED = Outcome(OutcomeKind.SYSTEMIC, "API_TIMEOUT", "no answer")


def row(event):
    return SimpleNamespace(
        **dict(zip(JOB_VALUES, values_of(event), strict=True)), claim_attempt=0, claim_actor="", run_at=None, schedule_id=None, tick_at=None
    )


def parked(job):
    return JobEvent(job, JobState.PARKED, 5, reason=Reason.CIRCUIT_OPEN)


def recorded(job):
    ((record, _),) = changes_from(None, [parked(job)])
    return record.job


COPIES = {
    "sent": lambda job: decode_job(encode_job(job), "m", 1),
    "sent with headers": lambda job: decode_job((sent := job_message(TO_MAIN, job)).body, "m", 1, sent.headers),
    "retried": lambda job: after_run(job, FAILED, BreakerState.CLOSED, RetryPolicy(), 5).job,
    "parked": lambda job: after_run(job, FAILED, BreakerState.OPEN, RetryPolicy(), 5).job,
    "retried after a fault": lambda job: after_fault(job, "broken", RetryPolicy(), 5).job,
    "set aside": lambda job: decode_events(encode_event(parked(job)))[0].job,
    "stored": lambda job: job_of(row(parked(job))),
    "recreated": lambda job: event_of(row(parked(job))).job,
    "released": lambda job: lease_of(row(parked(job))).job,
    "requeued": lambda job: lease_of(row(JobEvent(job, JobState.RETRYING, 5)), maybe_duplicate=True).job,
    "reported": recorded,
    "completed": lambda job: completed(replace(job, submitted_at=0), job),
    "handed on": lambda job: replace(job, maybe_duplicate=True),
}


@given(st.sampled_from(Priority), st.lists(st.sampled_from(sorted(COPIES)), max_size=12))
def test_every_copy_of_a_job_has_its_priority(priority, ways):
    job = Job("j", "email", b"{}", submitted_at=1, priority=priority, trace=f"00-{'ab' * 16}-{'cd' * 8}-01")
    for way in ways:
        job = replace(COPIES[way](job), payload_json=b"{}")
        assert job.priority is priority, way
