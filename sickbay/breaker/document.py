"""The document of one breaker: its whole state.

Pure. The machine that changes it is `machine.py`, its JSON form is in `document_json.py`. The same machine runs as a script inside Redis
and must write the same bytes, so the document holds only integers and cleaned strings.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final, TypedDict, Unpack

from sickbay.breaker import ramp as ramps
from sickbay.breaker.packed_run import CountedFailure, Superseded
from sickbay.breaker.ramp_state import Ramp
from sickbay.breaker.replacing import replacer
from sickbay.breaker.window import Calls, has_bad
from sickbay.domain.breaker import BreakerKey, BreakerState
from sickbay.domain.failure import MAX_MESSAGE_CHARS
from sickbay.domain.job import DEFAULT_TENANT

MAX_WORD_CHARS: Final = 64
FIRST_EPOCH: Final = 1
"""The first epoch of every breaker of a tenant other than `default`, however often it was forgotten."""

_UNWRITABLE: Final = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_NO_WORD: Final = re.compile("[^!-~]")


@dataclass(frozen=True, slots=True)
class Document:
    """One breaker. Times are ms since the epoch, 0 where there is none; it has a token only while a probe is running.

    `epoch` grows at every change of what is admitted, `rev` at every write, `seq` with every failure counted; none ever decreases.
    """

    key: BreakerKey
    state: BreakerState
    epoch: int
    rev: int
    updated_at: int
    seq: int = 0
    trips: int = 0
    opened_at: int = 0
    probe_at: int = 0
    cooldown_ms: int = 0
    reason_code: str = ""
    reason_count: int = 0
    reason_message: str = ""
    probe_token: str = ""
    probe_worker: str = ""
    probe_job: str = ""
    probe_since: int = 0
    probe_until: int = 0
    expiries: int = 0
    inconclusive: int = 0
    run: tuple[CountedFailure, ...] = ()
    ramp: Ramp | None = None
    stable_at: int = 0
    until: int = 0
    by: str = ""
    why: str = ""
    would_trip: int = 0
    calls: Calls = ()
    """With the policy `rate`: the runs in the window, as far as they were reported."""
    hung: int = 0
    """How many probes in a row have taken longer than their patience."""
    patience_ms: int = 0
    """How long the running probe may take before it counts as hanging; `probe_at` is then when the next one is due."""
    superseded: tuple[Superseded, ...] = ()
    """Probes that have hung and may still run, the oldest first."""

    @property
    def admits_all(self) -> bool:
        """Whether every job gets a normal permit, whatever the time."""
        state = self.state
        if state is BreakerState.CLOSED:
            return self.ramp is None
        return state is BreakerState.DISABLED or state is BreakerState.METRICS_ONLY

    @property
    def is_quiet(self) -> bool:
        """Whether a success changes nothing: CLOSED, without failures, ramp or a grown cooldown to forget."""
        rests = self.state is BreakerState.CLOSED and not self.run and self.ramp is None and not self.stable_at
        return rests and not has_bad(self.calls)

    @property
    def is_at_rest(self) -> bool:
        """Whether time alone changes nothing, unless the clock is set back: CLOSED, without ramp, grown cooldown, probe, counted runs."""
        return self.state is BreakerState.CLOSED and self.ramp is None and not self.stable_at and not self.probe_token and not self.calls

    @property
    def is_forgettable(self) -> bool:
        """Whether it need not be stored: a quiet breaker of a tenant other than `default`. Clients may name any number of tenants."""
        return self.key.tenant != DEFAULT_TENANT and self.is_quiet

    def has_lapsed(self, window_ms: int, now: int) -> bool:
        """Whether it would be forgettable but for failures that are too old to count."""
        rests = self.state is BreakerState.CLOSED and self.ramp is None and not self.stable_at and not has_bad(self.calls)
        return rests and self.key.tenant != DEFAULT_TENANT and all(now - failed.at > window_ms for failed in self.run)


_with: Final = replacer(Document)


class OutageFields(TypedDict, total=False):
    """The fields that an outage keeps from state to state until the breaker closes: since when, why, and how far the cooldown has grown."""

    trips: int
    opened_at: int
    cooldown_ms: int
    reason_code: str
    reason_count: int
    reason_message: str


class ProbeFields(TypedDict, total=False):
    """The running probe and the end of its lease."""

    probe_token: str
    probe_worker: str
    probe_job: str
    probe_since: int
    probe_until: int


class HangingFields(TypedDict, total=False):
    """What is known of probes that have hung."""

    hung: int
    superseded: tuple[Superseded, ...]


class Fields(OutageFields, ProbeFields, HangingFields, total=False):
    """All fields of a state, with the names and types of a document's, so that a type checker finds misspelt ones."""

    probe_at: int
    expiries: int
    inconclusive: int
    run: tuple[CountedFailure, ...]
    ramp: Ramp | None
    stable_at: int
    until: int
    by: str
    why: str
    would_trip: int
    calls: Calls
    patience_ms: int


class Changes(Fields, total=False):
    """All fields that change within a state."""

    seq: int


def new_document(key: BreakerKey, now: int) -> Document:
    """A healthy breaker. Its epoch and rev are the time, so they are above those of a document that was lost.

    A breaker of a tenant other than `default` is deleted when it is forgettable and created again while jobs are running. So its first
    epoch is always the same: the outcomes of these runs count, and those of jobs admitted before it opened, or closed, do not.

    Only a document written more often than once a millisecond is ahead of the time. If that one is lost, views of it are corrected when
    they next ask (`view.py`), within a second, and not by a notice.
    """
    epoch = now if key.tenant == DEFAULT_TENANT else FIRST_EPOCH
    return Document(key, BreakerState.CLOSED, epoch=epoch, rev=now, updated_at=now)


def with_changes(doc: Document, now: int, **changes: Unpack[Changes]) -> Document:
    """The document with changes within the same state; its rev grows, at least to `now`."""
    return _with(doc, rev=max(doc.rev + 1, now), updated_at=now, **changes)


def enter_state(doc: Document, state: BreakerState, now: int, **fields: Unpack[Fields]) -> Document:
    """The document in a new state; permits of the old one are stale. It keeps its `seq` and only the fields that are named."""
    epoch, rev = max(doc.epoch + 1, now), max(doc.rev + 1, now)
    return Document(doc.key, state, epoch=epoch, rev=rev, updated_at=now, seq=doc.seq, **fields)


def outage_fields(doc: Document) -> OutageFields:
    """The fields of the current outage."""
    return {
        "trips": doc.trips,
        "opened_at": doc.opened_at,
        "cooldown_ms": doc.cooldown_ms,
        "reason_code": doc.reason_code,
        "reason_count": doc.reason_count,
        "reason_message": doc.reason_message,
    }


def hanging_fields(doc: Document) -> HangingFields:
    """The fields of the probes that have hung, kept until the breaker closes or an admin gives a command."""
    return {"hung": doc.hung, "superseded": doc.superseded}


def after_clock_step(doc: Document, now: int) -> Document:
    """The document after the clock was set back to before its last write: every wait is as long as it was then.

    Without this, setting the clock back would prolong every wait: a clock that once was a year ahead would block the breaker for a year.
    """
    return shift_times(doc, now - doc.updated_at, now)


def shift_times(doc: Document, by: int, now: int) -> Document:
    """The document after the clock was set forward or back by `by` ms: the remaining waits stay the same."""

    def shifted(at: int) -> int:
        return max(1, at + by) if at else 0

    return with_changes(
        doc,
        now,
        opened_at=shifted(doc.opened_at),
        probe_at=shifted(doc.probe_at),
        probe_since=shifted(doc.probe_since),
        probe_until=shifted(doc.probe_until),
        stable_at=shifted(doc.stable_at),
        until=shifted(doc.until),
        run=tuple(replace(failed, at=max(1, failed.at + by)) for failed in doc.run),
        ramp=doc.ramp and ramps.shifted(doc.ramp, by),
        calls=tuple(replace(bucket, start=max(1, bucket.start + by)) for bucket in doc.calls),
        superseded=tuple(replace(one, since=shifted(one.since), until=shifted(one.until)) for one in doc.superseded),
    )


def sanitize(text: str, limit: int = MAX_MESSAGE_CHARS) -> str:
    """At most `limit` characters that every JSON writer encodes alike (no control characters, no lone surrogates)."""
    return _UNWRITABLE.sub(" ", text[:limit])


def sanitize_job_id(text: str) -> str:
    """A job id as written in the packed run: printable ASCII without spaces, the last 64 characters."""
    return _NO_WORD.sub("_", text[-MAX_WORD_CHARS:]) or "-"
