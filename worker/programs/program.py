"""One connected program: its slots, the runs that it has, and what it is told. Everything belongs to the worker's loop."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from typing import Final, Protocol

from sickbay.contract import work as contract
from sickbay.domain.errors import Aborted, ErrorReason, InvalidArgument, SickbayError
from sickbay.domain.outcome import LOST, Outcome
from sickbay.domain.program import MAX_MISSED, Registration
from sickbay.jobs.v1 import work_pb2 as pb
from worker.elsewhere import Stop
from worker.programs.call import Ignored, ProgramCall
from worker.run import CANCELLED

MAX_INVALID: Final = 100
"""Invalid messages within a heartbeat interval; more end the stream."""
_REASONS: Final = {Stop.TIMEOUT: pb.WorkResponse.Cancel.REASON_TIMEOUT, Stop.STOPPING: pb.WorkResponse.Cancel.REASON_STOPPING}
"""At the end of a grace the program has been told before."""
_HEARTBEAT: Final = pb.WorkResponse(heartbeat=pb.WorkResponse.Heartbeat())
_DRAINING: Final = pb.WorkResponse(draining=pb.WorkResponse.Draining())

log = logging.getLogger("sickbay")


class Owner(Protocol):
    """Who has the programs (`connected.py`)."""

    def on_free(self, program: Program) -> None:
        """It may run another job."""

    def on_changed(self) -> None:
        """It takes jobs of other types, or of none."""

    def on_ignored(self, why: Ignored) -> None:
        """A message of it changes nothing."""

    def on_lost(self) -> None:
        """A run of it is lost."""


class Program:
    """From the opening of a stream to its end."""

    def __init__(self, owner: Owner, address: str, heartbeat_s: float) -> None:
        """It has not registered yet; it must be heard of every `heartbeat_s` seconds."""
        self.registration: Registration | None = None
        self.address = address
        self.is_draining = self.is_over = self.has_flooded = False
        self._owner, self._heartbeat_s = owner, heartbeat_s
        self._calls: dict[str, ProgramCall] = {}
        self._taken: Counter[str] = Counter()
        self._out: deque[pb.WorkResponse | ProgramCall] = deque()
        self._wake = asyncio.Event()
        self._error: SickbayError | None = None
        self._silent = self._invalid = 0
        self._timer = self._start_timer()

    def __str__(self) -> str:
        return f"{self.registration or 'a program'} at {self.address}"

    @property
    def takes_jobs(self) -> bool:
        """Whether it gets jobs."""
        return self.registration is not None and not self.is_draining and not self.is_over

    @property
    def slots(self) -> int:
        """How many jobs it runs at a time; 0 if it takes none."""
        return self.registration.slots if self.registration is not None and self.takes_jobs else 0

    @property
    def slots_in_use(self) -> int:
        """How many of its slots are taken."""
        return self._taken.total()

    @property
    def overdue(self) -> int:
        """How many runs it has whose outcome does not count any more."""
        return sum(call.on_end is None for call in self._calls.values())

    def free(self, job_type: str) -> int:
        """How many more jobs of this type it may run; below 1 if none."""
        if self.registration is None or not self.takes_jobs:
            return 0
        limit = self.registration.limits.get(job_type, 0)
        return min(limit - self._taken[job_type], self.registration.slots - self._taken.total()) if limit else 0

    def take(self, job_type: str) -> None:
        """A job of this type takes a slot."""
        self._taken[job_type] += 1

    def give(self, job_type: str) -> None:
        """It has become free."""
        self._taken[job_type] -= 1
        if not self._taken[job_type]:
            del self._taken[job_type]
        self._owner.on_free(self)

    def begin(self, call: ProgramCall, message: pb.WorkResponse) -> None:
        """Send it a job, for which it has a place."""
        call.message = message
        self._calls[call.run_id] = call
        self._say(call)

    def ask_to_end(self, call: ProgramCall) -> None:
        """Somebody asked to cancel the job of this run; its outcome still counts."""
        if not self.is_over and call.run_id in self._calls:
            self._say(contract.cancel(call.run_id, pb.WorkResponse.Cancel.REASON_CANCELLED))  # after the run, if that is not sent yet

    def stop(self, call: ProgramCall, why: Stop) -> None:
        """The outcome of this run does not count any more."""
        if self.is_over or call.run_id not in self._calls:
            return
        if not call.is_sent:
            self._forget(call)
        elif why in _REASONS:
            self._say(contract.cancel(call.run_id, _REASONS[why]))

    def tell_registered(self, version: str) -> None:
        """The registration is in force."""
        self._say_once(contract.registered(version, self._heartbeat_s))

    def tell_draining(self) -> None:
        """The worker is about to stop."""
        self._say_once(_DRAINING)

    def heard(self) -> None:
        """It has said something, so it is alive."""
        self._silent = 0

    def take_in(self, message: pb.WorkRequest) -> bool:
        """Act on a message that is no registration; returns whether it was the answer to a run.

        InvalidArgument if it has said too much that is invalid.
        """
        match message.WhichOneof("message"):
            case "succeeded":
                return self._answered(message.succeeded.run_id, contract.succeeded, message.succeeded)
            case "failed":
                return self._answered(message.failed.run_id, contract.failed, message.failed)
            case "progress":
                self._progress(message.progress)
            case "heartbeat":
                self._say_once(_HEARTBEAT)
            case "drain":
                self._drain()
            case _:
                self._owner.on_ignored(Ignored.UNKNOWN)
        return False

    def registered(self, registration: Registration) -> None:
        """It has registered, or registered anew."""
        self.registration, self.is_draining = registration, False
        self._owner.on_changed()

    async def outgoing(self) -> AsyncIterator[pb.WorkResponse]:
        """What to send, until the program is over; then the error is raised that ended it, if any."""
        while True:
            while self._out and not self.is_over:
                said = self._out.popleft()
                if not isinstance(said, ProgramCall):
                    yield said
                elif said.run_id in self._calls:
                    said.is_sent = True
                    yield said.message
            if self._error is not None:
                raise self._error
            if self.is_over:
                return
            self._wake.clear()
            await self._wake.wait()

    def end(self, error: SickbayError | None = None) -> None:
        """Its stream is at its end: its runs go back, and it gets no more. Calling it again does nothing."""
        if self.is_over:
            return
        self.is_over, self._error = True, error
        self._timer.cancel()
        self._wake.set()
        self._owner.on_changed()
        calls, self._calls = list(self._calls.values()), {}
        lost = sum(call.is_sent and call.on_end is not None for call in calls)
        if self.registration is not None:
            is_odd = lost or not (error is None or error.reason is ErrorReason.SHUTTING_DOWN)
            log.log(logging.WARNING if is_odd else logging.INFO, "program %s has left%s%s", self, _runs(lost), _why(error))
        for call in calls:
            if call.is_sent and call.on_end is not None:
                self._owner.on_lost()
            call.end(LOST if call.is_sent else CANCELLED)
            call.place.free()

    def _answered(self, run_id: str, read: Callable[..., Outcome], message: object) -> bool:
        call = self._calls.get(run_id)
        if call is None or not call.is_sent:
            self._owner.on_ignored(Ignored.LATE)
            return False
        if call.on_end is None:
            self._owner.on_ignored(Ignored.LATE)
        else:
            call.end(read(message))
        self._forget(call)
        return True

    def _progress(self, message: pb.WorkRequest.Progress) -> None:
        call = self._calls.get(message.run_id)
        if call is None or call.on_end is None:
            self._owner.on_ignored(Ignored.LATE)
            return
        try:
            call.run.job.progress(message.fraction, message.message)
        except ValueError as error:
            self._count_invalid(str(error))

    def _count_invalid(self, why: str) -> None:
        self._owner.on_ignored(Ignored.INVALID)
        self._invalid += 1
        if self._invalid > MAX_INVALID:
            raise InvalidArgument(f"too many invalid messages; the last one: {why}", ErrorReason.INVALID_MESSAGES)

    def _drain(self) -> None:
        if not self.is_draining:
            self.is_draining = True
            self._owner.on_changed()

    def _forget(self, call: ProgramCall) -> None:
        del self._calls[call.run_id]
        call.place.free()

    def _say(self, said: pb.WorkResponse | ProgramCall) -> None:
        self._out.append(said)
        self._wake.set()

    def _say_once(self, said: pb.WorkResponse) -> None:
        """Unless the same waits already, so that what is not read stays little."""
        kind = said.WhichOneof("message")
        if not any(isinstance(one, pb.WorkResponse) and one.WhichOneof("message") == kind for one in self._out):
            self._say(said)

    def _start_timer(self) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(self._heartbeat_s, self._tick)

    def _tick(self) -> None:
        """A heartbeat interval has passed. They are counted, not measured: a standstill of this process is not the program's silence."""
        self._silent += 1
        self._invalid = 0
        if self._silent <= MAX_MISSED:
            self._timer = self._start_timer()
            return
        seconds = MAX_MISSED * self._heartbeat_s
        why = f"nothing was heard of the program for {seconds:g} s; send a heartbeat every {self._heartbeat_s:g} s, and connect again"
        self.end(Aborted(why, ErrorReason.PROGRAM_SILENT))


def _runs(lost: int) -> str:
    if not lost:
        return ""
    return f"; {lost} jobs that it was running go back to the queue" if lost > 1 else "; the job that it was running goes back to the queue"


def _why(error: SickbayError | None) -> str:
    return f": {error}" if error is not None else ""
