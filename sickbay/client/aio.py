"""`AsyncClient`: the client of programs with an event loop."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any, Self

from sickbay.client import breaker_calls, job_calls, quarantine_calls, schedule_calls, scheduled_calls, type_calls
from sickbay.client.asynchronous import AsynchronousDriver
from sickbay.client.errors import DeadlineExceeded, ServerFault
from sickbay.client.jobs import BatchResult, Job, NewJob
from sickbay.client.methods import Asynchronous, awaited, awaited_pages, awaited_watch, names
from sickbay.client.options import JOB_API_ADDRESS, TIMEOUT_S, ClientOptions, from_environment
from sickbay.client.retry import room
from sickbay.client.transport import TLS
from sickbay.domain.job import JobState


class AsyncBreakers(Asynchronous):
    """Breakers, as `client.breakers`."""

    list = awaited_pages(breaker_calls.list_breakers)
    get = awaited(breaker_calls.get)
    explain = awaited(breaker_calls.explain)
    watch = awaited_watch(breaker_calls.watch)
    reset = awaited(breaker_calls.reset)
    force_open = awaited(breaker_calls.force_open)
    disable = awaited(breaker_calls.disable)
    metrics_only = awaited(breaker_calls.metrics_only)
    auto = awaited(breaker_calls.auto)
    probe = awaited(breaker_calls.probe)


class AsyncQuarantine(Asynchronous):
    """Jobs in quarantine, as `client.quarantine`."""

    list = awaited_pages(quarantine_calls.list_quarantined)
    get = awaited(quarantine_calls.get)
    groups = awaited_pages(quarantine_calls.groups)
    resubmit = awaited(quarantine_calls.resubmit)
    discard = awaited(quarantine_calls.discard)


class AsyncScheduledJobs(Asynchronous):
    """Jobs that are to run later, as `client.scheduled_jobs`."""

    list = awaited_pages(scheduled_calls.list_scheduled)
    get = awaited(scheduled_calls.get)
    update = awaited(scheduled_calls.update)
    run = awaited(scheduled_calls.run)
    cancel = awaited(scheduled_calls.cancel)


class AsyncSchedules(Asynchronous):
    """Schedules, as `client.schedules`."""

    create = awaited(schedule_calls.create)
    get = awaited(schedule_calls.get)
    list = awaited_pages(schedule_calls.list_schedules)
    update = awaited(schedule_calls.update)
    delete = awaited(schedule_calls.delete)
    pause = awaited(schedule_calls.pause)
    resume = awaited(schedule_calls.resume)
    trigger = awaited(schedule_calls.trigger)
    backfill = awaited(schedule_calls.backfill)
    runs = awaited_pages(schedule_calls.runs)


class AsyncClient(Asynchronous):
    """The same as `Client`, without blocking: its methods are awaited, and what iterates does so with `async for`.

    `address` is the gRPC address of the Job API, `control_plane` that of the control plane; by default both are on this machine. `tls` is
    True, or a `TLS` with files. `token` is sent as a bearer token with each call, `token_file` is read for each call; neither goes to
    another machine unencrypted unless `allow_plaintext_token` is set. `timeout` bounds each call with its retries, in seconds; None: not.

    Nothing is opened before the first call. It belongs to one event loop; close it, or use it in `async with`. Create it after a fork.
    """

    submit = awaited(job_calls.submit)
    get = awaited(job_calls.get)
    explain = awaited(job_calls.explain)
    list = awaited_pages(job_calls.list_jobs)
    watch = awaited_watch(job_calls.watch)
    cancel = awaited(job_calls.cancel)
    types = awaited_pages(type_calls.list_types)
    type = awaited(type_calls.get)

    def __init__(
        self,
        address: str = JOB_API_ADDRESS,
        *,
        control_plane: str | None = None,
        token: str | None = None,
        token_file: str | Path | None = None,
        tls: TLS | bool = False,
        timeout: float | None = TIMEOUT_S,
        allow_plaintext_token: bool = False,
    ) -> None:
        """ValueError if the arguments contradict each other."""
        self._open(
            ClientOptions.of(
                address, control_plane, token, token_file, tls=tls, timeout=timeout, allow_plaintext_token=allow_plaintext_token
            )
        )

    @classmethod
    def from_env(cls, environment: Mapping[str, str] | None = None) -> Self:
        """A client with the options in the environment variables SICKBAY_JOBAPI, SICKBAY_CONTROL_PLANE, SICKBAY_TOKEN and so on."""
        client = cls.__new__(cls)
        client._open(from_environment(environment))  # noqa: SLF001 - of its own class
        return client

    def _open(self, options: ClientOptions) -> None:
        self._options = options
        self._calls = AsynchronousDriver(options)
        super().__init__(self._calls)
        self.breakers = AsyncBreakers(self._calls)
        self.quarantine = AsyncQuarantine(self._calls)
        self.scheduled_jobs = AsyncScheduledJobs(self._calls)
        self.schedules = AsyncSchedules(self._calls)

    def submit_many(
        self,
        jobs: Iterable[NewJob] | AsyncIterable[NewJob],
        *,
        in_flight: int = 4,
        wait_for_limits: bool | float = False,
        own_keys: bool = True,
        timeout: float | None = None,
    ) -> AsyncGenerator[BatchResult, None]:
        """Submit any number of jobs in batches, and iterate over their results, in the order of the jobs.

        The input is read as the results are consumed: at most `in_flight` batches (of up to 1,000 jobs, 1.5 MB) are on their way. A batch
        is sent when it is full or the input ends. What may succeed when it is sent again is, within `timeout` for each batch, and with
        `wait_for_limits` (as in `submit`) what a limit rejects. A failed call is the error of each of its jobs. If reading the input
        raises, so does this, after the results of what was read. `jobs` may be an asynchronous iterable; another one is read in the event
        loop, so it must not block.

        Without `own_keys` jobs have no idempotency keys but yours: the service accepts them two to four times as fast, and nothing is
        sent again that may have been accepted.
        """
        if in_flight < 1:
            msg = f"in_flight must be at least 1, not {in_flight!r}"
            raise ValueError(msg)
        return self._calls.submit_many(jobs, in_flight, timeout, room(wait_for_limits), own_keys=own_keys)

    async def wait(
        self,
        job_id: str,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - a deadline of gRPC's, as in every other method
        even_if_quarantined: bool = False,
    ) -> Job:
        """Wait until a job has ended, and return it, with its result. Look at its `state`: it need not have succeeded.

        A QUARANTINED job needs a person, so it is returned, too, unless `even_if_quarantined` is set; a PARKED one comes back by itself.
        DeadlineExceeded after `timeout` seconds; None waits as long as it takes.
        """
        last: Job | None = None
        try:
            async with aclosing(self.watch(job_id, timeout=timeout)) as updates:
                async for update in updates:
                    last = update.job
                    if last.state.is_final or (last.state is JobState.QUARANTINED and not even_if_quarantined):
                        return last
        except DeadlineExceeded as error:
            raise job_calls.not_ended(job_id, last, timeout) from error
        raise ServerFault(f"the service ended the watch of {job_id} before the job had ended")

    async def result(
        self,
        job_id: str,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - a deadline of gRPC's, as in every other method
        even_if_quarantined: bool = False,
    ) -> Any:
        """Wait until a job has ended, as `wait`, and return what its handler returned, decoded; None if it returned None.

        JobNotSucceeded if the job was cancelled or discarded, or is in quarantine; with `even_if_quarantined` a quarantined one is waited
        for. ResultNotKept if what it returned was too large or no JSON. DeadlineExceeded after `timeout` seconds.
        """
        return job_calls.result_of(await self.wait(job_id, timeout=timeout, even_if_quarantined=even_if_quarantined))

    async def close(self) -> None:
        """Close the connections."""
        await self._calls.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncClient({self._options.job_api!r}, control_plane={self._options.control_plane!r})"


for _one in (AsyncClient, AsyncBreakers, AsyncQuarantine, AsyncScheduledJobs, AsyncSchedules):
    names(_one)
