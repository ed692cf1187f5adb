"""AuditService: validation of its requests, conversion of entries to protobuf; and what an entry says about the request of an action."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from sickbay.audit.v1 import audit_pb2
from sickbay.audit.v1 import audit_service_pb2 as pb
from sickbay.breakers.v1.breaker_pb2 import Breaker
from sickbay.contract import requests as parse
from sickbay.contract.responses import text, timestamp, uint32
from sickbay.domain.access import Principal
from sickbay.domain.audit import MAX_NAME_CHARS, MAX_TEXT_CHARS, AuditEntry, AuditQuery
from sickbay.domain.errors import InvalidArgument
from sickbay.domain.job import DEFAULT_TENANT
from sickbay.jobs.v1.job_pb2 import Job
from sickbay.jobs.v1.scheduled_job_service_pb2 import ScheduledJob

_TARGETS: Final = {"job_id": "job", "incident_id": "incident", "schedule_id": "schedule", "job_type": "breaker"}
"""By field of the request; the first that it has."""
_SAID: Final = frozenset({"actor", "why", "note", "tenant", "etag", "page_token", "page_size"})
"""Fields that have their own place in an entry, or say nothing about what was done."""
_SECRETS: Final = ("payload", "token", "secret", "password")
_SHOWN_CHARS: Final = 100
_SHOWN_ITEMS: Final = 3


def audit_query(request: pb.ListAuditEntriesRequest, principal: Principal) -> AuditQuery:
    """Which entries to list, of those that the principal sees."""
    names = {name: parse.line(getattr(request, name), name, MAX_NAME_CHARS) for name in ("principal", "action", "target", "result")}
    since = request.start_time.ToMilliseconds() if request.HasField("start_time") else None
    until = request.end_time.ToMilliseconds() if request.HasField("end_time") else None
    if since is not None and until is not None and since > until:
        raise InvalidArgument("start_time is after end_time")
    return AuditQuery(
        **names,
        tenant=parse.tenant_filter(request.tenant),
        refused=request.refused,
        since=since,
        until=until,
        oldest_first=request.oldest_first,
        visible=principal.filter(request.tenant),
    )


def audit_entry(entry: AuditEntry) -> audit_pb2.AuditEntry:
    """The entry."""
    return audit_pb2.AuditEntry(
        entry_id=text(entry.entry_id),
        time=timestamp(entry.at),
        end_time=timestamp(entry.ended_at),
        principal=text(entry.principal),
        principal_kind=text(entry.kind),
        credential=text(entry.credential),
        action=text(entry.action),
        target_kind=text(entry.target_kind),
        target=text(entry.target),
        tenant=text(entry.tenant),
        result=text(entry.result),
        reason=text(entry.reason),
        message=text(entry.message),
        before=text(entry.before),
        after=text(entry.after),
        claimed_actor=text(entry.claimed_actor),
        note=text(entry.note),
        request=text(entry.request),
        source=text(entry.source),
        door=text(entry.door),
        count=uint32(entry.count),
    )


def with_request(entry: AuditEntry, request: Any) -> AuditEntry:
    """The entry with what the request of its action says, without payloads; a stream of requests says nothing."""
    if not isinstance(request, Message):
        return replace(entry, target_kind="program")
    known = {field.name: value for field, value in request.ListFields()}
    target = next((name for name in _TARGETS if name in known), "")
    kind = _TARGETS.get(target, "")
    if "job_ids" in request.DESCRIPTOR.fields_by_name:  # it is about several jobs, perhaps of a type
        target, kind = "", "jobs"
    return replace(
        entry,
        target_kind=kind,
        target=str(known.get(target, "")),
        tenant=str(known.get("tenant", "")),
        claimed_actor=str(known.get("actor", "")),
        note=str(known.get("why", "") or known.get("note", "")),
        request=_summary(request, {target, *_SAID}),
    )


def with_reply(entry: AuditEntry, reply: Any) -> AuditEntry:
    """The entry with the state of its target after the action, as the reply has it."""
    fields = reply.DESCRIPTOR.fields_by_name if isinstance(reply, Message) else {}
    job = getattr(reply, "job", None)
    if isinstance(job := job.job if isinstance(job, ScheduledJob) else job, Job):
        return replace(entry, after=job_words(job), tenant=job.tenant or entry.tenant)
    if isinstance(breaker := getattr(reply, "breaker", None), Breaker):
        shared = breaker.tenant in {"", DEFAULT_TENANT}
        return replace(entry, after=_name(Breaker.State, breaker.state, "STATE_"), tenant=entry.tenant if shared else breaker.tenant)
    if "incident" in fields:
        return replace(entry, after="acknowledged")
    if "jobs" in fields:
        return replace(entry, after=_counted(reply.jobs))
    return entry


def job_words(job: Job) -> str:
    """The state of a job before or after an action; of a SCHEDULED one with when it is due."""
    due = f", due {job.run_time.ToJsonString()}" if job.state == Job.STATE_SCHEDULED else ""
    return f"{_name(Job.State, job.state, 'STATE_')}, generation {job.generation}{due}"


def _counted(jobs: Iterable[Any]) -> str:
    counts: dict[str, int] = {}
    for one in jobs:
        name = _name(type(one).Outcome, one.outcome, "OUTCOME_")
        counts[name] = counts.get(name, 0) + 1
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "no job"


def _name(enum: Any, number: int, prefix: str) -> str:
    return enum.Name(number).removeprefix(prefix) if number in enum.values() else str(number)


def _summary(message: Message, without: set[str]) -> str:
    """The fields that are set, such as `priority=PRIORITY_HIGH, payload_json=(120 characters)`."""
    return ", ".join(f"{name}={words}" for name, words in words_of(message).items() if name not in without)[:MAX_TEXT_CHARS]


def words_of(message: Message) -> dict[str, str]:
    """The fields that are set, in words, without payloads and other secrets."""
    return {field.name: _value(field, value) for field, value in message.ListFields()}


def _value(field: FieldDescriptor, value: Any) -> str:
    if any(word in field.name for word in _SECRETS):
        return f"({len(value):,} characters)" if isinstance(value, str | bytes) else "(not shown)"
    if field.is_repeated:
        shown = ", ".join(_short(one) for one in list(value)[:_SHOWN_ITEMS])
        return f"[{shown}]" if len(value) <= _SHOWN_ITEMS else f"[{shown} and {len(value) - _SHOWN_ITEMS:,} more]"
    if field.enum_type is not None:
        return field.enum_type.values_by_number[value].name if value in field.enum_type.values_by_number else str(value)
    return _short(value)


def _short(value: Any) -> str:
    as_json = getattr(value, "ToJsonString", None)
    if isinstance(value, Message) and as_json is None:  # it may have secrets of its own
        return f"({_summary(value, set())})"
    try:
        shown = str(value) if as_json is None else as_json()
    except ValueError:  # a time or a duration that is none, which the action will say
        shown = " ".join(str(value).split())
    return shown[:_SHOWN_CHARS]
