"""A call described once, for both clients: what is sent, how the answer is read, and whether it is safe to send it again. Pure.

The modules `*_calls.py` have one function for each method of the clients, which turns its arguments into one of these; the two drivers
(`blocking.py`, `asynchronous.py`) carry them out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Generic, TypeVar

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from sickbay.breakers.v1.breaker_service_pb2_grpc import BreakerServiceStub
from sickbay.client.errors import error_of, invalid, out_of_time
from sickbay.client.reading import number
from sickbay.client.retry import Retries
from sickbay.contract.faults import Fault
from sickbay.jobs.v1.job_service_pb2_grpc import JobServiceStub
from sickbay.jobs.v1.job_type_service_pb2_grpc import JobTypeServiceStub
from sickbay.jobs.v1.quarantine_service_pb2_grpc import QuarantineServiceStub
from sickbay.jobs.v1.scheduled_job_service_pb2_grpc import ScheduledJobServiceStub
from sickbay.schedules.v1.schedule_service_pb2_grpc import ScheduleServiceStub

T = TypeVar("T")

MAX_PAGE: Final = 1_000
RECONNECT_S: Final = 60.0
"""For how long a broken watch is resumed before it raises what broke it."""


class Server(Enum):
    """The service that is called; the value is its name for people."""

    JOB_API = "Job API"
    CONTROL_PLANE = "control plane"


@dataclass(frozen=True, slots=True)
class Rpc:
    """A method of the contract, with the class of its stubs and the service that has it."""

    server: Server
    stub: type[Any]
    method: str

    @classmethod
    def of_jobs(cls, method: str) -> Rpc:
        """A method of JobService."""
        return cls(Server.JOB_API, JobServiceStub, method)

    @classmethod
    def of_types(cls, method: str) -> Rpc:
        """A method of JobTypeService."""
        return cls(Server.JOB_API, JobTypeServiceStub, method)

    @classmethod
    def of_breakers(cls, method: str) -> Rpc:
        """A method of BreakerService."""
        return cls(Server.CONTROL_PLANE, BreakerServiceStub, method)

    @classmethod
    def of_quarantine(cls, method: str) -> Rpc:
        """A method of QuarantineService."""
        return cls(Server.CONTROL_PLANE, QuarantineServiceStub, method)

    @classmethod
    def of_scheduled_jobs(cls, method: str) -> Rpc:
        """A method of ScheduledJobService."""
        return cls(Server.CONTROL_PLANE, ScheduledJobServiceStub, method)

    @classmethod
    def of_schedules(cls, method: str) -> Rpc:
        """A method of ScheduleService."""
        return cls(Server.CONTROL_PLANE, ScheduleServiceStub, method)


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request and one reply. `timeout` is in seconds, retries included; None is the client's, `math.inf` none.

    `is_safe`: it may be sent again when it is unknown whether it took effect. `room_s`: see `retry.Retries`.
    """

    rpc: Rpc
    request: Message
    parse: Callable[[Any], T]
    timeout: float | None
    is_safe: bool = True
    room_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Pages(Generic[T]):
    """A list that is read page by page, as far as it is iterated. `limit` bounds it; `timeout` is that of each page."""

    rpc: Rpc
    request: Any
    items: Callable[[Any], Iterator[T]]
    timeout: float | None
    limit: int | None = None

    def page(self, token: str, seen: int) -> Call[Any]:
        """The call for the next page, after so many items."""
        size = self.request.page_size or MAX_PAGE
        request = _copy(self.request)
        request.page_size = size if self.limit is None else min(size, self.limit - seen)
        request.page_token = token
        return Call(self.rpc, request, _whole, self.timeout)


@dataclass(frozen=True, slots=True)
class Watch(Generic[T]):
    """A stream that is resumed where it broke. `timeout` is that of the whole in seconds; None: none.

    `reconnect_s` is for how long it is tried to resume it after a break.
    """

    rpc: Rpc
    request: Any
    parse: Callable[[Any], T]
    timeout: float | None
    reconnect_s: float = RECONNECT_S


class WatchState:
    """Where a watch is, and whether it is resumed after a break."""

    def __init__(self, watch: Watch[Any], now: float) -> None:
        """It begins now; `now` is of a monotonic clock, here and below."""
        self._watch = watch
        self._whole = Retries(now, watch.timeout, is_safe=True)
        self._broken: Retries | None = None
        self.request = _copy(watch.request)
        """What continues after everything that was received."""

    def left(self, now: float) -> float | None:
        """The seconds that are left for the whole; None: any number."""
        return self._whole.left(now)

    def receive(self, reply: Any) -> None:
        """Record what was received."""
        self.request.resume_token = reply.resume_token
        self._broken = None

    def pause(self, fault: Fault, now: float) -> float:
        """The seconds to wait before the watch is resumed; raises if that is in vain."""
        timeout, left = self._watch.timeout, self.left(now)
        if left is not None and fault.code is grpc.StatusCode.DEADLINE_EXCEEDED:
            raise out_of_time(f"the watch did not end within {timeout:g} s")
        self._broken = self._broken or Retries(now, self._watch.reconnect_s, is_safe=True)
        pause = self._broken.delay(fault, now)
        if pause is None or (left is not None and pause >= left):
            raise error_of(fault)
        return pause


def enum_number(enum: Any, name: str | None, field: str) -> Any:
    """The contract's number of a name without prefix; InvalidRequest names the field if there is none."""
    try:
        return number(enum.DESCRIPTOR, name)
    except ValueError as error:
        raise invalid(f"{field}: {error}") from None


def enum_numbers(enum: Any, names: Iterable[str] | str, field: str) -> list[Any]:
    """The same for several names, or a single one."""
    return [enum_number(enum, name, field) for name in ([names] if isinstance(names, str) else names)]


def duration(seconds: float | None, field: str) -> Duration | None:
    """Seconds as a Duration, to the millisecond; None stays None. InvalidRequest if it is negative or no number."""
    if seconds is None:
        return None
    if not 0 <= seconds < float("inf"):
        raise invalid(f"{field}: {seconds!r} is not a number of seconds")
    found = Duration()
    found.FromMilliseconds(round(seconds * 1_000))
    return found


def _whole(reply: Any) -> Any:
    return reply


def _copy(request: Any) -> Any:
    copy = type(request)()
    copy.CopyFrom(request)
    return copy
