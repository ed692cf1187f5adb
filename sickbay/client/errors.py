"""What failed calls raise: one tree, each with the service's sentence, the reason of the contract and, where waiting helps, for how long.

    SickbayError
    |-- InvalidRequest       the request is wrong; the message says what to correct
    |-- NotFound             no such job, breaker, incident or schedule
    |-- Conflict             the idempotency key belongs to another request, the name is taken, or another client was first (etag)
    |-- FailedPrecondition   the state of the job or breaker does not allow it, or the service lacks a setting
    |-- LimitReached         a limit on rates, names, waiting jobs or calls: it was not accepted; `quota` if it is a rate
    |-- CircuitOpen          the circuit is open, and the job was to be rejected instead of parked; `retry_after` is until the next probe
    |-- Unavailable          no connection, or a server behind the service does not answer; the same request can be sent again
    |-- DeadlineExceeded     no answer within the timeout: a change may have happened, or not
    |-- Unauthenticated      the token is missing or wrong
    |-- PermissionDenied     the token does not allow it
    |-- NoResult             `result` has waited for a job that has none to return; `job` is that job
    |   |-- JobNotSucceeded  it was cancelled or discarded, or is in quarantine
    |   `-- ResultNotKept    it succeeded, but what its handler returned was not kept; the message says why
    `-- ServerFault          an error within the service, or an answer that this version cannot read

All can be pickled. The message is written for people: branch on the class and on `reason`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import grpc

from sickbay.contract.faults import Fault, received
from sickbay.domain.errors import ErrorReason, Quota

if TYPE_CHECKING:
    from sickbay.client.jobs import Job


class SickbayError(Exception):
    """Base of all; `str()` is the service's sentence.

    `reason` is a name of the contract's `ErrorReason`, an open set; empty if the error is not the service's, for example without a
    connection. `code` is the gRPC status code's name. `retry_after` is in seconds, None if waiting does not help. `quota` is set if a rate
    is exceeded. `violations` are the single mistakes of a payload, each with the path of its field, if the service has listed them.
    """

    __module__ = "sickbay.client"  # where users import it from, so what tracebacks call it

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        code: str = "UNKNOWN",
        retry_after: float | None = None,
        quota: Quota | None = None,
        violations: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Set what `sickbay.client` has read from the failed call."""
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.code = code
        self.retry_after = retry_after
        self.quota = quota
        self.violations = tuple(violations)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.message, dict(vars(self)))


class InvalidRequest(SickbayError):
    """The request is wrong; the message says what to correct."""

    __module__ = "sickbay.client"


class NotFound(SickbayError):
    """No such job, breaker, incident or schedule; or the job is not in quarantine, or no longer SCHEDULED."""

    __module__ = "sickbay.client"


class Conflict(SickbayError):
    """The idempotency key belongs to another request, the name is taken, or another client was first: read again, then repeat."""

    __module__ = "sickbay.client"


class FailedPrecondition(SickbayError):
    """The state of the job or breaker does not allow it, or a setting is missing."""

    __module__ = "sickbay.client"


class LimitReached(SickbayError):
    """A limit is reached, and nothing was accepted. `retry_after` is when there may be room; see also `wait_for_limits`."""

    __module__ = "sickbay.client"


class CircuitOpen(SickbayError):
    """The job was rejected, because its circuit is open and `on_open` is REJECT; `retry_after` is until the next probe."""

    __module__ = "sickbay.client"


class Unavailable(SickbayError):
    """No connection, or a server behind the service does not answer. Nothing is lost; the same request can be sent again."""

    __module__ = "sickbay.client"


class DeadlineExceeded(SickbayError):
    """No answer within the timeout. A submit may be repeated with the same `request_id`; other changes may or may not have happened."""

    __module__ = "sickbay.client"


class Unauthenticated(SickbayError):
    """The token is missing or wrong."""

    __module__ = "sickbay.client"


class PermissionDenied(SickbayError):
    """The token does not allow this call."""

    __module__ = "sickbay.client"


class NoResult(SickbayError):
    """The job whose result was waited for has none to return: `job`, as it was last seen. Base of the two below."""

    __module__ = "sickbay.client"

    def __init__(self, message: str, job: Job) -> None:
        """No answer of the service's, so without its reason."""
        super().__init__(message, code=grpc.StatusCode.FAILED_PRECONDITION.name)
        self.job = job


class JobNotSucceeded(NoResult):
    """The job whose result was waited for has ended without success, or is in quarantine: `job.state` says which, `job.errors` why."""

    __module__ = "sickbay.client"


class ResultNotKept(NoResult):
    """`job` has succeeded, but what its handler returned was too large or no JSON; the message is `job.result_note`."""

    __module__ = "sickbay.client"


class ServerFault(SickbayError):
    """An error within the service, whose log has the details; or it is not a service of this version."""

    __module__ = "sickbay.client"


CLASSES: Final[Mapping[grpc.StatusCode, type[SickbayError]]] = MappingProxyType(
    {
        grpc.StatusCode.OK: ServerFault,
        grpc.StatusCode.CANCELLED: Unavailable,
        grpc.StatusCode.UNKNOWN: ServerFault,
        grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
        grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
        grpc.StatusCode.NOT_FOUND: NotFound,
        grpc.StatusCode.ALREADY_EXISTS: Conflict,
        grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
        grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
        grpc.StatusCode.RESOURCE_EXHAUSTED: LimitReached,
        grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
        grpc.StatusCode.ABORTED: Conflict,
        grpc.StatusCode.UNIMPLEMENTED: ServerFault,
        grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
        grpc.StatusCode.INTERNAL: ServerFault,
        grpc.StatusCode.UNAVAILABLE: Unavailable,
        grpc.StatusCode.DATA_LOSS: ServerFault,
    }
)
"""Every status code of gRPC is listed; a test checks that."""


def error_of(fault: Fault) -> SickbayError:
    """The exception of a fault."""
    kind = CircuitOpen if fault.reason == ErrorReason.CIRCUIT_OPEN else CLASSES[fault.code]
    message = fault.message or f"the call failed with {fault.code.name}, without a message"
    return kind(
        message, reason=fault.reason, code=fault.code.name, retry_after=fault.retry_after, quota=fault.quota, violations=fault.violations
    )


def fault_of_call(error: grpc.RpcError) -> Fault:
    """What the service said, or gRPC itself: then without a reason."""
    return received(error)


def invalid(message: str, reason: ErrorReason = ErrorReason.INVALID_FIELD) -> InvalidRequest:
    """The error of an argument that is not even sent."""
    return InvalidRequest(message, reason=reason.value, code=grpc.StatusCode.INVALID_ARGUMENT.name)


def unsendable(error: UnicodeEncodeError) -> InvalidRequest:
    """The error of a text that is no valid Unicode, such as a lone surrogate; protobuf raises its own."""
    return invalid(f"a text cannot be sent as UTF-8: {error.reason} at position {error.start}")


def out_of_time(message: str) -> DeadlineExceeded:
    """The error of a wait that is over."""
    return DeadlineExceeded(message, code=grpc.StatusCode.DEADLINE_EXCEEDED.name)


def _restored(kind: type[SickbayError], message: str, state: dict[str, Any]) -> SickbayError:
    """A pickled error, without calling its class's `__init__`."""
    error = kind.__new__(kind, message)
    error.args = (message,)
    vars(error).update(state)
    return error
