"""Random lives of one job, event by event, as a sound system would tell them."""

from dataclasses import replace

from hypothesis import strategies as st

from sickbay.domain.failure import Failure
from sickbay.domain.job import Job, JobEvent, JobState, Reason
from tests.support.ledger_events import START


@st.composite
def lives(draw, generations=3, attempts=3):
    """A list of events: perhaps first scheduled; waiting, runs (some announced), retries, set aside, released, and an end (or none)."""
    job = Job("j1", "email", submitted_at=START, payload_json=b'{"n":1}')
    events, now = [JobEvent(job, JobState.QUEUED, START)], START
    if draw(st.booleans()):
        later = replace(job, run_at=START + 50)
        now += 50
        events = [JobEvent(later, JobState.SCHEDULED, START)]
        if draw(st.integers(0, 5)) == 0:
            return [*events, JobEvent(later, JobState.CANCELLED, now, actor="ann")]
        job = replace(job, generation=1)
        events.append(JobEvent(job, JobState.QUEUED, now))
    for _ in range(draw(st.integers(1, generations))):
        for step in range(draw(st.integers(1, attempts))):
            now += 100
            run = f"w.{now}"
            began = JobEvent(job, JobState.RUNNING, now, started_at=now, run=run)
            if draw(st.booleans()):
                events.append(began)
            last = step == attempts - 1
            end = draw(st.sampled_from([JobState.RETRYING, JobState.PARKED, JobState.SUCCEEDED, JobState.CANCELLED, None]))
            now += 50
            if end is JobState.SUCCEEDED:
                return [*events, replace(began, state=end, at=now)]
            if end is JobState.CANCELLED:
                return [*events, JobEvent(job, end, now, actor="ann")]
            if end is JobState.PARKED:
                events.append(JobEvent(job, end, now, reason=Reason.CIRCUIT_OPEN, code="CIRCUIT_OPEN"))
                break
            failed = job.failed(Failure(now, job.generation, job.attempt, "API_TIMEOUT", f"no answer in {now} ms"))
            if end is JobState.RETRYING and not last:
                job = failed.charged()
                events.append(replace(began, job=job, state=end, at=now, code="API_TIMEOUT", message="no answer"))
                continue
            ill = replace(began, job=failed, state=JobState.QUARANTINED, at=now, code="API_TIMEOUT", message="no answer")
            events.append(replace(ill, reason=Reason.RETRIES_EXHAUSTED))
            job = failed
            break
        else:
            return events
        now += 100
        job = replace(job, generation=job.generation + 1)
        events.append(JobEvent(job, JobState.QUEUED, now, actor="healer"))
    return events
