"""Tells the ledger events so that one that it refuses holds up no other: the batch is halved until the one is found, and that is kept.

An event is given up only when the ledger takes what stands for it (its bytes, as an UNDECODABLE job in quarantine) in the same moment.
So whatever is wrong with more than one event, a fault of the database or of ours, gives up nothing: it is raised, and all is tried again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sickbay.domain.errors import Unavailable, Unstorable
from sickbay.domain.job import Job, JobEvent, JobState, Reason
from sickbay.domain.storable import digest
from sickbay.messages.codec import encode_event, undecodable_job
from sickbay.ports import LedgerWriter

log = logging.getLogger(__name__)


async def tell(ledger: LedgerWriter, events: Sequence[JobEvent], now: int, *, impatient: bool = False) -> Sequence[JobEvent]:
    """Apply all; what the ledger has now, in the order of the events. Raises Unavailable, or what is wrong with more than one event.

    `impatient`: a fault, too, is taken for a refusal. It may pass, so that is for when it has been waited for.
    """
    try:
        await ledger.apply(events)
    except Unavailable:
        raise
    except Exception as error:
        if not (impatient or isinstance(error, Unstorable)):
            raise
        if len(events) == 1:
            return [await _keep(ledger, events[0], error, now)]
        middle = len(events) // 2
        halves = [await tell(ledger, half, now, impatient=impatient) for half in (events[:middle], events[middle:])]
        return [*halves[0], *halves[1]]
    return events


async def _keep(ledger: LedgerWriter, event: JobEvent, error: Exception, now: int) -> JobEvent:
    """Put what stands for a refused event into quarantine."""
    said = str(error) if isinstance(error, Unstorable) else f"internal error of the control plane, see its log: {type(error).__name__}"
    why = f"an event of job {event.job.job_id!r} could not be stored: {said}"
    body = encode_event(event)
    kept = undecodable(body, digest(body), why, now)
    await ledger.apply([kept])
    log.error("%s; it was put into quarantine as job %s", why, kept.job.job_id, exc_info=error)
    return kept


def undecodable(body: bytes, message_id: str, why: str, now: int) -> JobEvent:
    """The event that keeps a message nobody could read, or an event the ledger refuses, in quarantine."""
    job: Job = undecodable_job(body, message_id, why, now)
    return JobEvent(job, JobState.QUARANTINED, now, reason=Reason.UNDECODABLE, code=Reason.UNDECODABLE.value)
