"""One run of a handler, as those who drive it see it."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from sickbay.domain.job import Job
from sickbay.domain.outcome import Outcome, OutcomeKind
from sickbay.domain.raised import Redact, unchanged
from sickbay.handlers.classify import timed_out
from sickbay.handlers.registry import HandlerSpec

if TYPE_CHECKING:
    from worker.handler_loop import HandlerLoop

CANCELLED: Final = Outcome(OutcomeKind.CANCELLED)
HUNG: Final = "Where it was when it timed out (most recent call last):"


@dataclass(slots=True, eq=False)
class Run:
    """One run of a handler, wherever it runs. `outcome` is set once; `ended` once the handler itself is over, too."""

    spec: HandlerSpec
    job: Job
    seconds: float
    """What it may take."""
    context: contextvars.Context
    done: asyncio.Future[Outcome]
    pending: Awaitable[Any] | None = None
    """What a sync handler returned to be awaited."""
    left: float = 0.0
    """What a run that began in a thread may still take on the loop; 0 if it began there."""
    outcome: Outcome | None = None
    ended: bool = False
    expired: bool = False
    broken_off: bool = False
    blocks: bool = False
    """Whether it was seen blocking the handlers' loop."""
    began: float = 0.0
    lost_before: float = 0.0
    lost: float = 0.0
    """Seconds of standstill during the run."""
    on_loop: HandlerLoop | None = None
    """The loop it runs on; None as long as it runs in a thread."""
    task: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None
    thread_id: int = 0
    """The thread of a sync handler, while it is called."""
    overdue: bool = False
    """Whether it is counted among those that outlived their outcome; the worker's loop alone writes this."""
    hung_at: str = ""
    """Where it was when its time was over."""
    redact: Redact = unchanged
    """Takes secrets out of what is told of its failure."""

    def timed_out(self, more: str = "") -> Outcome:
        """The outcome of a run whose time is over."""
        return replace(timed_out(self.seconds, self.spec, more), traceback=self.hung_at)
