"""What the Job API answers, as frozen dataclasses. All times are aware datetimes in UTC; what is unset is None."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from sickbay.client.breakers import Breaker
from sickbay.client.errors import SickbayError
from sickbay.client.when import Span
from sickbay.domain.breaker import BreakerState
from sickbay.domain.job import JobState
from sickbay.domain.priority import Priority
from sickbay.handlers.payloads.typing import PayloadObject


class OnOpen(StrEnum):
    """What becomes of a job that is submitted while its circuit is open."""

    PARK = "PARK"
    """It is accepted, and runs when the circuit closes."""
    REJECT = "REJECT"
    """It is rejected: CircuitOpen is raised."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to submit. `payload` is a mapping, JSON text of an object as str or bytes, which is kept byte for byte, or an object.

    `job_type` and `payload` may also be one object alone, as in `submit`.

    `request_id` is the idempotency key, 1 to 128 printable ASCII characters; the client makes one if it is empty. `delay` (seconds, or a
    timedelta) or `run_at` (an aware datetime) say when it is to run, if not at once.
    """

    job_type: str | PayloadObject
    payload: Mapping[str, Any] | str | bytes | PayloadObject | None = None
    tenant: str = ""
    priority: Priority | str | None = None
    request_id: str = ""
    on_open: OnOpen | str | None = None
    delay: Span | None = None
    run_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class AttemptError:
    """A failed run. `code` is an error code, an open set; `traceback` may be empty."""

    time: datetime
    attempt: int
    generation: int
    code: str
    message: str
    traceback: str


@dataclass(frozen=True, slots=True)
class StateChange:
    """A state change of a job. `code`, `message`, `actor` and `traceback` may be empty."""

    time: datetime
    state: JobState
    attempt: int
    generation: int
    code: str
    message: str
    actor: str
    traceback: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is, as its handler says: `fraction` from 0 to 1; `message` may be empty."""

    fraction: float
    message: str
    update_time: datetime


@dataclass(frozen=True, slots=True)
class Job:
    """A job as recorded in the ledger. `errors` and `history` are oldest first; lists have no history.

    `result_json` is what the handler of a SUCCEEDED job returned, as JSON text; empty if it returned None. It is empty, too, if the result
    was not kept, and then `result_note` says why. `progress` is set while the job is RUNNING if its handler reports any. Lists have none of
    the three. `cancel_request_time` is when somebody first asked to cancel it after a run had begun. `result_hidden`: there is a
    result, which this principal may not read. `run_time` is when it was to run, if that was not at once; a job of a schedule has its
    `schedule_id`, and in `tick_time` the time of the schedule for which it is.
    """

    job_id: str
    job_type: str
    tenant: str
    state: JobState
    priority: Priority
    attempt: int
    generation: int
    errors: tuple[AttemptError, ...]
    submit_time: datetime
    update_time: datetime
    start_time: datetime | None
    next_attempt_time: datetime | None
    duplicates: int
    history: tuple[StateChange, ...]
    result_json: str = ""
    result_note: str = ""
    progress: Progress | None = None
    cancel_request_time: datetime | None = None
    result_hidden: bool = False
    run_time: datetime | None = None
    schedule_id: str = ""
    tick_time: datetime | None = None
    _result: Any = field(default=None, init=False, repr=False, compare=False)

    @property
    def result(self) -> Any:
        """What the handler returned, decoded from `result_json` at first use; None if there is none."""
        if self._result is None and self.result_json:
            object.__setattr__(self, "_result", json.loads(self.result_json))
        return self._result


@dataclass(frozen=True, slots=True)
class BreakerNotice:
    """A breaker that is not CLOSED when a job is submitted: its state, when the next probe may run, and what happens to the job."""

    state: BreakerState
    probe_time: datetime | None
    note: str


@dataclass(frozen=True, slots=True)
class SubmittedJob:
    """A durable job. `duplicate`: its `request_id` was accepted before, and `job` is that earlier one.

    `request_id` is the key that was sent, also if the client made it.
    """

    job: Job
    duplicate: bool
    breaker: BreakerNotice | None
    request_id: str

    @property
    def job_id(self) -> str:
        """Its id."""
        return self.job.job_id

    @property
    def state(self) -> JobState:
        """Its state when it was accepted."""
        return self.job.state


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What became of one job of `submit_many`: accepted with a `job_id`, or rejected with an `error`.

    `job` is the one that was given, with the `request_id` that was sent: it can be submitted again, also if the error says that no answer
    came.
    """

    job: NewJob
    job_id: str = ""
    duplicate: bool = False
    breaker: BreakerNotice | None = None
    error: SickbayError | None = None

    @property
    def accepted(self) -> bool:
        """Whether it is durable."""
        return self.error is None

    def failed(self, error: SickbayError) -> BatchResult:
        """The same job with an error."""
        return replace(self, job_id="", duplicate=False, breaker=None, error=error)


@dataclass(frozen=True, slots=True)
class JobUpdate:
    """One message of a watch: the job, and the change that led to its state.

    That is None in the first message, and if only `job.progress` or `job.cancel_request_time` is new.

    `resume_token` is where a later watch can continue.
    """

    job: Job
    change: StateChange | None
    resume_token: str


@dataclass(frozen=True, slots=True)
class JobExplanation:
    """Why a job is in its state, since when, and what happens next.

    `reason` and `next_step` are names of the contract's enums of `JobExplanation`, open sets. `sentences` say it all to people.
    """

    job_id: str
    job_type: str
    tenant: str
    state: JobState
    reason: str
    since_time: datetime | None
    next_step: str
    next_time: datetime | None
    breaker: Breaker | None
    sentences: tuple[str, ...]
    commands: tuple[str, ...]
