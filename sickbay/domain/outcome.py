"""The outcome of a run, and the kind of failure of each error code (`docs/breaker.md`, table "Outcomes").

Pure. The kind decides everything else: whether the run is retried, counts towards opening the breaker, and what it proves as a probe.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal

from sickbay.domain.result import Result


class OutcomeKind(StrEnum):
    """The kinds of outcome, by what they say about the dependency behind a job type."""

    SUCCESS = "success"
    SYSTEMIC = "systemic"
    """The dependency is down or overloaded: retried without end, counts."""
    TRANSIENT = "transient"
    """A temporary error, counted under its own code: retried without end, counts."""
    DATA = "data"
    """This job's own fault: retried as documented, never counts, proves nothing as a probe."""
    UNKNOWN = "unknown"
    """Any other exception: retried, counts."""
    CANCELLED = "cancelled"
    """The run was cancelled by the worker: redelivered, not charged, proves nothing."""

    @property
    def is_breaker_failure(self) -> bool:
        """Whether such a failure counts towards opening the breaker."""
        return self in {OutcomeKind.SYSTEMIC, OutcomeKind.TRANSIENT, OutcomeKind.UNKNOWN}

    @property
    def is_blameless(self) -> bool:
        """Whether such a failure is no fault of the job, so that it never ends in quarantine for it."""
        return self in {OutcomeKind.SYSTEMIC, OutcomeKind.TRANSIENT}


KindName = Literal["systemic", "transient", "data", "unknown"]
"""How a handler writes a kind."""
FAILURE_KINDS: Final = (OutcomeKind.SYSTEMIC, OutcomeKind.TRANSIENT, OutcomeKind.DATA, OutcomeKind.UNKNOWN)
"""The kinds that a failure can be of."""

KINDS: Final[dict[str, OutcomeKind]] = {
    "API_TIMEOUT": OutcomeKind.SYSTEMIC,
    "HANDLER_TIMEOUT": OutcomeKind.SYSTEMIC,
    "SERVICE_UNAVAILABLE": OutcomeKind.SYSTEMIC,
    "CONNECTION_REFUSED": OutcomeKind.SYSTEMIC,
    "NETWORK_ERROR": OutcomeKind.TRANSIENT,
    "RATE_LIMITED": OutcomeKind.TRANSIENT,
    "VALIDATION_ERROR": OutcomeKind.DATA,
    "BAD_REQUEST": OutcomeKind.DATA,
    "NOT_FOUND": OutcomeKind.DATA,
    "PAYLOAD_UNREADABLE": OutcomeKind.DATA,
}
"""The well-known codes; a handler may map more, or state the kind itself."""

RATE_LIMIT_CODES: Final = frozenset({"RATE_LIMITED", "HTTP_429"})
"""With a Retry-After they say that everybody has to wait, not only this job."""
HTTP_SERVER_ERRORS: Final = range(500, 600)
HTTP_CLIENT_ERRORS: Final = range(400, 500)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one run ended. `retry_after_ms` is the wait the dependency asked for, None if none; `traceback` says where it failed.

    `result` is what the handler returned; None if that was None, or if the run failed.
    """

    kind: OutcomeKind
    code: str = ""
    message: str = ""
    retry_after_ms: int | None = None
    traceback: str = field(default="", compare=False)
    result: Result | None = None

    @property
    def is_rate_limit(self) -> bool:
        """Whether the dependency has said for how long it takes no calls: no further evidence is needed to wait."""
        return self.code in RATE_LIMIT_CODES and bool(self.retry_after_ms)


SUCCESS: Final = Outcome(OutcomeKind.SUCCESS)
LOST: Final = Outcome(OutcomeKind.CANCELLED, "PROGRAM_LOST")
"""The program that ran the job is gone: nothing is proved, but a job whose programs are lost again and again may be the cause."""


def kind_of(code: str) -> OutcomeKind:
    """The kind of a code: from the table, HTTP_4xx and HTTP_5xx by their class, else UNKNOWN."""
    known = KINDS.get(code)
    if known is not None:
        return known
    number = code.removeprefix("HTTP_")
    if number != code and number.isdigit():
        status = int(number)
        if status in HTTP_SERVER_ERRORS:
            return OutcomeKind.SYSTEMIC
        if status in {408, 425, 429}:
            return OutcomeKind.TRANSIENT
        if status in HTTP_CLIENT_ERRORS:
            return OutcomeKind.DATA
    return OutcomeKind.UNKNOWN
