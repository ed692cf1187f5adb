"""Finalises releases in the ledger: while it is busy, those that are published meanwhile wait, and are finalised together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sickbay.domain.job import JobRecord
from sickbay.domain.queries import ReleaseLease
from sickbay.ports import QuarantineStore

Waiting = tuple[Sequence[ReleaseLease], asyncio.Future[Sequence[JobRecord]]]


class Finaliser:
    """`QuarantineStore.mark_released` for several callers at a time: one transaction for all that ask while another is under way."""

    def __init__(self, store: QuarantineStore, *, records: bool = True) -> None:
        """Finalise in `store`; without `records` callers get none."""
        self._store = store
        self._records = records
        self._waiting: list[Waiting] = []
        self._task: asyncio.Task[None] | None = None

    async def mark_released(self, leases: Sequence[ReleaseLease]) -> Sequence[JobRecord]:
        """See `QuarantineStore.mark_released`: returns when these are finalised. A caller that is cancelled only stops waiting."""
        done: asyncio.Future[Sequence[JobRecord]] = asyncio.get_running_loop().create_future()
        self._waiting.append((leases, done))
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="finalising releases")
        return await done

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                await self._finalise(batch)
        finally:
            self._task = None

    async def _finalise(self, batch: Sequence[Waiting]) -> None:
        try:
            records = await self._store.mark_released([lease for leases, _ in batch for lease in leases], records=self._records)
        except BaseException as error:
            for _, done in batch:
                if not done.done():
                    done.set_exception(error) if isinstance(error, Exception) else done.cancel()
            if not isinstance(error, Exception):
                raise
            return
        known = {record.job.job_id: record for record in records}
        for leases, done in batch:
            if not done.done():
                done.set_result([known[lease.job.job_id] for lease in leases if lease.job.job_id in known])
