"""The idempotency keys of submissions: reserved before the publish, confirmed when the jobs are durable, released if they are not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final

from sickbay.concurrency.tasks import DetachedTasks
from sickbay.domain.errors import SickbayError, Unavailable
from sickbay.domain.queries import KeyClaim, Reservation
from sickbay.ports import IdempotencyKeys

AGAIN_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Delays between attempts to confirm or release keys whose store is unavailable; they end before the leases do."""
MAX_CLAIMS: Final = 250
"""Claims in one call to the store, so that it is soon over and others get their turn."""

Change = Callable[[Sequence[KeyClaim]], Awaitable[None]]


class SubmissionKeys:
    """Reserves, confirms and releases any number of keys; what the store does not answer in time is done later, in `detached`."""

    def __init__(self, store: IdempotencyKeys, detached: DetachedTasks) -> None:
        """`detached` runs what nobody waits for."""
        self._store = store
        self._detached = detached

    async def reserve(self, claims: Sequence[KeyClaim]) -> list[Reservation | SickbayError]:
        """One result for each claim, in order. Keys that may have been reserved without an answer are released."""
        results: list[Reservation | SickbayError] = []
        for some in _slices(claims):
            results += await self._reserve(some)
        unsure = [claim for claim, result in zip(claims, results, strict=True) if isinstance(result, Unavailable)]
        if unsure:
            self.forget(unsure)
        return results

    async def confirm(self, claims: Sequence[KeyClaim]) -> None:
        """Confirm keys of accepted jobs. If this fails, a repeat has to wait for the lease to expire, and runs the job again."""
        await self._surely(self._store.confirm, claims)

    async def release(self, claims: Sequence[KeyClaim]) -> None:
        """Release keys of rejected jobs before the answer, so that a repeat is a new request; if the store is away, soon after it."""
        await self._surely(self._store.release, claims)

    def forget(self, claims: Sequence[KeyClaim]) -> None:
        """Release keys of jobs that were certainly not accepted, behind the answer; if this fails, a repeat has to wait for the lease."""
        self._detached.start(self._forget(claims))

    async def _reserve(self, claims: Sequence[KeyClaim]) -> Sequence[Reservation | SickbayError]:
        try:
            return await self._store.reserve(claims)
        except SickbayError as error:
            return [error] * len(claims)

    async def _forget(self, claims: Sequence[KeyClaim]) -> None:
        for some in _slices(claims):
            with contextlib.suppress(Unavailable):
                await self._store.release(some)

    async def _surely(self, change: Change, claims: Sequence[KeyClaim]) -> None:
        for some in _slices(claims):
            try:
                await change(some)
            except Unavailable:
                self._detached.start(_later(change, some))


async def _later(change: Change, claims: Sequence[KeyClaim]) -> None:
    for pause_s in AGAIN_S:
        await asyncio.sleep(pause_s)
        with contextlib.suppress(Unavailable):
            await change(claims)
            break


def _slices(claims: Sequence[KeyClaim]) -> Iterator[Sequence[KeyClaim]]:
    for start in range(0, len(claims), MAX_CLAIMS):
        yield claims[start : start + MAX_CLAIMS]
