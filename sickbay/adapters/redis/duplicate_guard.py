"""The duplicate guard of a worker without a ledger: it cannot see later copies, but counts how often a suspect killed its worker."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from sickbay.adapters.redis.client import open_client, translated
from sickbay.concurrency.tasks import DetachedTasks, detached
from sickbay.domain.job import Job
from sickbay.domain.queries import DuplicateCheck

KEPT_S: Final = 86_400


class RedisDuplicateGuard:
    """Implements `DuplicateGuard` with DATABASE_URL unset: `superseded` is never true. Keys `suspect:<job id>:<generation>:<attempt>`."""

    def __init__(self, url: str) -> None:
        """`url` as for the breakers."""
        self._client = open_client(url)
        self.detached = DetachedTasks()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.detached.close()
        await self._client.aclose()

    async def caught_up(self) -> None:
        """Return at once: nobody can cancel without a ledger."""

    @detached
    async def check(self, job: Job, *, suspect: bool) -> DuplicateCheck:
        """Count the start of a suspect's run; other copies just run."""
        if not suspect:
            return DuplicateCheck(superseded=False)
        with translated():
            async with self._client.pipeline() as pipeline:
                pipeline.incr(_key(job))
                pipeline.expire(_key(job), KEPT_S)
                begun, _ = await pipeline.execute()
        return DuplicateCheck(superseded=False, crashes=int(begun) - 1)

    @detached
    async def crashes(self, job: Job) -> int:
        """How many workers died while they ran this copy as a suspect."""
        with translated():
            return int(await self._client.get(_key(job)) or 0)

    @detached
    async def clear_crashes(self, job: Job) -> None:
        """The suspect's worker is alive: forget its crashes."""
        with translated():
            await self._client.delete(_key(job))

    def is_cancelled(self, job: Job) -> bool:  # noqa: ARG002 - the port's signature
        """Not known without a ledger; nobody can cancel without one."""
        return False

    def is_to_end(self, job: Job) -> bool:  # noqa: ARG002 - the port's signature
        """Not known without a ledger, either."""
        return False

    async def begin(self, job: Job) -> bool:  # noqa: ARG002 - the port's signature
        """Always True: jobs cannot be cancelled without a ledger."""
        return True

    def end(self, job: Job) -> None:
        """Nothing to do."""

    def register_worker(
        self, is_unreported: Callable[[str], bool], cancel: Callable[[str], None] = lambda _: None, *, takes_jobs: bool
    ) -> None:
        """Nothing to do."""


def _key(job: Job) -> str:
    return f"suspect:{job.job_id}:{job.generation}:{job.attempt}"
