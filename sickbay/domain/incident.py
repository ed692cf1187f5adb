"""Incidents: one record for each outage of a breaker, from its opening to its closing, and what happened meanwhile.

Pure. `advance` is the whole logic: it takes the latest incident of a breaker and a snapshot of that breaker, and returns the incident as it
is now. Snapshots may come repeatedly, late or from several observers: one that is not newer than what the incident already knows (`rev`)
changes nothing. Times are milliseconds since the epoch, durations are milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from sickbay.domain.access import Tenants
from sickbay.domain.breaker import BreakerKey, BreakerState, Snapshot

REOPEN_WINDOW_MS: Final = 300_000
MAX_ENTRIES: Final = 100
"""Entries of a timeline; of more, those after the first KEPT_FIRST are dropped and counted."""
KEPT_FIRST: Final = 20
MAX_ENTRY_CHARS: Final = 200
MAX_FAILED_JOBS: Final = 10

_OUTAGE: Final = frozenset({BreakerState.OPEN, BreakerState.HALF_OPEN})


class EntryKind(StrEnum):
    """What a line of a timeline is about; the names of the contract's `IncidentEntry.Kind`."""

    OPENED = "OPENED"
    PROBE_FAILED = "PROBE_FAILED"
    CLOSED = "CLOSED"
    REOPENED = "REOPENED"
    FORCED_OPEN = "FORCED_OPEN"
    HOLD_ENDED = "HOLD_ENDED"
    RESET = "RESET"
    SWITCHED_OFF = "SWITCHED_OFF"
    ACKNOWLEDGED = "ACKNOWLEDGED"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a timeline; `job_id` is that of the probe, `actor` a person."""

    at: int
    kind: EntryKind
    code: str = ""
    message: str = ""
    actor: str = ""
    job_id: str = ""


@dataclass(frozen=True, slots=True)
class FailedJob:
    """A job whose failure led to the opening; the trace id is empty if it is not known."""

    job_id: str
    trace_id: str = ""


@dataclass(frozen=True, slots=True)
class Cause:
    """Why the breaker opened: so many failures of this code in a row, the last of them in words, and the jobs that had them."""

    code: str
    message: str
    count: int
    jobs: tuple[FailedJob, ...] = ()


@dataclass(frozen=True, slots=True)
class JobCounts:
    """Jobs that were parked or quarantined between opening and closing, and how many of the parked ones have been brought back."""

    parked: int = 0
    released: int = 0
    quarantined: int = 0


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Who has taken note of an incident."""

    at: int
    actor: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """One outage. `number` is 0 until it is stored; it is open while `closed_at` is None.

    `rev`, `state`, `trips` and `probe_job_id` are those of the breaker when it was last taken in, at `seen_at`. `outage_at` is when the
    breaker last opened: later than `opened_at` after a re-opening.
    """

    key: BreakerKey
    opened_at: int
    cause: Cause
    rev: int
    state: BreakerState
    trips: int
    seen_at: int
    outage_at: int
    number: int = 0
    closed_at: int | None = None
    reopenings: int = 0
    wasted_runs: int = 0
    """Failed probes."""
    probe_job_id: str = ""
    jobs: JobCounts = JobCounts()
    timeline: tuple[Entry, ...] = ()
    omitted: int = 0
    """Entries that were dropped from the timeline."""
    acknowledged: Acknowledgement | None = None

    @property
    def is_open(self) -> bool:
        """Whether the outage goes on."""
        return self.closed_at is None

    @property
    def recovery_ms(self) -> int | None:
        """From the first opening to the last closing; None while it is open."""
        return None if self.closed_at is None else self.closed_at - self.opened_at


@dataclass(frozen=True, slots=True)
class IncidentRules:
    """How incidents are kept. `announces`: whether a webhook is to be told of openings and closings."""

    window_ms: int = REOPEN_WINDOW_MS
    """A breaker that opens again within this time after its closing continues its incident."""
    announces: bool = False


class Change(StrEnum):
    """What one step made of an incident."""

    OPENED = "opened"
    REOPENED = "reopened"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class IncidentQuery:
    """Which incidents to list; empty fields do not filter. `is_open` None: both; `tenants` None: all (shared ones are of `default`)."""

    job_type: str = ""
    tenants: Tenants = None
    is_open: bool | None = None


def is_outage(breaker: Snapshot) -> bool:
    """Whether failures have opened this breaker. One that a person holds open, or held until now, has no cause: that is maintenance."""
    return breaker.state in _OUTAGE and breaker.reason_code != ""


def advance(latest: Incident | None, breaker: Snapshot, window_ms: int = REOPEN_WINDOW_MS) -> Incident | None:
    """The latest incident of a breaker once the breaker is as in this snapshot; the same object if there is nothing to store.

    A breaker that opens again within `window_ms` after its closing continues its incident; later, it has a new one. A local view of the
    fleet (`degraded`) proves nothing.
    """
    if breaker.degraded or (latest is not None and breaker.rev <= latest.rev):
        return latest
    if latest is not None and latest.is_open:
        return _goes_on(latest, breaker) if breaker.state.refuses else _close(latest, breaker)
    if not is_outage(breaker):
        return latest
    opened_at = breaker.opened_at or breaker.updated_at
    if latest is not None and latest.closed_at is not None and opened_at - latest.closed_at <= window_ms:
        return _reopen(latest, breaker, opened_at)
    return _begin(latest, breaker, opened_at)


def vanish(incident: Incident, now: int) -> Incident:
    """The incident once its breaker does not exist any more: it has recovered or was reset, or its store has lost it; jobs run."""
    if not incident.is_open:
        return incident
    entry = Entry(now, EntryKind.CLOSED, message="the breaker does not exist any more")
    return _with(replace(incident, closed_at=max(incident.opened_at, now), state=BreakerState.CLOSED, probe_job_id=""), entry)


def acknowledge(incident: Incident, actor: str, note: str, now: int) -> Incident:
    """The incident after a person has taken note of it; a repeat changes nothing, other words replace the earlier ones."""
    known = incident.acknowledged
    if known is not None and (known.actor, known.note) == (actor, note):
        return incident
    entry = Entry(now, EntryKind.ACKNOWLEDGED, message=note[:MAX_ENTRY_CHARS], actor=actor)
    return _with(replace(incident, acknowledged=Acknowledgement(now, actor, note)), entry)


def change_between(before: Incident | None, after: Incident | None) -> Change | None:
    """What a step from one to the other was; None if it neither opened nor closed an incident."""
    if after is None:
        return None
    if before is None or before.number != after.number:
        return Change.OPENED
    if before.is_open == after.is_open:
        return None
    return Change.REOPENED if after.is_open else Change.CLOSED


def _begin(before: Incident | None, breaker: Snapshot, opened_at: int) -> Incident:
    # The breaker counts its trips through outages that follow closely, so those of the incident before are not this one's.
    earlier = before.trips if before is not None and breaker.trips > before.trips else 0
    incident = Incident(
        key=breaker.key,
        opened_at=opened_at,
        outage_at=opened_at,
        cause=Cause(breaker.reason_code, breaker.reason_message, breaker.reason_count),
        rev=breaker.rev,
        state=breaker.state,
        trips=earlier + 1,
        seen_at=opened_at,
        timeline=(_entry(opened_at, EntryKind.OPENED, breaker),),
    )
    return _take_in(incident, breaker)


def _reopen(incident: Incident, breaker: Snapshot, opened_at: int) -> Incident:
    # The trip itself is no failed probe.
    trips = incident.trips + 1 if breaker.trips > incident.trips else 1
    opened = replace(incident, closed_at=None, reopenings=incident.reopenings + 1, outage_at=opened_at, trips=trips)
    return _take_in(_with(opened, _entry(opened_at, EntryKind.REOPENED, breaker)), breaker)


def _goes_on(incident: Incident, breaker: Snapshot) -> Incident:
    """An open incident whose breaker still refuses jobs."""
    opened_at = breaker.opened_at or 0
    # Later than its last transition it can be only because the clock was set forward.
    if incident.seen_at < opened_at <= breaker.epoch and is_outage(breaker):
        return _reopen(incident, breaker, opened_at)  # nobody saw it closed in between
    if breaker.state is BreakerState.FORCED_OPEN and incident.state is not BreakerState.FORCED_OPEN:
        entry = Entry(_changed_at(incident, breaker), EntryKind.FORCED_OPEN, "", breaker.forced_why[:MAX_ENTRY_CHARS], breaker.forced_by)
        incident = _with(incident, entry)
    elif incident.state is BreakerState.FORCED_OPEN and breaker.state is not BreakerState.FORCED_OPEN:
        incident = _with(incident, Entry(_changed_at(incident, breaker), EntryKind.HOLD_ENDED))
    return _take_in(incident, breaker)


def _take_in(incident: Incident, breaker: Snapshot) -> Incident:
    """The incident with the state of its breaker, and with the probes that failed since it was last taken in."""
    incident = _with_failed_probes(incident, breaker)
    return replace(
        incident,
        rev=breaker.rev,
        state=breaker.state,
        trips=max(incident.trips, breaker.trips),
        seen_at=max(incident.seen_at, breaker.updated_at),
        probe_job_id=breaker.probe_job_id,
    )


def _with_failed_probes(incident: Incident, breaker: Snapshot) -> Incident:
    failed = breaker.trips - incident.trips
    if failed <= 0:
        return incident
    code, message = breaker.reason_code or incident.cause.code, breaker.reason_message
    words = message if failed == 1 else f"{failed} probes failed, the last one: {message}" if message else f"{failed} probes failed"
    at = _changed_at(incident, breaker) if breaker.state is BreakerState.OPEN else incident.seen_at
    entry = Entry(at, EntryKind.PROBE_FAILED, code, words[:MAX_ENTRY_CHARS], job_id=incident.probe_job_id)
    return _with(replace(incident, wasted_runs=incident.wasted_runs + failed), entry)


def _close(incident: Incident, breaker: Snapshot) -> Incident:
    at = _changed_at(incident, breaker)
    if breaker.state is not BreakerState.CLOSED:
        words = f"{breaker.state.value}: {breaker.forced_why}" if breaker.forced_why else breaker.state.value
        entry = Entry(at, EntryKind.SWITCHED_OFF, "", words[:MAX_ENTRY_CHARS], breaker.forced_by)
    elif _was_reset(breaker):
        entry = Entry(at, EntryKind.RESET)
    else:
        words = "a probe succeeded" if breaker.trips else ""  # without trips it may have been a reset that was seen late
        entry = Entry(at, EntryKind.CLOSED, message=words, job_id=incident.probe_job_id)
    return _with(replace(_take_in(incident, breaker), closed_at=at, probe_job_id=""), entry)


def _was_reset(breaker: Snapshot) -> bool:
    """Whether a closed breaker was reset just now: that forgets its trips at once, after a probe they stay for two cooldowns."""
    return breaker.trips == 0 and breaker.updated_at <= breaker.epoch


def _changed_at(incident: Incident, breaker: Snapshot) -> int:
    """When the breaker entered its state: its epoch, which is about the time of its last transition, if that is plausible."""
    at = breaker.epoch if incident.outage_at <= breaker.epoch <= breaker.updated_at else breaker.updated_at
    return max(incident.opened_at, at)


def _entry(at: int, kind: EntryKind, breaker: Snapshot) -> Entry:
    return Entry(at, kind, breaker.reason_code, breaker.reason_message[:MAX_ENTRY_CHARS])


def _with(incident: Incident, entry: Entry) -> Incident:
    timeline = (*incident.timeline, entry)
    extra = max(0, len(timeline) - MAX_ENTRIES)
    kept = timeline[:KEPT_FIRST] + timeline[KEPT_FIRST + extra :]
    return replace(incident, timeline=kept, omitted=incident.omitted + extra)
