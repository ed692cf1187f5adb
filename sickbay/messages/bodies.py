"""The JSON objects in the bodies of messages, as `codec.py` writes and reads them. Fields that it does not know are ignored."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from sickbay.domain.job import DEFAULT_TENANT, JobState, Reason
from sickbay.domain.priority import Priority
from sickbay.domain.storable import LAST_MS, MAX_COUNT

_Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]
_Millis = Annotated[int, msgspec.Meta(ge=0, le=LAST_MS)]
MAX_NAME_CHARS: Final = 200
"""The limit for a run, an actor, an error code; longer ones are cut."""
MAX_TEXT_CHARS: Final = 20_000
"""The limit for a message in an event or an error."""


class FailureBody(msgspec.Struct, frozen=True):
    """A failed run."""

    time: _Millis
    attempt: _Count
    code: str
    message: str = ""
    generation: _Count = 0
    traceback: str | msgspec.UnsetType = msgspec.UNSET
    retry_at: _Millis | msgspec.UnsetType = msgspec.field(default=msgspec.UNSET, name="retryAt")
    blameless: _Count | msgspec.UnsetType = msgspec.UNSET


class ProgressBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far a run is."""

    fraction: float
    at: _Millis
    message: str = ""


class Body(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A job or an event. An older program ignores the fields that it does not know, so new ones must not change what the others mean."""

    job_type: str
    payload: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    job_id: str = ""
    tenant: str = DEFAULT_TENANT
    attempt: _Count = 0
    generation: _Count = 0
    errors: tuple[FailureBody, ...] = ()
    submitted_at: _Millis = 0
    maybe_duplicate: bool = False
    priority: Priority = Priority.NORMAL
    state: JobState | msgspec.UnsetType = msgspec.UNSET
    at: _Millis = 0
    started_at: _Millis | None = None
    run: str = ""
    actor: str = ""
    reason: Reason | None = None
    code: str = ""
    message: str = ""
    duplicate: bool = False
    trace: str = ""
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    result_note: str = ""
    progress: ProgressBody | msgspec.UnsetType = msgspec.UNSET
    cancel_requested: bool = False
    run_at: _Millis = 0
    schedule_id: str = ""
    tick_at: _Millis = 0


class BatchBody(msgspec.Struct, frozen=True):
    """Several events."""

    events: tuple[Body, ...]


class ShapeOfBody(msgspec.Struct, frozen=True):
    """Shows whether a message has several events, without decoding them."""

    events: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
