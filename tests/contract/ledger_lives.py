"""Random lives of one job, event by event, as a sound system would tell them."""

from dataclasses import replace

from hypothesis import strategies as st

from sickbay.domain.job import Event, Failure, Job, Reason, State
from tests.contract.ledger_events import START


@st.composite
def lives(draw, generations=3, attempts=3):
    """A list of events: waiting, runs (some announced), retries, set aside, released into the next generation, and an end (or none)."""
    job = Job("j1", "email", submitted_at=START, payload_json=b'{"n":1}')
    events, now = [Event(job, State.QUEUED, START)], START
    for _ in range(draw(st.integers(1, generations))):
        for step in range(draw(st.integers(1, attempts))):
            now += 100
            run = f"w.{now}"
            began = Event(job, State.RUNNING, now, started_at=now, run=run)
            if draw(st.booleans()):
                events.append(began)
            last = step == attempts - 1
            end = draw(st.sampled_from([State.RETRYING, State.PARKED, State.SUCCEEDED, State.CANCELLED, None]))
            now += 50
            if end is State.SUCCEEDED:
                return [*events, replace(began, state=end, at=now)]
            if end is State.CANCELLED:
                return [*events, Event(job, end, now, actor="ann")]
            if end is State.PARKED:
                events.append(Event(job, end, now, reason=Reason.CIRCUIT_OPEN, code="CIRCUIT_OPEN"))
                break
            failed = job.failed(Failure(now, job.generation, job.attempt, "API_TIMEOUT", f"no answer in {now} ms"))
            if end is State.RETRYING and not last:
                job = failed.charged()
                events.append(replace(began, job=job, state=end, at=now, code="API_TIMEOUT", message="no answer"))
                continue
            ill = replace(began, job=failed, state=State.QUARANTINED, at=now, code="API_TIMEOUT", message="no answer")
            events.append(replace(ill, reason=Reason.RETRIES_EXHAUSTED))
            job = failed
            break
        else:
            return events
        now += 100
        job = replace(job, generation=job.generation + 1)
        events.append(Event(job, State.QUEUED, now, actor="healer"))
    return events
