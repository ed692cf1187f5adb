"""An observer whose control plane kills itself at one step of a schedule's time: the one that the variable KILL_AT names.

TICK: the runs and their jobs are written, in a transaction that is not committed. FIRED: it is, and nobody knows. LEASED: the jobs are
leased, nothing is published. PUBLISHED: their copies are durable, and the ledger does not know. FINALISED: the ledger knows, and nobody
else does. It dies when SO_MANY jobs have taken the step. Its leases are short, so that the others need not wait for long.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from functools import wraps
from typing import Any, Final

from controlplane.finaliser import Finaliser
from sickbay.adapters.sql import scheduled_jobs
from sickbay.adapters.sql.quarantine_store import SqlQuarantineStore
from sickbay.adapters.sql.schedule_jobs import RunWriter
from sickbay.adapters.sql.scheduled_jobs import SqlScheduledJobs
from sickbay.adapters.sql.schedules import SqlSchedules
from sickbay.observer import Observer

STEPS: Final = ("TICK", "FIRED", "LEASED", "PUBLISHED", "FINALISED")
SO_MANY: Final = 10
LEASE_MS: Final = 3_000

Call = Callable[..., Awaitable[Any]]


class Killer(Observer):
    """It hears of nothing: what counts is that its module is loaded."""


def killing(call: Call, jobs: Callable[[Sequence[Any], Any], int], *, before: bool = False) -> Call:
    """The same, until SO_MANY jobs have come through: as many as `jobs` finds in the arguments and the answer."""
    passed = 0

    @wraps(call)
    async def counted(self: object, *args: Any, **options: Any) -> Any:
        nonlocal passed
        answer = None if before else await call(self, *args, **options)
        passed += jobs(args, answer)
        if passed >= SO_MANY:
            os.kill(os.getpid(), signal.SIGKILL)
        return await call(self, *args, **options) if before else answer

    return counted


def _in_first(args: Sequence[Any], _: Any) -> int:
    return len(args[0])


if "KILL_AT" in os.environ:  # not in the process of the tests, which only looks where this file is
    scheduled_jobs.LEASE_MS = LEASE_MS  # type: ignore[misc,attr-defined]
match os.environ.get("KILL_AT"):
    case "TICK":
        RunWriter.write = killing(RunWriter.write, lambda args, _: len(args[1]))  # type: ignore[method-assign]
    case "FIRED":
        SqlSchedules.fire_due = killing(SqlSchedules.fire_due, lambda _, fired: len(fired))  # type: ignore[method-assign]
    case "LEASED":
        SqlScheduledJobs.lease_due = killing(SqlScheduledJobs.lease_due, lambda _, leases: len(leases))  # type: ignore[method-assign]
    case "PUBLISHED":
        Finaliser.mark_released = killing(Finaliser.mark_released, _in_first, before=True)  # type: ignore[method-assign]
    case "FINALISED":
        SqlQuarantineStore.mark_released = killing(SqlQuarantineStore.mark_released, _in_first)  # type: ignore[method-assign]
