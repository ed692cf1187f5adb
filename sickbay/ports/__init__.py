"""The ports: what Sickbay needs of a broker (`broker.py`), breakers and a ledger (more in `lost.py`, `limits.py`, ...). Read this first.

Each adapter under `adapters/` implements some of these protocols and passes the contract suite of each, embedded or real.
Rules for all of them:

- When a method returns, its effect is durable. When it raises `Unavailable`, the effect is uncertain: retry with the same ids. When it
  raises `Refused`, which is an `Unavailable`, it had no effect.
- `Unstorable` means that the database works but rejects a value: there was no effect, and retrying is useless.
- Cancelling a caller only ends its waiting: a change is made completely or not at all (`tasks.py`).
- Adapters translate their driver's exceptions; callers see only `sickbay.domain.errors`.
- Everything is safe to call from many tasks of one event loop, and closing twice is harmless.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from sickbay.domain.access import Tenants
from sickbay.domain.breaker import BreakerKey, BreakerState, Command, Permit, Refusal, Snapshot
from sickbay.domain.errors import SickbayError
from sickbay.domain.job import Job, JobEvent, JobRecord, JobState, StateChange
from sickbay.domain.outcome import Outcome
from sickbay.domain.queries import (
    DuplicateCheck,
    FailureGroup,
    JobEdit,
    JobQuery,
    KeyClaim,
    Page,
    QuarantinedJob,
    QuarantineQuery,
    ReleaseLease,
    Reservation,
)
from sickbay.ports.broker import (
    CONSUMED,
    EVENT_PREFIX,
    HOLDING,
    LANES,
    POOL_PREFIX,
    PREFETCH_BYTES,
    TO_MAIN,
    TO_QUARANTINE,
    TO_RETRY,
    AnyQueue,
    Broker,
    Consumer,
    Delivery,
    Message,
    PoolQueue,
    Queue,
)

__all__ = [
    "CONSUMED",
    "EVENT_PREFIX",
    "HOLDING",
    "LANES",
    "POOL_PREFIX",
    "PREFETCH_BYTES",
    "TO_MAIN",
    "TO_QUARANTINE",
    "TO_RETRY",
    "AnyQueue",
    "BreakerView",
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
    "PoolQueue",
    "QuarantineStore",
    "Queue",
]

Clock = Callable[[], int]
"""Milliseconds since the epoch."""


class Breakers(Protocol):
    """The breakers of all job types, shared by the fleet (`docs/breaker.md`)."""

    async def admit(self, key: BreakerKey, job_id: str, longest_ms: int = 0, *, released: bool = False) -> Permit | Refusal:
        """Ask to run one job. After a cooldown exactly one caller, fleet-wide, gets the probe. Creates the breaker of an unknown type.

        `longest_ms` is how long the run may take (its timeout): a probe can renew its lease for at least that long. `released`: it was
        parked and has been released, so it takes one of the reserved permits.
        """

    async def reserve(self, key: BreakerKey, wanted: int, arrivals: int = 0) -> int:
        """How many of so many parked jobs may be released now: all if the breaker admits everything or is unknown, none if it refuses.

        While it recovers, permits that are left over by new jobs; what is reserved is offered to nobody else for a second. `arrivals` is
        how many jobs came while it was open, in thousandths per second (0: unknown): it begins to recover at three quarters of that.
        Unavailable if the shared store is.
        """

    async def settle(self, permit: Permit, outcome: Outcome, took_ms: int = 0) -> BreakerState:
        """Report the outcome of the run, which took so long, and return the breaker's state after it.

        A stale permit is counted and has no other effect. How long it took matters with the policy `rate`, for what is usual, and while
        it recovers.
        Never raises Unavailable.
        """

    async def renew(self, permit: Permit) -> bool:
        """Extend a probe's lease; False if the probe is no longer ours or its time is over. Never raises Unavailable."""

    async def keys(self) -> Sequence[BreakerKey]:
        """The keys of all known breakers, in order. One may be forgotten before it is read."""

    async def snapshots(self, keys: Collection[BreakerKey] | None = None) -> Sequence[Snapshot]:
        """All known breakers, in the order of their keys, or the known ones among `keys`, in the order given."""

    async def command(self, key: BreakerKey, command: Command) -> Snapshot:
        """Carry out an admin's command; NotFound when RESET, AUTO or PROBE names an unknown type.

        PROBE changes nothing unless the breaker is OPEN: see the state in the answer.
        """

    def watch(self) -> AbstractAsyncContextManager[AsyncIterator[Snapshot]]:
        """Each change from the moment of entering on; a slow reader misses intermediate changes, never the latest of a breaker."""


class BreakerView(Protocol):
    """The breakers as this process knows them, for who only looks: no method does I/O, so each submit may ask."""

    def get(self, key: BreakerKey) -> Snapshot | None:
        """The breaker; CLOSED if nobody has seen one, None if nothing is known here yet. `degraded` if it may be outdated."""

    def unless_closed(self, key: BreakerKey) -> Snapshot | None:
        """The breaker, None if it is CLOSED or nothing is known. A healthy one costs a look into a dictionary."""


class JobReader(Protocol):
    """The ledger as used by JobService."""

    async def get(self, job_id: str) -> JobRecord | None:
        """The job, or None if it is not in the ledger (yet)."""

    async def history(self, job_id: str) -> Sequence[StateChange]:
        """Every state change known, oldest first; empty for an unknown job."""

    async def histories(self, job_ids: Sequence[str]) -> Mapping[str, Sequence[StateChange]]:
        """The same of many jobs at once; unknown ones are left out."""

    async def parked_before(self, job_id: str) -> int:
        """How many jobs of its type, of all tenants, were parked before this one; 0 if it is not parked."""

    async def find(self, query: JobQuery, limit: int, cursor: str) -> Page[JobRecord]:
        """Newest submission first; InvalidArgument(INVALID_PAGE_TOKEN) if the cursor is not from this list."""

    def watch(self, job_id: str) -> AbstractAsyncContextManager[AsyncIterator[tuple[JobRecord, StateChange | None]]]:
        """Every change of the job that is applied after entering, in order; None if only its progress is new (not each such is told)."""


class LedgerWriter(Protocol):
    """The ledger as used by the ledger ingester, its only writer of events, and by the reconciler."""

    async def apply(self, events: Sequence[JobEvent]) -> None:
        """Merge by the order of truth (`merge.py`): replays, reordering and several writers are harmless.

        Unstorable if the database rejects a value of some event; nothing of the batch was written then.
        """

    async def check_copies(self, jobs: Sequence[Job]) -> Mapping[str, bool | None]:
        """By job id: True if this very copy (generation, attempt) is set aside, False if it no longer is, None if the job is unknown."""

    async def list_set_aside(self, after: str, limit: int, before: int) -> Sequence[JobEvent]:
        """Jobs set aside before `before` (ms), by job id, starting after `after`, each as the event in its copy.

        Without those that are in the ledger alone.
        """

    async def in_ledger_alone(self) -> int:
        """How many jobs are set aside without a copy in `jobs.quarantine`: those that wait for the rate of their type."""

    def sweep_lock(self) -> AbstractAsyncContextManager[bool]:
        """True for one process at a time, until the context ends; False for the others, which may try again."""

    async def counts(self) -> Mapping[JobState, int]:
        """How many jobs are in each state."""

    async def duplicates(self) -> int:
        """Extra executions and dropped copies of all jobs still known."""

    async def prune(self, now: int) -> int:
        """Delete jobs past their retention (succeeded 24 h, cancelled and discarded 30 days), never set-aside ones; return how many."""


class QuarantineStore(Protocol):
    """The ledger as used by QuarantineService and the healer: the jobs that were set aside."""

    async def list_quarantined(self, query: QuarantineQuery, limit: int, cursor: str) -> Page[JobRecord]:
        """Longest set aside first, with `total`."""

    async def get_quarantined(self, job_id: str) -> QuarantinedJob | None:
        """A job with its payload, revisions and history; None if it is not set aside."""

    async def groups(self, job_type: str, tenants: Tenants, limit: int, cursor: str) -> Page[FailureGroup]:
        """Of these tenants alone: counts, times and samples, too. Largest group first."""

    async def lease_parked(self, key: BreakerKey, limit: int) -> Sequence[ReleaseLease]:
        """Lease the longest parked jobs of a type and tenant; nobody else gets them until the lease expires."""

    async def lease_unhandled(self, key: BreakerKey, limit: int) -> Sequence[ReleaseLease]:
        """The same of jobs that are quarantined as UNKNOWN_TYPE, whose type a worker handles now."""

    async def lease_job(self, job_id: str, edit: JobEdit, etag: str, actor: str, tenants: Tenants = None) -> ReleaseLease:
        """Lease one job for a resubmit, its attempt back at 0, and keep the edit as a revision.

        NotFound, also if it is of none of these tenants, Aborted(ETAG_MISMATCH), or FailedPrecondition if it is not set aside or is
        already being released.
        """

    async def lease_expired(self) -> Sequence[ReleaseLease]:
        """Take over leases whose holder died before `mark_released`; the jobs may have been published: marked `maybe_duplicate`."""

    async def mark_released(self, leases: Sequence[ReleaseLease], *, records: bool = True) -> Sequence[JobRecord]:
        """The jobs are durable in a lane: their rows become QUEUED in the new generation, unless a later event came already.

        Returns their records as they are then, or nothing if the caller has no use for `records`, which costs half as much.
        """

    async def discard(self, job_id: str, etag: str, actor: str, tenants: Tenants = None) -> JobRecord:
        """Discard a job. The errors of `lease_job`; discarding a discarded job returns it."""

    async def parked(self) -> Mapping[BreakerKey, int]:
        """How many jobs are parked, by type and tenant, without leased ones."""

    async def unhandled(self, job_types: Collection[str]) -> Mapping[BreakerKey, int]:
        """How many jobs of these types are quarantined as UNKNOWN_TYPE, likewise."""


class DuplicateGuard(Protocol):
    """Tells a worker whether it may run a copy that may not be the only one."""

    async def caught_up(self) -> None:
        """Return once `is_cancelled` and `begin` know what was cancelled before this process started. Waits for as long as that takes."""

    async def check(self, job: Job, *, suspect: bool) -> DuplicateCheck:
        """Compare with the ledger; for a suspect that is not superseded also count the start of its run, durably."""

    async def crashes(self, job: Job) -> int:
        """How many workers died while they ran this copy as a suspect. Unavailable if that cannot be found out."""

    async def clear_crashes(self, job: Job) -> None:
        """The suspect's run has ended and its worker is alive: forget its crashes."""

    def is_cancelled(self, job: Job) -> bool:
        """Whether no further run of this copy may begin, because its job was cancelled or discarded; answers from memory."""

    def is_to_end(self, job: Job) -> bool:
        """Whether somebody asked to cancel the job after a run of it had begun; answers from memory, `check` from the ledger."""

    async def begin(self, job: Job) -> bool:
        """A run is about to begin: False if it must not. No I/O; waits only while the job is held (`Holds`). Call `end` after the run."""

    def end(self, job: Job) -> None:
        """The run is over; from now on `is_unreported` says whether its end still has to be published."""

    def register_worker(self, is_unreported: Callable[[str], bool], cancel: Callable[[str], None] = ..., *, takes_jobs: bool) -> None:
        """This process runs jobs; `takes_jobs`: whether it consumes them now. `is_unreported`, by job id, as in `end`.

        `cancel` is called, by job id, when somebody asked to cancel a job of which a run has begun here.
        """


class IdempotencyKeys(Protocol):
    """Keeps idempotency keys for 24 hours.

    Each method takes any number of claims, costs about as much as for one, and does the same as if each came alone, in this order: also if
    two have the same key. Unavailable if it is unknown what was done: for some of them it may have been.
    """

    async def reserve(self, claims: Sequence[KeyClaim]) -> Sequence[Reservation | SickbayError]:
        """Reserve each key for its job, or return its owner; one result for each claim, in order.

        `duplicate` if an accepted request has it. A first request that dies half-way leaves a lease (30 s); after it the next caller
        continues with the same job id (`retaken`). AlreadyExists if the digest differs, Aborted(REQUEST_IN_PROGRESS) while the first
        is in progress, Unavailable if the store has something wrong with this one key.
        """

    async def confirm(self, claims: Sequence[KeyClaim]) -> None:
        """The jobs are durable: repeats are duplicates from now on, whichever job reserved the key."""

    async def release(self, claims: Sequence[KeyClaim]) -> None:
        """The jobs were certainly not accepted: each key is free again, unless it is confirmed or another job has it."""
