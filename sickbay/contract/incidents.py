"""IncidentService: validation of its requests, and conversion of incidents to protobuf."""

from __future__ import annotations

import re
from typing import Final

from sickbay.breakers.v1 import incident_pb2
from sickbay.breakers.v1 import incident_service_pb2 as pb
from sickbay.contract import requests as parse
from sickbay.contract.responses import duration, text, timestamp, uint32
from sickbay.domain.access import ANYBODY, Principal
from sickbay.domain.errors import InvalidArgument
from sickbay.domain.incident import Entry, EntryKind, Incident, IncidentQuery

MAX_NOTE_CHARS: Final = 500
_MAX_NUMBER: Final = 2**63 - 1
_NUMBER: Final = re.compile(r"[0-9]{1,19}")
_KINDS: Final = {kind: incident_pb2.IncidentEntry.Kind.Value(f"KIND_{kind.value}") for kind in EntryKind}


def incident_query(request: pb.ListIncidentsRequest, principal: Principal = ANYBODY) -> IncidentQuery:
    """Which incidents to list, of the principal's tenants."""
    is_open = request.open if request.HasField("open") else None
    return IncidentQuery(parse.job_type_filter(request.job_type), parse.tenants(request.tenant, principal), is_open)


def incident_number(incident_id: str) -> int | None:
    """The number of an incident; None if no incident can have this id, InvalidArgument if it is missing."""
    if not incident_id:
        raise InvalidArgument("the incident id is missing")
    number = int(incident_id) if _NUMBER.fullmatch(incident_id) else 0
    return number if 0 < number <= _MAX_NUMBER else None


def note(words: str) -> str:
    """What a person writes about an incident; may be empty."""
    return parse.line(words, "note", MAX_NOTE_CHARS)


def incident(found: Incident, *, whole: bool = True, redacted: bool = False) -> incident_pb2.Incident:
    """An incident; lists leave out its timeline. `redacted`: something was left out (`redact`)."""
    cause, noted = found.cause, found.acknowledged
    return incident_pb2.Incident(
        incident_id=str(found.number),
        job_type=found.key.job_type,
        tenant=found.key.tenant,
        open=found.is_open,
        open_time=timestamp(found.opened_at),
        close_time=timestamp(found.closed_at),
        recovery=duration(found.recovery_ms or 0),
        cause=incident_pb2.IncidentCause(
            code=cause.code,
            message=text(cause.message),
            count=uint32(cause.count),
            jobs=[incident_pb2.FailedJob(job_id=text(job.job_id), trace_id=job.trace_id) for job in cause.jobs],
        ),
        reopenings=uint32(found.reopenings),
        wasted_runs=uint32(found.wasted_runs),
        parked_jobs=found.jobs.parked,
        released_jobs=found.jobs.released,
        quarantined_jobs=found.jobs.quarantined,
        timeline=map(_entry, found.timeline) if whole else (),
        omitted_entries=uint32(found.omitted) if whole else 0,
        acknowledgement=incident_pb2.IncidentAcknowledgement(time=timestamp(noted.at), actor=text(noted.actor), note=text(noted.note))
        if noted
        else None,
        redacted=redacted,
    )


def _entry(entry: Entry) -> incident_pb2.IncidentEntry:
    return incident_pb2.IncidentEntry(
        time=timestamp(entry.at),
        kind=_KINDS[entry.kind],
        code=entry.code,
        message=text(entry.message),
        actor=text(entry.actor),
        job_id=text(entry.job_id),
    )
