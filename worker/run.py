"""The state of one run of a handler."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sickbay.domain.job import Job
from sickbay.domain.outcome import Outcome, OutcomeKind
from sickbay.domain.raised import Redact, unchanged
from sickbay.handlers.call import outcome_of_timeout
from sickbay.handlers.registry import HandlerSpec

if TYPE_CHECKING:
    from worker.elsewhere import Call
    from worker.handler_loop import HandlerLoop

CANCELLED: Final = Outcome(OutcomeKind.CANCELLED)


@dataclass(slots=True, eq=False)
class Run:
    """One run of a handler, on the loop or in a thread. `outcome` is set once; `ended` when the handler itself has ended, too."""

    spec: HandlerSpec
    job: Job
    seconds: float
    """Its timeout."""
    context: contextvars.Context
    done: asyncio.Future[Outcome]
    pending: Awaitable[Any] | None = None
    """The awaitable that a sync handler returned."""
    left: float = 0.0
    """The remaining time on the loop of a run that began in a thread; 0 if it began on the loop."""
    outcome: Outcome | None = None
    ended: bool = False
    expired: bool = False
    cancelled: bool = False
    is_to_end: bool = False
    """Whether somebody asked to cancel its job before its outcome was known: then only a success counts."""
    grace_over: bool = False
    """Whether it has had its time to end by itself after that."""
    bind: Callable[[], HandlerSpec] | None = None
    """Returns its handler with what lifespans give it, in the thread of a sync one."""
    blocks: bool = False
    """Whether it blocked the handlers' loop."""
    began: float = 0.0
    lost_before: float = 0.0
    lost: float = 0.0
    """Seconds of standstill during the run."""
    on_loop: HandlerLoop | None = None
    """The loop it runs on; None while it runs in a thread."""
    call: Call | None = None
    """Set if it runs elsewhere."""
    task: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None
    thread_id: int = 0
    """The thread of a sync handler, while it is called."""
    overdue: bool = False
    """Whether it is counted as still running after its outcome was set; written only by the worker's loop."""
    hung_at: str = ""
    """Where it was when it timed out."""
    redact: Redact = unchanged
    """Removes secrets from the texts of its failure."""

    returned: bool = False
    """Whether the handler has returned something, which is being read: it cannot fail any more."""

    def on_returned(self) -> None:
        """The handler has returned something, in time unless its run is over."""
        self.returned = not self.expired

    def timed_out(self, more: str = "") -> Outcome:
        """The outcome of a run that timed out; if it did so while its result was read, that result is lost and nothing else."""
        return outcome_of_timeout(self.spec, self.seconds, self.hung_at, has_returned=self.returned, more=more)

    def finish(self) -> None:
        """Wake up whoever waits for its outcome, CANCELLED if it has none. On the worker's loop; its handler may go on."""
        if self.timer is not None and self.on_loop is None:
            self.timer.cancel()
            self.timer = None
        if not self.done.done():
            self.done.set_result(self.outcome or CANCELLED)
