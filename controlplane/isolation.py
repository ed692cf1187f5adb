"""Writes events to the ledger so that a rejected one blocks no others: the batch is bisected to find it, and it is put into quarantine.

An event is given up only if the ledger accepts its replacement at the same time (its bytes, as an UNDECODABLE job in quarantine). So
nothing is given up if more than one event is affected, by a fault of the database or of ours: the error is raised, and all are retried.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sickbay.domain.errors import Unavailable, Unstorable
from sickbay.domain.job import Job, JobEvent, JobState, Reason
from sickbay.domain.storable import digest
from sickbay.messages.codec import encode_event
from sickbay.messages.undecodable import undecodable_job
from sickbay.ports import LedgerWriter

log = logging.getLogger(__name__)


async def apply_events(ledger: LedgerWriter, events: Sequence[JobEvent], now: int, *, isolate_faults: bool = False) -> Sequence[JobEvent]:
    """Apply all; returns what the ledger has now, in the order of the events. Raises Unavailable, or an error of more than one event.

    `isolate_faults`: treat a fault as a rejection, too. It may be transient, so use this only after retries.
    """
    try:
        await ledger.apply(events)
    except Unavailable:
        raise
    except Exception as error:
        if not (isolate_faults or isinstance(error, Unstorable)):
            raise
        if len(events) == 1:
            return [await _replace(ledger, events[0], error, now)]
        middle = len(events) // 2
        halves = [await apply_events(ledger, half, now, isolate_faults=isolate_faults) for half in (events[:middle], events[middle:])]
        return [*halves[0], *halves[1]]
    return events


async def _replace(ledger: LedgerWriter, event: JobEvent, error: Exception, now: int) -> JobEvent:
    """Put the replacement of a rejected event into quarantine."""
    reason = str(error) if isinstance(error, Unstorable) else f"internal error of the control plane, see its log: {type(error).__name__}"
    why = f"an event of job {event.job.job_id!r} could not be stored: {reason}"
    body = encode_event(event)
    replacement = undecodable_event(body, digest(body), why, now)
    await ledger.apply([replacement])
    log.error("%s; it was put into quarantine as job %s", why, replacement.job.job_id, exc_info=error)
    return replacement


def foreign_event(body: bytes, now: int) -> JobEvent:
    """The event that keeps what another RabbitMQ user has published for the ledger or the quarantine; its own id counts for nothing."""
    return undecodable_event(body, "", "published for the ledger by a RabbitMQ user that is none of TRUSTED_USERS", now)


def undecodable_event(body: bytes, message_id: str, why: str, now: int) -> JobEvent:
    """The event that puts an undecodable message, or an event that the ledger rejects, into quarantine."""
    job: Job = undecodable_job(body, message_id, why, now)
    return JobEvent(job, JobState.QUARANTINED, now, reason=Reason.UNDECODABLE, code=Reason.UNDECODABLE.value)
