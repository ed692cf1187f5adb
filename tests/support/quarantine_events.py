"""Jobs that are set aside, as a worker does it, and the jobs that a queue holds then."""

from sickbay.domain.breaker import BreakerKey
from sickbay.domain.job import Job, JobEvent, JobState, Reason
from sickbay.messages.codec import decode_job, encode_event
from sickbay.ports import Message
from tests.support.clock import START

EMAIL = BreakerKey("email")


def job(job_id, job_type="email", **fields):
    return Job(job_id, job_type, b'{"n": 1}', submitted_at=START, **fields)


def parked(job_id, at=START, **fields):
    return JobEvent(job(job_id, **fields), JobState.PARKED, at, run="r", reason=Reason.CIRCUIT_OPEN, code="CIRCUIT_OPEN")


async def set_aside(backends, *events):
    """As a worker does it: one publish to two queues; the ledger hears of it too."""
    await backends.broker.publish([Message("job.quarantined.parked", encode_event(event)) for event in events])
    await backends.writer.apply(events)


async def take(backends, queue, count):
    """So many jobs out of a queue."""
    found = []
    async with backends.broker.consume(queue, count) as consumer:
        while len(found) < count:
            for delivery in await consumer.get(count):
                found.append(decode_job(delivery.body, "", 0))
                delivery.ack()
    return found
