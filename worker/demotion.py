"""Moves jobs of a flood to the lane of the demoted: publish copies, wait for the confirm, acknowledge the originals; many at a time.

If this process dies between the confirm and the acknowledgements, both exist. The original comes again marked as redelivered, and the copy
carries DEMOTED: either is compared with the ledger before it runs, as any copy that may not be the only one.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Generic, Protocol, TypeVar

from sickbay.domain.errors import Unavailable
from sickbay.domain.job import Job
from sickbay.domain.lane import Lane
from sickbay.domain.storable import id_of
from sickbay.messages.codec import encode_job
from sickbay.messages.publisher import Publisher
from sickbay.ports import Delivery, Message

DEMOTED: Final = "demoted"
"""The header of a copy that was moved."""
BATCH: Final = 200

log = logging.getLogger(__name__)


class Movable(Protocol):
    """A job in hand."""

    @property
    def delivery(self) -> Delivery:
        """Its message."""

    @property
    def job(self) -> Job | None:
        """What is in it."""


M = TypeVar("M", bound=Movable)


class Demotion(Generic[M]):
    """One per worker."""

    def __init__(self, publisher: Publisher) -> None:
        """Nothing is moved yet."""
        self._publisher = publisher
        self._waiting: deque[M] = deque()
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False
        self.moved: Counter[str] = Counter()
        """How many jobs of each type were moved."""
        self.on_moved: Callable[[Sequence[M]], None] = _ignore
        """Called with those that have left."""
        self.on_failed: Callable[[Sequence[M]], None] = _ignore
        """Called with those that could not be moved: they are the caller's again."""

    def move(self, jobs: Iterable[M]) -> None:
        """Move them soon."""
        self._waiting.extend(jobs)
        if self._waiting and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._run(), name="demotion")

    async def close(self) -> Sequence[M]:
        """Wait for the batch that is under way; returns those that were not begun."""
        self._is_closed = True
        left = list(self._waiting)
        self._waiting.clear()
        if self._task is not None:
            await asyncio.wait([self._task])
        return left

    async def _run(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            try:
                await self._publisher.publish([_copy(one) for one in batch])
            except Unavailable as error:
                log.warning("%d jobs of a flood stay where they are: %s", len(batch), error)
                left = [*batch, *self._waiting]
                self._waiting.clear()
                self.on_failed(left)
                return
            for one in batch:
                one.delivery.ack()
                if one.job is not None:
                    self.moved[one.job.job_type] += 1
            self.on_moved(batch)


def _copy(one: Movable) -> Message:
    """The same bytes, unless the job has its id from the message alone: then it is written into the copy."""
    delivery, job = one.delivery, one.job
    has_own_id = job is None or job.job_id != id_of(delivery.message_id)
    body = delivery.body if has_own_id or job is None else encode_job(job)
    return Message(Lane.DEMOTED.value, body, headers={**delivery.headers, DEMOTED: "1"}, is_foreign=delivery.is_foreign)


def _ignore(_: object) -> None:
    """Nobody wants to know."""
