"""The ports: everything Sickbay asks of a broker (`broker.py`), a breaker store and a ledger (two more in `lost.py`). Read this first.

Each adapter under `adapters/` implements some of these protocols and passes the contract suite of each, embedded or real.
Laws that hold for all of them:

- A method that returns has happened durably; a method that raises `Unavailable` may or may not have happened: repeat it with the same ids.
- `Unstorable` says that a database works and refuses a value: nothing has happened, and repeating it is of no use.
  One that raises `Refused`, which is an `Unavailable`, certainly has not happened.
- A caller that is cancelled only stops waiting: what a method changes is changed to its end or not at all (`tasks.py`).
- Adapters translate their driver's exceptions; callers see only `sickbay.domain.errors`.
- Everything is safe to call from many tasks of one event loop, and closing twice is harmless.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from sickbay.domain.breaker import BreakerKey, BreakerState, Command, Permit, Refusal, Snapshot
from sickbay.domain.job import Job, JobEvent, JobRecord, JobState, StateChange
from sickbay.domain.outcome import Outcome
from sickbay.domain.queries import (
    DuplicateCheck,
    FailureGroup,
    JobEdit,
    JobQuery,
    Page,
    QuarantinedJob,
    QuarantineQuery,
    ReleaseLease,
    Reservation,
)
from sickbay.ports.broker import (
    EVENT_PREFIX,
    PREFETCH_BYTES,
    TO_MAIN,
    TO_QUARANTINE,
    TO_RETRY,
    Broker,
    Consumer,
    Delivery,
    Message,
    Queue,
)

__all__ = [
    "EVENT_PREFIX",
    "PREFETCH_BYTES",
    "TO_MAIN",
    "TO_QUARANTINE",
    "TO_RETRY",
    "Breakers",
    "Broker",
    "Clock",
    "Consumer",
    "Delivery",
    "DuplicateGuard",
    "IdempotencyKeys",
    "JobReader",
    "LedgerWriter",
    "Message",
    "QuarantineStore",
    "Queue",
]

Clock = Callable[[], int]
"""Milliseconds since the epoch."""


class Breakers(Protocol):
    """The circuits of all job types; one truth for the fleet (`breaker.md`)."""

    async def admit(self, key: BreakerKey, job_id: str, longest_ms: int = 0) -> Permit | Refusal:
        """Ask to run one job. After a cooldown exactly one caller, fleet-wide, gets the probe. Makes the type known.

        `longest_ms` is how long the run may take (its timeout): a probe keeps its lease for so long, if it is renewed.
        """

    async def settle(self, permit: Permit, outcome: Outcome) -> BreakerState:
        """Report what the run came to and learn the circuit's state after it. A stale permit is counted and changes nothing else.

        Never raises Unavailable.
        """

    async def renew(self, permit: Permit) -> bool:
        """Extend a probe's lease; False if the probe is no longer ours or has had its longest time. Never raises Unavailable."""

    async def keys(self) -> Sequence[BreakerKey]:
        """Whose circuits are known, in order. One may be forgotten before it is looked at."""

    async def snapshots(self, keys: Collection[BreakerKey] | None = None) -> Sequence[Snapshot]:
        """Every known circuit, or those of them that are named, by key."""

    async def command(self, key: BreakerKey, command: Command) -> Snapshot:
        """Carry out an admin's command; NotFound when RESET or AUTO names an unknown type."""

    def watch(self) -> AbstractAsyncContextManager[AsyncIterator[Snapshot]]:
        """Each change from the moment of entering on; a slow reader misses steps in between, never the latest of a circuit."""


class JobReader(Protocol):
    """The ledger as JobService sees it."""

    async def get(self, job_id: str) -> JobRecord | None:
        """The job, or None if the ledger does not know it (yet)."""

    async def history(self, job_id: str) -> Sequence[StateChange]:
        """Every state change known, oldest first; empty for an unknown job."""

    async def histories(self, job_ids: Sequence[str]) -> Mapping[str, Sequence[StateChange]]:
        """The same of many jobs at once; unknown ones are left out."""

    async def find(self, query: JobQuery, limit: int, cursor: str) -> Page[JobRecord]:
        """Newest submission first; InvalidArgument(INVALID_PAGE_TOKEN) if the cursor is not of this kind."""

    def watch(self, job_id: str) -> AbstractAsyncContextManager[AsyncIterator[tuple[JobRecord, StateChange]]]:
        """Every change of the job applied from the moment of entering on, in order."""


class LedgerWriter(Protocol):
    """The ledger as the keeper sees it, its only writer of events."""

    async def apply(self, events: Sequence[JobEvent]) -> None:
        """Merge by the order of truth (`merge.py`): replays, reordering and several writers are harmless.

        Unstorable if the database refuses a value of some event and always will; nothing of the batch was written then.
        """

    async def live(self, jobs: Sequence[Job]) -> Mapping[str, bool | None]:
        """By job id: True if just this copy (generation, attempt) is set aside now, False if it has left, None if the job is unknown."""

    async def set_aside(self, after: str, limit: int, before: int) -> Sequence[JobEvent]:
        """Jobs set aside before `before` (ms), by job id from the one after `after` on, each as the event that its copy holds."""

    def sweeping(self) -> AbstractAsyncContextManager[bool]:
        """True for one process at a time, until the context ends; the others are told False and may ask again."""

    async def counts(self) -> Mapping[JobState, int]:
        """How many jobs are in each state."""

    async def duplicates(self) -> int:
        """Extra executions and dropped copies of all jobs still known."""

    async def prune(self, now: int) -> int:
        """Forget what is past its retention (succeeded 24 h, cancelled and discarded 30 days); return how many. Never set-aside ones."""


class QuarantineStore(Protocol):
    """The ledger as QuarantineService and the healer see it: the jobs that were set aside."""

    async def list_quarantined(self, query: QuarantineQuery, limit: int, cursor: str) -> Page[JobRecord]:
        """Longest set aside first, with `total`."""

    async def case(self, job_id: str) -> QuarantinedJob | None:
        """One of them with its payload, revisions and history; None if it is not set aside."""

    async def groups(self, job_type: str, tenant: str, limit: int, cursor: str) -> Page[FailureGroup]:
        """Largest group first."""

    async def lease_parked(self, key: BreakerKey, limit: int) -> Sequence[ReleaseLease]:
        """Take the longest parked jobs of a circuit under a lease; nobody else gets them until it runs out."""

    async def lease_job(self, job_id: str, edit: JobEdit, etag: str, actor: str) -> ReleaseLease:
        """Take one job for a resubmit, its attempt back at 0, and keep the edit as a revision.

        NotFound, Aborted(ETAG_MISMATCH), or FailedPrecondition if it is not set aside or just being released.
        """

    async def lease_expired(self) -> Sequence[ReleaseLease]:
        """Claims whose holder vanished before `released`; they may have been published: marked `maybe_duplicate`."""

    async def released(self, claims: Sequence[ReleaseLease]) -> Sequence[JobRecord]:
        """The claims are durable in `jobs.main`: the rows become QUEUED in their new generation, unless later news came already."""

    async def discard(self, job_id: str, etag: str, actor: str) -> JobRecord:
        """Throw one away: DISCARDED. The errors of `lease_job`; discarding a discarded job returns it."""

    async def parked(self) -> Mapping[BreakerKey, int]:
        """How many jobs are parked, by circuit, without claimed ones."""


class DuplicateGuard(Protocol):
    """What a worker asks before it runs a copy that may not be the only one."""

    async def enter(self, job: Job, *, suspect: bool) -> DuplicateCheck:
        """Compare with the ledger; for a suspect that is not superseded also count, durably, that a run begins now."""

    async def crashes(self, job: Job) -> int:
        """How many workers died while they ran this copy as a suspect; counts nothing. Unavailable if nobody can tell."""

    async def leave(self, job: Job) -> None:
        """The suspect's run came to an end, its worker alive: forget its crashes."""

    def is_cancelled(self, job: Job) -> bool:
        """Whether no further run of this copy may begin, because its job was called off; answers from memory."""

    async def begin(self, job: Job) -> bool:
        """A run is about to begin: False if it must not. No I/O; waits only while somebody holds the job (`Holds`). Then `end`."""

    def end(self, job: Job) -> None:
        """The run that has begun is over; `untold` says from now on whether its end is still to be told."""

    def working(self, untold: Callable[[str], bool], *, takes_jobs: bool) -> None:
        """This process runs jobs, and consumes them or does so no longer; `untold` as in `end`, by job id."""


class IdempotencyKeys(Protocol):
    """Remembers idempotency keys for 24 hours."""

    async def reserve(self, tenant: str, key: str, digest: bytes, job_id: str) -> Reservation:
        """Take the key for `job_id`, or learn whose it is.

        `duplicate` if an accepted request has it. A first request that vanished half-way leaves its lease (30 s); after it the
        next caller goes on under the same job id (`retaken`). AlreadyExists if the digest differs, Aborted(REQUEST_IN_PROGRESS)
        while the first is under way.
        """

    async def confirm(self, tenant: str, key: str) -> None:
        """The job is durable: repeats are duplicates from now on."""

    async def release(self, tenant: str, key: str, job_id: str) -> None:
        """The job was certainly not accepted: the key is free again, unless it is confirmed or another job has it."""
