"""One run that a program has."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from sickbay.domain.outcome import Outcome
from sickbay.jobs.v1 import work_pb2 as pb
from worker.elsewhere import OnEnd, Stop
from worker.programs.places import Place
from worker.run import Run


class Ignored(StrEnum):
    """Messages of programs that change nothing."""

    LATE = "late"
    """About a run that is over, or that this program never had."""
    INVALID = "invalid"
    UNKNOWN = "unknown"
    """Of another version of the contract."""


class Stops(Protocol):
    """Who is told that a run is to stop."""

    def ask_to_end(self, call: ProgramCall) -> None:
        """Somebody asked to cancel the job of this run."""

    def stop(self, call: ProgramCall, why: Stop) -> None:
        """The outcome of this run does not count any more."""


class ProgramCall:
    """From when the run has begun until the program has answered. `on_end` is None once its outcome does not count any more."""

    __slots__ = ("_program", "is_sent", "message", "on_end", "place", "run", "run_id")

    def __init__(self, program: Stops, place: Place, run_id: str, run: Run, on_end: OnEnd) -> None:
        """It is not sent yet; `run_id` is its name on the stream."""
        self._program, self.place, self.run_id, self.run = program, place, run_id, run
        self.on_end: OnEnd | None = on_end
        self.is_sent = False
        self.message = _NOTHING
        """What the program gets."""

    def ask_to_end(self) -> None:
        """See `Call`: the program is told."""
        self._program.ask_to_end(self)

    def stop(self, why: Stop) -> None:
        """See `Call`: the program is told, and keeps the slot until it answers."""
        self.on_end = None
        self._program.stop(self, why)

    def end(self, outcome: Outcome) -> None:
        """Report the outcome, if it still counts."""
        on_end, self.on_end = self.on_end, None
        if on_end is not None:
            on_end(self.run, outcome)


_NOTHING = pb.WorkResponse()
