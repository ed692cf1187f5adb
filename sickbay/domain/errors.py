"""The errors of Sickbay: one tree, each with the reason of the contract; only gRPC, REST and the CLI translate them.

    SickbayError
    |-- InvalidArgument      the request is wrong; the message says what to correct
    |   `-- Unstorable       a database rejects a value, and always will: do not retry
    |-- Unauthenticated      the caller has not proven who it is, or no longer
    |-- PermissionDenied     the caller may not do that
    |-- NotFound             no such job, breaker, incident or schedule
    |-- AlreadyExists        the idempotency key belongs to another request, or the name is taken
    |-- Aborted              another client was first: read again, then repeat
    |-- FailedPrecondition   not allowed in this state, or a setting is missing
    |-- Unavailable          a backend does not answer; nothing is lost, retry later
    |   `-- Refused          the same, and the operation has certainly not happened
    |-- ResourceExhausted    a limit is reached: of names, watches, submissions; the message says which, and what to do
    `-- SettingsError        a variable or an option is wrong; the program does not start
        `-- MissingSetting   a variable that has no default is not set

    JobError                 raised by a handler to say how its run failed (not a SickbayError: it is an outcome)
    `-- SubmitError          raised by `job.submit`: a follow-up job was not accepted

Messages are written for the client and never contain the text of a driver's or Python's exception.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Final, Protocol

from sickbay.domain.job import is_code
from sickbay.domain.outcome import KindName, OutcomeKind, kind_of
from sickbay.domain.raised import MAX_WAIT_MS, is_a, text_of

MAX_RETRY_AFTER: Final = MAX_WAIT_MS // 1000
"""Seconds; the longest wait a handler can ask for."""


class ErrorReason(StrEnum):
    """The names of the contract's `ErrorReason`, without prefix."""

    INVALID_FIELD = "INVALID_FIELD"
    INVALID_JOB_TYPE = "INVALID_JOB_TYPE"
    INVALID_PAYLOAD = "INVALID_PAYLOAD"
    PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE"
    NUMBER_TOO_LARGE = "NUMBER_TOO_LARGE"
    INVALID_PAGE_TOKEN = "INVALID_PAGE_TOKEN"  # noqa: S105 - a reason, not a password
    JOB_NOT_FOUND = "JOB_NOT_FOUND"
    BREAKER_NOT_FOUND = "BREAKER_NOT_FOUND"
    INCIDENT_NOT_FOUND = "INCIDENT_NOT_FOUND"
    JOB_TYPE_NOT_FOUND = "JOB_TYPE_NOT_FOUND"
    IDEMPOTENCY_KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"
    REQUEST_IN_PROGRESS = "REQUEST_IN_PROGRESS"
    ETAG_MISMATCH = "ETAG_MISMATCH"
    WRONG_STATE = "WRONG_STATE"
    NOT_CONFIGURED = "NOT_CONFIGURED"
    BACKEND_UNAVAILABLE = "BACKEND_UNAVAILABLE"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    TOO_MANY_NAMES = "TOO_MANY_NAMES"
    TOO_MANY_WATCHES = "TOO_MANY_WATCHES"
    TOO_MANY_CALLS = "TOO_MANY_CALLS"
    CIRCUIT_OPEN = "CIRCUIT_OPEN"
    SUBMISSION_RATE_EXCEEDED = "SUBMISSION_RATE_EXCEEDED"
    TOO_MANY_QUEUED = "TOO_MANY_QUEUED"
    PROGRAM_SILENT = "PROGRAM_SILENT"
    TOO_MANY_PROGRAMS = "TOO_MANY_PROGRAMS"
    INVALID_MESSAGES = "INVALID_MESSAGES"
    SCHEDULE_NOT_FOUND = "SCHEDULE_NOT_FOUND"
    SCHEDULE_EXISTS = "SCHEDULE_EXISTS"
    INVALID_SCHEDULE = "INVALID_SCHEDULE"
    SCHEDULE_IN_CODE = "SCHEDULE_IN_CODE"
    TOO_MANY_SCHEDULES = "TOO_MANY_SCHEDULES"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    CREDENTIAL_EXPIRED = "CREDENTIAL_EXPIRED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    INTERNAL = "INTERNAL"


class SickbayError(Exception):
    """Base of all errors that a client may see; `str()` is the message for it."""

    default_reason: ClassVar[ErrorReason] = ErrorReason.INTERNAL
    exit_code: ClassVar[int] = 1
    """The exit code of a process that cannot start because of this error."""

    def __init__(self, message: str, reason: ErrorReason | None = None) -> None:
        """Set the message for the client and, where it differs from the class's default, the reason."""
        super().__init__(message)
        self.reason = reason or self.default_reason


class Violation(Protocol):
    """What is wrong in one field: its path, and a sentence."""

    @property
    def path(self) -> str:
        """Such as `payload.items[2].price`."""

    @property
    def text(self) -> str:
        """Such as `expected a number, got a string`."""


class InvalidArgument(SickbayError):
    """The request is wrong; the message says what to correct. `violations` are all single mistakes, where there can be several."""

    default_reason = ErrorReason.INVALID_FIELD

    def __init__(self, message: str, reason: ErrorReason | None = None, *, violations: Sequence[Violation] = ()) -> None:
        """Set the message, the reason and the single mistakes."""
        super().__init__(message, reason)
        self.violations = tuple((one.path, one.text) for one in violations)
        self._listed = violations

    def advised(self, advice: str) -> InvalidArgument:
        """The same with an advice at the end of its message."""
        return InvalidArgument(f"{self}; {advice}", self.reason, violations=self._listed)


class Unstorable(InvalidArgument):
    """A database rejects a value (a NUL in a text, a number too large), and always will: nothing was written; do not retry."""


class Unauthenticated(SickbayError):
    """The caller has not proven who it is, or its credential counts no longer; the message never says anything about a secret."""

    default_reason = ErrorReason.UNAUTHENTICATED


class PermissionDenied(SickbayError):
    """The caller may not do that; the message says what it lacks."""

    default_reason = ErrorReason.PERMISSION_DENIED


class NotFound(SickbayError):
    """No such job, breaker or incident."""

    default_reason = ErrorReason.JOB_NOT_FOUND


class AlreadyExists(SickbayError):
    """The idempotency key belongs to another request."""

    default_reason = ErrorReason.IDEMPOTENCY_KEY_REUSED


class Aborted(SickbayError):
    """Another client was first: read again, then repeat."""

    default_reason = ErrorReason.ETAG_MISMATCH


class FailedPrecondition(SickbayError):
    """Not allowed in this state, or a setting is missing."""

    default_reason = ErrorReason.WRONG_STATE


class Unavailable(SickbayError):
    """A backend does not answer; nothing is lost. `retry_after` is the advised wait in seconds."""

    default_reason = ErrorReason.BACKEND_UNAVAILABLE

    def __init__(self, message: str, reason: ErrorReason | None = None, *, retry_after: float = 1.0) -> None:
        """Set the message, the reason and the advised wait in seconds."""
        super().__init__(message, reason)
        self.retry_after = retry_after


class Refused(Unavailable):
    """The operation has certainly not happened."""


@dataclass(frozen=True, slots=True)
class Quota:
    """A rate that is used up: `limit` is whose (principal, tenant, type), `quota` how many per `window_s`, `reset_s` until all are back."""

    limit: str
    quota: int
    window_s: int
    reset_s: int


class ResourceExhausted(SickbayError):
    """A limit is reached. `retry_after` is the advised wait in seconds; `quota` is set if the limit is a rate."""

    default_reason = ErrorReason.TOO_MANY_NAMES

    def __init__(self, message: str, reason: ErrorReason | None = None, *, retry_after: float = 1.0, quota: Quota | None = None) -> None:
        """Set the message, the reason, the advised wait in seconds, and the quota."""
        super().__init__(message, reason)
        self.retry_after = retry_after
        self.quota = quota


class SettingsError(SickbayError):
    """A variable or an option is wrong; the message names it."""

    default_reason = ErrorReason.NOT_CONFIGURED


class MissingSetting(SettingsError):
    """A variable that has no default is not set, or still has an example's value; the message says what to set.

    Exit code 2, as for a missing argument of a command.
    """

    exit_code = 2


class JobError(Exception):
    """Raised by a handler to say how its run failed.

    `code` matches `[A-Z0-9_]{1,48}`; its kind comes from `sickbay.domain.outcome.kind_of` unless `kind` is given.
    `retry_after` (seconds) delays the next attempt, and is the minimum cooldown if this failure opens the breaker; with the code
    RATE_LIMITED it opens the breaker at once and for exactly that long.
    `message` may be anything that `str()` accepts, for example the exception that was caught. It can be pickled, as process pools do.
    """

    __module__ = "sickbay"  # where users import it from, so what tracebacks call it

    def __init__(
        self, code: str, message: object = "", *, kind: OutcomeKind | KindName | None = None, retry_after: float | None = None
    ) -> None:
        """Raise ValueError if the code, the kind or the wait is invalid."""
        words = message if type(message) is str else "" if message is None else text_of(message)
        super().__init__(f"{code}: {words}" if words else code)
        if not is_a(code, str) or not is_code(code):
            msg = f"an error code must be 1 to 48 of A-Z, 0-9 and _, not {code!r}"
            raise ValueError(msg)
        if retry_after is not None and not 0 <= retry_after <= MAX_RETRY_AFTER:
            msg = f"retry_after must be 0 to 86400 seconds, not {retry_after!r}"
            raise ValueError(msg)
        self.code = code
        self.message = words
        self.kind = OutcomeKind(kind) if kind is not None else kind_of(code)
        if self.kind in {OutcomeKind.SUCCESS, OutcomeKind.CANCELLED}:
            msg = f"a JobError cannot be of kind {self.kind.value}"
            raise ValueError(msg)
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[Any, ...]:
        return _job_error, (type(self), self.args, dict(vars(self)))


class SubmitError(JobError):
    """A follow-up job was not accepted. Uncaught it is the outcome of the run: `code` is the reason, `kind` says whether that is retried.

    Of kind data for what will be rejected again: an invalid payload, or the same key with another payload. Transient for limits, with the
    wait that they ask for, and while a server is unavailable.
    """

    __module__ = "sickbay"


def _job_error(cls: type[JobError], args: tuple[object, ...], state: dict[str, object]) -> JobError:
    """Restore a pickled error without calling its class's `__init__`."""
    error = cls.__new__(cls, *args)
    error.args = args
    vars(error).update(state)
    return error
