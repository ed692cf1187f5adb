"""All programs that are connected: their job types are handlers of this worker for as long as one takes jobs of them."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from sickbay.contract import work as contract
from sickbay.domain.errors import ErrorReason, FailedPrecondition, ResourceExhausted, Unavailable
from sickbay.domain.job import Job
from sickbay.domain.program import HEARTBEAT_S, Registration
from sickbay.domain.trace import trace_headers
from sickbay.ports import Clock
from sickbay.version import VERSION
from worker.elsewhere import ElsewhereSpec, OnEnd
from worker.handlers import Handlers, Source
from worker.programs.allowance import PER_S
from worker.programs.call import Ignored, ProgramCall
from worker.programs.places import PLACE, ProgramGate, admit_next
from worker.programs.program import Program
from worker.run import CANCELLED, Run

MAX_PROGRAMS: Final = 250
MAX_ALL_TYPES: Final = 1_000
"""Job types of all programs together."""
_OWNERS: Final = {Source.MODULES: "its JOB_HANDLERS", Source.SETTINGS_FILE: "its settings file"}
_STOPPING: Final = "the worker is stopping; connect to another one, or again in a moment"

log = logging.getLogger("sickbay")


def _context_of(job: Job) -> Mapping[str, str]:
    return trace_headers(job.trace)


class Connected:
    """One per worker, on its loop."""

    def __init__(
        self,
        handlers: Handlers,
        clock: Clock,
        *,
        heartbeat_s: float = HEARTBEAT_S,
        trace_context: Callable[[Job], Mapping[str, str]] = _context_of,
    ) -> None:
        """`handlers` gets the types of the programs. `trace_context` gives the headers of the trace of a run that is about to begin."""
        self._handlers, self._clock = handlers, clock
        self._heartbeat_s, self._trace_context = heartbeat_s, trace_context
        self._gates: dict[str, ProgramGate] = {}
        self._order = itertools.count(1)
        self._runs = itertools.count(1)
        self._is_draining = False
        self.programs: set[Program] = set()
        self.ignored: Counter[Ignored] = Counter()
        """Messages that changed nothing."""
        self.delayed = 0
        """Messages after which a program that sends too many had to wait."""
        self.lost = 0
        """Runs whose program was lost."""

    def connect(self, address: str) -> Program:
        """A program has opened a stream. ResourceExhausted if there are too many, Unavailable if the worker stops."""
        if self._is_draining:
            raise Unavailable(_STOPPING, ErrorReason.SHUTTING_DOWN)
        if len(self.programs) >= MAX_PROGRAMS:
            raise ResourceExhausted(
                f"{MAX_PROGRAMS} programs are connected to this worker, and no more may be; connect to another one",
                ErrorReason.TOO_MANY_PROGRAMS,
                retry_after=10,
            )
        program = Program(self, address, self._heartbeat_s)
        self.programs.add(program)
        return program

    def register(self, program: Program, registration: Registration) -> None:
        """Give it jobs of these types from now on, and of no others. FailedPrecondition if the worker handles one by itself."""
        for job_type in registration.limits:
            owner = _OWNERS.get(self._handlers.source_of(job_type) or Source.PROGRAMS)
            if owner is not None:
                raise FailedPrecondition(
                    f"this worker handles {job_type!r} by itself ({owner}); leave it to the worker, or take it from there"
                )
        others = {name for one in self.programs if one is not program and one.registration for name in one.registration.limits}
        if len(others | registration.limits.keys()) > MAX_ALL_TYPES:
            why = f"the programs of one worker handle at most {MAX_ALL_TYPES:,} job types; connect to another worker"
            raise ResourceExhausted(why, ErrorReason.TOO_MANY_PROGRAMS, retry_after=10)
        if program.takes_jobs and program.registration == registration:
            program.tell_registered(VERSION)
            return
        program.tell_registered(VERSION)
        program.registered(registration)
        log.info("program %s handles %s, %d jobs at a time", program, ", ".join(sorted(registration.limits)), registration.slots)

    def end(self, program: Program) -> None:
        """The stream of the program has ended."""
        program.end()
        self.programs.discard(program)

    def drain(self) -> None:
        """The worker is about to stop: the programs are told, and no others may connect."""
        self._is_draining = True
        for program in self.programs:
            program.tell_draining()

    def close(self) -> None:
        """The worker stops: end all streams."""
        self._is_draining = True
        for program in tuple(self.programs):
            program.end(Unavailable(_STOPPING, ErrorReason.SHUTTING_DOWN))

    def begin(self, run: Run, on_end: OnEnd) -> ProgramCall:
        """Send a job to the program in which it has its place."""
        place = PLACE.get()
        if place is None or not isinstance(place.program, Program):
            msg = "a job of a program begins without a place"
            raise RuntimeError(msg)
        place.began = True
        call = ProgramCall(place.program, place, str(next(self._runs)), run, on_end)
        if place.program.is_over:
            loop = asyncio.get_running_loop()
            loop.call_soon(call.end, CANCELLED)
            loop.call_soon(place.free)
            return call
        context = self._trace_context(run.job)
        message = contract.run(call.run_id, run.job, timeout_s=run.seconds, now=self._clock(), trace_context=context)
        place.program.begin(call, message)
        return call

    def on_free(self, program: Program) -> None:
        """See `Owner`."""
        if program.registration is not None:
            admit_next(self._gates, program.registration.limits)

    def on_changed(self) -> None:
        """See `Owner`: the types of all programs that take jobs are those of the worker."""
        taking = [program for program in self.programs if program.takes_jobs]
        offers: dict[str, list[tuple[Program, float | None]]] = {}
        for program in taking:
            for offer in program.registration.offers if program.registration is not None else ():
                offers.setdefault(offer.job_type, []).append((program, offer.timeout))
        specs = [self._spec(job_type, found) for job_type, found in offers.items()]
        for job_type in self._gates.keys() - offers.keys():
            self._gates[job_type].programs.clear()
        self._handlers.replace(Source.PROGRAMS, specs)
        for job_type in self._gates.keys() - offers.keys():
            self._gates.pop(job_type).remove()
        admit_next(self._gates, offers)

    def on_ignored(self, why: Ignored) -> None:
        """See `Owner`."""
        self.ignored[why] += 1

    def on_flood(self, program: Program) -> None:
        """It sends more than it may: what is beyond that waits, also its answers, so somebody has to know."""
        self.delayed += 1
        if not program.has_flooded:
            program.has_flooded = True
            log.warning("program %s sends too many messages; it may send %d per second beside answers, and others wait", program, PER_S)

    def on_lost(self) -> None:
        """See `Owner`."""
        self.lost += 1

    def _spec(self, job_type: str, offers: list[tuple[Program, float | None]]) -> ElsewhereSpec:
        gate = self._gates.get(job_type)
        if gate is None:
            gate = self._gates[job_type] = ProgramGate(job_type, self._order)
        gate.programs.clear()
        gate.programs.extend(program for program, _ in offers)
        longest = max((timeout for _, timeout in offers if timeout is not None), default=None)
        return ElsewhereSpec(job_type, _not_here, longest, place="a connected program", begin=self.begin, gate=gate)


def _not_here(_: Job) -> None:
    msg = "the handler of a program runs in that program"
    raise RuntimeError(msg)
