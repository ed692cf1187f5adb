"""`Client`: the client of programs that block."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Self

from sickbay.client import breaker_calls, job_calls, quarantine_calls, schedule_calls, scheduled_calls, type_calls
from sickbay.client.blocking import BlockingDriver
from sickbay.client.errors import DeadlineExceeded, ServerFault
from sickbay.client.jobs import BatchResult, Job, NewJob
from sickbay.client.methods import Blocking, blocking, blocking_pages, blocking_watch, names
from sickbay.client.options import JOB_API_ADDRESS, TIMEOUT_S, ClientOptions, from_environment
from sickbay.client.retry import room
from sickbay.client.transport import TLS
from sickbay.domain.job import JobState


class Breakers(Blocking):
    """Breakers, as `client.breakers`."""

    list = blocking_pages(breaker_calls.list_breakers)
    get = blocking(breaker_calls.get)
    explain = blocking(breaker_calls.explain)
    watch = blocking_watch(breaker_calls.watch)
    reset = blocking(breaker_calls.reset)
    force_open = blocking(breaker_calls.force_open)
    disable = blocking(breaker_calls.disable)
    metrics_only = blocking(breaker_calls.metrics_only)
    auto = blocking(breaker_calls.auto)
    probe = blocking(breaker_calls.probe)


class Quarantine(Blocking):
    """Jobs in quarantine, as `client.quarantine`."""

    list = blocking_pages(quarantine_calls.list_quarantined)
    get = blocking(quarantine_calls.get)
    groups = blocking_pages(quarantine_calls.groups)
    resubmit = blocking(quarantine_calls.resubmit)
    discard = blocking(quarantine_calls.discard)


class ScheduledJobs(Blocking):
    """Jobs that are to run later, as `client.scheduled_jobs`."""

    list = blocking_pages(scheduled_calls.list_scheduled)
    get = blocking(scheduled_calls.get)
    update = blocking(scheduled_calls.update)
    run = blocking(scheduled_calls.run)
    cancel = blocking(scheduled_calls.cancel)


class Schedules(Blocking):
    """Schedules, as `client.schedules`."""

    create = blocking(schedule_calls.create)
    get = blocking(schedule_calls.get)
    list = blocking_pages(schedule_calls.list_schedules)
    update = blocking(schedule_calls.update)
    delete = blocking(schedule_calls.delete)
    pause = blocking(schedule_calls.pause)
    resume = blocking(schedule_calls.resume)
    trigger = blocking(schedule_calls.trigger)
    backfill = blocking(schedule_calls.backfill)
    runs = blocking_pages(schedule_calls.runs)


class Client(Blocking):
    """Submits jobs, follows them, and manages breakers, schedules, and jobs in quarantine or to run later.

    `address` is the gRPC address of the Job API, `control_plane` that of the control plane; by default both are on this machine. `tls` is
    True, or a `TLS` with files. `token` is sent as a bearer token with each call, `token_file` is read for each call; neither goes to
    another machine unencrypted unless `allow_plaintext_token` is set. `timeout` bounds each call with its retries, in seconds; None: not.

    Nothing is opened before the first call. May be used by several threads; close it, or use it in `with`. Create it after a fork.
    """

    submit = blocking(job_calls.submit)
    get = blocking(job_calls.get)
    explain = blocking(job_calls.explain)
    list = blocking_pages(job_calls.list_jobs)
    watch = blocking_watch(job_calls.watch)
    cancel = blocking(job_calls.cancel)
    types = blocking_pages(type_calls.list_types)
    type = blocking(type_calls.get)

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
        self._calls = BlockingDriver(options)
        super().__init__(self._calls)
        self.breakers = Breakers(self._calls)
        self.quarantine = Quarantine(self._calls)
        self.scheduled_jobs = ScheduledJobs(self._calls)
        self.schedules = Schedules(self._calls)

    def submit_many(
        self,
        jobs: Iterable[NewJob],
        *,
        in_flight: int = 4,
        wait_for_limits: bool | float = False,
        own_keys: bool = True,
        timeout: float | None = None,
    ) -> Generator[BatchResult, None, None]:
        """Submit any number of jobs in batches, and iterate over their results, in the order of the jobs.

        The input is read as the results are consumed: at most `in_flight` batches (of up to 1,000 jobs, 1.5 MB) are on their way. A batch
        is sent when it is full or the input ends. What may succeed when it is sent again is, within `timeout` for each batch, and with
        `wait_for_limits` (as in `submit`) what a limit rejects. A failed call is the error of each of its jobs. If reading the input
        raises, so does this, after the results of what was read.

        Without `own_keys` jobs have no idempotency keys but yours: the service accepts them two to four times as fast, and nothing is
        sent again that may have been accepted.
        """
        if in_flight < 1:
            msg = f"in_flight must be at least 1, not {in_flight!r}"
            raise ValueError(msg)
        return self._calls.submit_many(jobs, in_flight, timeout, room(wait_for_limits), own_keys=own_keys)

    def wait(self, job_id: str, *, timeout: float | None = None, even_if_quarantined: bool = False) -> Job:
        """Wait until a job has ended, and return it, with its result. Look at its `state`: it need not have succeeded.

        A QUARANTINED job needs a person, so it is returned, too, unless `even_if_quarantined` is set; a PARKED one comes back by itself.
        DeadlineExceeded after `timeout` seconds; None waits as long as it takes.
        """
        last: Job | None = None
        try:
            with closing(self.watch(job_id, timeout=timeout)) as updates:
                for update in updates:
                    last = update.job
                    if last.state.is_final or (last.state is JobState.QUARANTINED and not even_if_quarantined):
                        return last
        except DeadlineExceeded as error:
            raise job_calls.not_ended(job_id, last, timeout) from error
        raise ServerFault(f"the service ended the watch of {job_id} before the job had ended")

    def result(self, job_id: str, *, timeout: float | None = None, even_if_quarantined: bool = False) -> Any:
        """Wait until a job has ended, as `wait`, and return what its handler returned, decoded; None if it returned None.

        JobNotSucceeded if the job was cancelled or discarded, or is in quarantine; with `even_if_quarantined` a quarantined one is waited
        for. ResultNotKept if what it returned was too large or no JSON. DeadlineExceeded after `timeout` seconds.
        """
        return job_calls.result_of(self.wait(job_id, timeout=timeout, even_if_quarantined=even_if_quarantined))

    def close(self) -> None:
        """Close the connections."""
        self._calls.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self._options.job_api!r}, control_plane={self._options.control_plane!r})"


for _one in (Client, Breakers, Quarantine, ScheduledJobs, Schedules):
    names(_one)
