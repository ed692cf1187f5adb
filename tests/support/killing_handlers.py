"""Handlers whose process kills itself at one step of a release, or of sending scheduled jobs: that which the file `kill.at` here names.

LEASED: the jobs are leased, nothing is published. PUBLISHED: their copies are durable, and the ledger does not know. FINALISED: the ledger
knows, and nobody else does. It dies when SO_MANY jobs have taken the step. Its leases are short, so that the next process need not wait.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, Final

from controlplane.finaliser import Finaliser
from sickbay import Job, handler
from sickbay.adapters.sql import quarantine_store, scheduled_jobs
from sickbay.adapters.sql.quarantine_store import SqlQuarantineStore
from sickbay.adapters.sql.scheduled_jobs import SqlScheduledJobs
from sickbay.domain.queries import ReleaseLease

SO_MANY: Final = 40
LEASE_MS: Final = 3_000
STEP: Final = Path(__file__).with_name("kill.at")

Call = Callable[..., Awaitable[Sequence[Any]]]


def killing(call: Call, *, before: bool = False, answers: bool = False) -> Call:
    """The same, until SO_MANY jobs have come through: those that it `answers`, or else those that it is given."""
    passed = 0

    def count(leases: Sequence[ReleaseLease]) -> None:
        nonlocal passed
        passed += len(leases)
        if passed >= SO_MANY:
            os.kill(os.getpid(), signal.SIGKILL)

    @wraps(call)
    async def counted(self: object, *args: Any, **options: Any) -> Sequence[Any]:
        if before:
            count(args[0])
        answer = await call(self, *args, **options)
        if not before:
            count(answer if answers else args[0])
        return answer

    return counted


@handler("unused")
async def unused(_: Job) -> None:
    """A module of handlers has at least one."""


if STEP.exists():
    quarantine_store.LEASE_MS = scheduled_jobs.LEASE_MS = LEASE_MS  # type: ignore[misc]
    match STEP.read_text():
        case "LEASED":
            SqlQuarantineStore.lease_parked = killing(SqlQuarantineStore.lease_parked, answers=True)  # type: ignore[assignment,method-assign]
            SqlScheduledJobs.lease_due = killing(SqlScheduledJobs.lease_due, answers=True)  # type: ignore[assignment,method-assign]
        case "PUBLISHED":
            Finaliser.mark_released = killing(Finaliser.mark_released, before=True)  # type: ignore[assignment,method-assign]
        case "FINALISED":
            SqlQuarantineStore.mark_released = killing(SqlQuarantineStore.mark_released)  # type: ignore[assignment,method-assign]
