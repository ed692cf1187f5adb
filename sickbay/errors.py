"""The errors of Sickbay: one tree, each with the reason of the contract; only the doors (gRPC, REST, CLI) translate them.

    SickbayError
    |-- InvalidArgument      the request is wrong; the message says what to correct
    |-- NotFound             no such job or breaker
    |-- AlreadyExists        the idempotency key belongs to another request
    |-- Aborted              somebody else was first: read again, then repeat
    |-- FailedPrecondition   not allowed in this state, or a setting is missing
    |-- Unavailable          a server behind us does not answer; nothing is lost, repeat later
    `-- SettingsError        a variable or an option is wrong; the program does not start

    JobError                 what a handler raises to say how its run failed (not a SickbayError: it is an outcome)

Messages are written for the client and never carry a driver's or Python's own words.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Final

from sickbay.job import is_code
from sickbay.outcome import Kind, kind_of

MAX_RETRY_AFTER: Final = 86_400
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
    IDEMPOTENCY_KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"
    REQUEST_IN_PROGRESS = "REQUEST_IN_PROGRESS"
    ETAG_MISMATCH = "ETAG_MISMATCH"
    WRONG_STATE = "WRONG_STATE"
    NOT_CONFIGURED = "NOT_CONFIGURED"
    BACKEND_UNAVAILABLE = "BACKEND_UNAVAILABLE"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    INTERNAL = "INTERNAL"


class SickbayError(Exception):
    """Base of all errors that a door may show; `str()` is the message for the client."""

    default_reason: ClassVar[ErrorReason] = ErrorReason.INTERNAL

    def __init__(self, message: str, reason: ErrorReason | None = None) -> None:
        """Take the sentence for the client and, where it differs from the class's own, the reason."""
        super().__init__(message)
        self.reason = reason or self.default_reason


class InvalidArgument(SickbayError):
    """The request is wrong; the message says what to correct."""

    default_reason = ErrorReason.INVALID_FIELD


class NotFound(SickbayError):
    """No such job or breaker."""

    default_reason = ErrorReason.JOB_NOT_FOUND


class AlreadyExists(SickbayError):
    """The idempotency key belongs to another request."""

    default_reason = ErrorReason.IDEMPOTENCY_KEY_REUSED


class Aborted(SickbayError):
    """Somebody else was first: read again, then repeat."""

    default_reason = ErrorReason.ETAG_MISMATCH


class FailedPrecondition(SickbayError):
    """Not allowed in this state, or a setting is missing."""

    default_reason = ErrorReason.WRONG_STATE


class Unavailable(SickbayError):
    """A server behind us does not answer; nothing is lost. `retry_after` is the advised wait in seconds."""

    default_reason = ErrorReason.BACKEND_UNAVAILABLE

    def __init__(self, message: str, reason: ErrorReason | None = None, *, retry_after: float = 1.0) -> None:
        """Take the sentence, the reason and the advised wait in seconds."""
        super().__init__(message, reason)
        self.retry_after = retry_after


class SettingsError(SickbayError):
    """A variable or an option is wrong; one sentence that names it."""

    default_reason = ErrorReason.NOT_CONFIGURED


class JobError(Exception):
    """What a handler raises to say how its run failed.

    `code` matches `[A-Z0-9_]{1,48}`; its kind comes from `sickbay.outcome.kind_of` unless `kind` is given.
    `retry_after` (seconds) delays the next attempt, and is the least cooldown should this failure open the circuit.
    """

    def __init__(self, code: str, message: str = "", *, kind: Kind | str | None = None, retry_after: float | None = None) -> None:
        """Raise ValueError if the code, the kind or the wait cannot be meant."""
        super().__init__(f"{code}: {message}" if message else code)
        if not is_code(code):
            msg = f"an error code is 1 to 48 of A-Z, 0-9 and _, not {code!r}"
            raise ValueError(msg)
        if retry_after is not None and not 0 <= retry_after <= MAX_RETRY_AFTER:
            msg = f"retry_after is 0 to 86400 seconds, not {retry_after!r}"
            raise ValueError(msg)
        self.code = code
        self.message = message
        self.kind = Kind(kind) if kind is not None else kind_of(code)
        if self.kind in {Kind.SUCCESS, Kind.CANCELLED}:
            msg = f"a JobError cannot be of kind {self.kind.value}"
            raise ValueError(msg)
        self.retry_after = retry_after
