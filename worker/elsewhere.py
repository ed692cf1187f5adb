"""Handlers that run elsewhere: what a worker's parts know of them. Everything here belongs to the worker's loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from sickbay.domain.outcome import Outcome
from sickbay.handlers.registry import HandlerSpec
from worker.slots import Gate

if TYPE_CHECKING:
    from worker.run import Run


class Stop(StrEnum):
    """Why a run is to stop."""

    TIMEOUT = "TIMEOUT"
    STOPPING = "STOPPING"
    CANCELLED = "CANCELLED"
    """Somebody asked to cancel the job, and its grace is over."""


class Call(Protocol):
    """A run that goes on elsewhere."""

    def ask_to_end(self) -> None:
        """Somebody asked to cancel the job. Its outcome still counts."""

    def stop(self, why: Stop) -> None:
        """Its outcome does not count any more. It may go on there for a while."""


OnEnd = Callable[["Run", Outcome], None]
Begin = Callable[["Run", OnEnd], Call]
"""Begins a run, and returns at once. Calls back once with its outcome, not before it has returned, and never after `stop`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ElsewhereSpec(HandlerSpec):
    """A handler that runs elsewhere: `begin` takes the place of its function, and `gate` says when there is room for a job."""

    begin: Begin
    gate: Gate
