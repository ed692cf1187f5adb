"""Explains a job: why it is not running or what it is doing, since when, and what happens next.

One pure, total function of what the ledger and the breakers say. Runs are counted from 1 in sentences: run 2 is the first retry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sickbay.domain.breaker import BreakerKey, BreakerState, Snapshot
from sickbay.domain.explain_breaker import sentences_of
from sickbay.domain.explain_quarantine import explain_quarantined
from sickbay.domain.explain_scheduled import explain_scheduled
from sickbay.domain.explanation import Explanation, JobExplanation, JobReason, JobStep, command, owner, quoted, sharers
from sickbay.domain.job import JobRecord, JobState, Reason, StateChange
from sickbay.domain.outcome import Outcome, kind_of
from sickbay.domain.priority import Priority
from sickbay.domain.rate_limit import Rate
from sickbay.domain.retry import RetryPolicy
from sickbay.domain.spans import ago, ahead, span, utc

_WAITING: Final = {JobState.QUEUED, JobState.RETRYING, JobState.PARKED}
LONG_MS: Final = 60_000
"""A job that waits longer for a worker, or for its release, may wait in vain."""


@dataclass(frozen=True, slots=True)
class Case:
    """A job and what is known about it. `breaker` is None if that is unknown here, `timeout_ms` what applies without one of the handler."""

    record: JobRecord
    history: Sequence[StateChange]
    key: BreakerKey
    """Of the breaker that decides about the job."""
    breaker: Snapshot | None
    policy: RetryPolicy
    timeout_ms: int
    now: int
    job_types: Sequence[str] = ()
    """Those that share the breaker, if it is that of a dependency."""
    lacks_worker: bool = False
    """Whether certainly no live worker handles its type."""
    rate: Rate | None = None
    """Of the runs of its type."""
    before: int = 0
    """How many jobs of its type were parked before it."""
    pool: str = ""
    """The pool whose workers alone handle it; empty if there is none."""

    @property
    def actor(self) -> str:
        """Who caused the present state; empty if that was not recorded."""
        return next((one.actor for one in reversed(self.history) if one.state is self.record.state), "")

    def circuit(self, breaker: Snapshot) -> list[str]:
        """What the breaker does, why, and what it does next."""
        return [*sentences_of(breaker), *sharers(breaker.key, self.job_types)]

    @property
    def by(self) -> str:
        """The same with a preposition."""
        return f" by {self.actor}" if self.actor else ""

    @property
    def shut(self) -> Snapshot | None:
        """The breaker, if it does not let the job run."""
        return self.breaker if self.breaker is not None and self.breaker.state.refuses else None

    @property
    def recovering(self) -> Snapshot | None:
        """The breaker, if it lets jobs in gradually."""
        return self.breaker if self.breaker is not None and self.breaker.recovering and self.shut is None else None


def explain_job(case: Case) -> JobExplanation:
    """Explain a job in any state."""
    state, shut = case.record.state, case.shut
    if shut is not None and shut.state is BreakerState.HALF_OPEN and shut.probe_job_id == case.record.job.job_id and state in _EARLIER:
        return _PROBING
    explained = _BY_STATE[state](case)
    return _without_worker(case, explained) if case.lacks_worker and state in _WAITING else explained


def _without_worker(case: Case, explained: JobExplanation) -> JobExplanation:
    """Whatever else it waits for, nothing happens before a worker comes."""
    kind, state = case.record.job.job_type, case.record.state
    reason = explained.reason if state is JobState.PARKED else JobReason.WAITING_FOR_WORKER
    told = [explained.sentences[0], f"No live worker handles {kind}: nothing happens until one does."]
    if state is not JobState.PARKED:
        told.append("If none does for long (UNKNOWN_TYPE_GRACE), it is quarantined, and comes back by itself when one does.")
    return Explanation(reason, explained.since, JobStep.WORKER_COMES, None, tuple(told), ("sickbay workers",))


def _queued(case: Case) -> JobExplanation:
    record, waits = case.record, f"{_when(case)} and waits for a worker{f' of the pool {case.pool}' if case.pool else ''}"
    brought = f"The job was brought back{case.by} {waits}." if record.job.generation else f"The job was accepted {waits}."
    if case.shut is not None:
        reason, step, next_at = _held(case.shut)
        if case.shut.state is not BreakerState.OPEN or not case.shut.cooldown_elapsed:
            step, next_at = JobStep.PARK, None  # whichever job comes first when a probe is due is the probe
        told = [brought, *case.circuit(case.shut), _meanwhile(step)]
        return Explanation(reason, _since(record), step, next_at, tuple(told), (_look(case.key),))
    if case.recovering is not None:
        told = [brought, *case.circuit(case.recovering)]
        return Explanation(JobReason.CIRCUIT_RECOVERING, _since(record), JobStep.RUN, None, tuple(told))
    told, commands = [brought, _POOL if case.pool else _TURN[record.job.priority]], tuple[str, ...]()
    if case.now - record.updated_at >= LONG_MS:
        told.append(f"It has waited for long: check that workers run, have a handler for {record.job.job_type}, and keep up.")
        commands = ("sickbay health", "sickbay metrics")
    return Explanation(JobReason.WAITING_FOR_WORKER, _since(record), JobStep.RUN, None, tuple(told), commands)


def _running(case: Case) -> JobExplanation:
    record = case.record
    began = record.started_at or record.updated_at
    ends = began + case.timeout_ms
    told = [f"{_run(case, record.job.attempt + 1)} began {ago(began, case.now)}{f' on {case.actor}' if case.actor else ''}."]
    if case.breaker is not None and case.breaker.probe_job_id == record.job.job_id:
        told.append("It is the probe of its circuit: if it succeeds, the circuit closes and parked jobs come back.")
    if record.cancel_requested_at:
        told.append(
            f"Somebody asked to cancel it {ago(record.cancel_requested_at, case.now)}: unless this run succeeds, the job is then CANCELLED "
            "and does not run again. A plain function ends only by itself, or by its timeout."
        )
    if case.now <= ends:
        told.append(
            f"It may take {span(case.timeout_ms)}, unless its handler has a timeout of its own; then it fails with HANDLER_TIMEOUT."
        )
    else:
        told.append(
            f"That is longer than {span(case.timeout_ms)}: its handler has a timeout of its own, or its worker has died or hangs; "
            "then another worker takes it over."
        )
    return Explanation(JobReason.RUNNING, began or None, JobStep.RUN_ENDS, ends, tuple(told))


def _retrying(case: Case) -> JobExplanation:
    record = case.record
    known = bool(record.next_attempt_at)
    due = record.next_attempt_at or record.updated_at + case.policy.delay_ms
    told = [f"{_run(case, record.job.attempt)} failed {_when(case)}{_last_error(record)}."]
    if case.now < due:
        told.append(f"Run {record.job.attempt + 1} is due {ahead(due, case.now)}{'' if known else f', or later if {ASKED}'}.")
    else:
        told.append(
            f"Run {record.job.attempt + 1} was due at {utc(due, case.now)}: it waits for a worker{'' if known else f', or {ASKED}'}."
        )
    if record.job.failed_blamelessly:
        told.append("What it depends on failed, not the job itself: it is retried until it succeeds, and needs no person.")
    commands: tuple[str, ...] = ()
    if case.shut is not None:
        told += [*case.circuit(case.shut), "If it is still open when the job's turn comes, the job is parked."]
        commands = (_look(case.key),)
    return Explanation(JobReason.RETRY_SCHEDULED, _since(record), JobStep.RETRY, due, tuple(told), commands)


def _parked(case: Case) -> JobExplanation:
    record, breaker = case.record, case.breaker
    told = [f"The job was parked {_when(case)}, because {_why_parked(case)}; it is kept and runs by itself later."]
    if record.job.failures:
        told.append(f"Its last run failed{_last_error(record)}.")
    if case.rate is not None and case.shut is None:
        return _in_line(case, case.rate, told)
    if breaker is None:
        told.append("It is released when the circuit closes; this service does not know the circuit's present state.")
        return Explanation(JobReason.CIRCUIT_OPEN, _since(record), JobStep.RELEASE, None, tuple(told), (_look(case.key),))
    told += case.circuit(breaker)
    if case.shut is not None:
        reason, step, next_at = _held(breaker)
        return Explanation(reason, _since(record), step, next_at, tuple(told), _helpful(case.key, breaker))
    if case.recovering is not None:
        told.append("The oldest parked job comes first, and tenants take turns.")
        return Explanation(JobReason.CIRCUIT_RECOVERING, _since(record), JobStep.RELEASE, None, tuple(told))
    told.append("The job is about to be released; if it is not, check that the control plane runs.")
    return Explanation(JobReason.RELEASE_DUE, _since(record), JobStep.RELEASE, None, tuple(told), ("sickbay health",))


def _in_line(case: Case, rate: Rate, told: list[str]) -> JobExplanation:
    """It waits for the rate of its type, whatever it was parked for."""
    due = case.now + -(-(case.before + 1) * rate.frequency.period_ms // rate.frequency.count)
    others = f"about {case.before:,} {'job is' if case.before == 1 else 'jobs are'} before it" if case.before else "it is the next"
    told.append(f"It waits for the rate of {rate.frequency} of its type: {others}, so it runs {ahead(due, case.now)} or later.")
    if case.recovering is not None:
        told += case.circuit(case.recovering)
    return Explanation(JobReason.RATE_LIMITED, _since(case.record), JobStep.RELEASE, due, tuple(told))


def _why_parked(case: Case) -> str:
    if case.record.reason is Reason.RATE_LIMITED:
        return f"{case.record.job.job_type} jobs came faster than their rate allows"
    return f"the circuit of {owner(case.key)} was open"


def _quarantined(case: Case) -> JobExplanation:
    return explain_quarantined(case.record, case.now)


def _succeeded(case: Case) -> JobExplanation:
    return _ended(case, JobReason.SUCCEEDED, f"succeeded {_when(case)}, in run {case.record.job.attempt + 1}{_took(case)}")


def _discarded(case: Case) -> JobExplanation:
    return _ended(case, JobReason.DISCARDED, f"was discarded {_when(case)}{case.by} and does not run any more")


def _cancelled(case: Case) -> JobExplanation:
    return _ended(case, JobReason.CANCELLED, f"was cancelled {_when(case)}{case.by} and does not run any more")


def _ended(case: Case, reason: JobReason, what: str) -> JobExplanation:
    return Explanation(reason, _since(case.record), JobStep.NONE, None, (f"The job {what}.",))


_POOL: Final = "Nothing holds it back: it runs as soon as such a worker is free. Jobs of a pool run in order, whatever their priority."
_TURN: Final[Mapping[Priority, str]] = {
    Priority.HIGH: "Nothing holds it back: it runs as soon as a worker is free, most of the time before jobs of lower priority.",
    Priority.NORMAL: "Nothing holds it back: it runs as soon as a worker is free.",
    Priority.LOW: "Nothing holds it back, but its priority is LOW: while jobs of higher priority wait, workers take few of these.",
}
ASKED: Final = "the failure asked for a longer wait"
_EARLIER: Final = {JobState.QUEUED, JobState.RETRYING, JobState.PARKED}
"""What the ledger may still say of a job whose run has begun."""
_PROBING: Final[JobExplanation] = Explanation(
    JobReason.RUNNING,
    None,
    JobStep.RUN_ENDS,
    None,
    ("The job runs as the probe of its circuit: if it succeeds, the circuit closes and parked jobs come back.",),
)
_BY_STATE: Final[Mapping[JobState, Callable[[Case], JobExplanation]]] = {
    JobState.SCHEDULED: lambda case: explain_scheduled(case.record, case.now),
    JobState.QUEUED: _queued,
    JobState.RUNNING: _running,
    JobState.RETRYING: _retrying,
    JobState.PARKED: _parked,
    JobState.QUARANTINED: _quarantined,
    JobState.SUCCEEDED: _succeeded,
    JobState.DISCARDED: _discarded,
    JobState.CANCELLED: _cancelled,
}


def _held(breaker: Snapshot) -> tuple[JobReason, JobStep, int | None]:
    """Why a breaker holds a job, and what it does next."""
    match breaker.state:
        case BreakerState.HALF_OPEN:
            return JobReason.PROBE_RUNNING, JobStep.PROBE_ENDS, None
        case BreakerState.FORCED_OPEN:
            return JobReason.CIRCUIT_FORCED_OPEN, JobStep.HOLD_ENDS, breaker.forced_until
        case _:
            return JobReason.CIRCUIT_OPEN, JobStep.PROBE, breaker.probe_at


def _meanwhile(step: JobStep) -> str:
    if step is JobStep.PARK:
        return "The worker that takes this job parks it, and it runs when the circuit has closed."
    return "This job may be the probe; otherwise it is parked, and runs when the circuit has closed."


def _helpful(key: BreakerKey, breaker: Snapshot) -> tuple[str, ...]:
    match breaker.state:
        case BreakerState.FORCED_OPEN:
            return command("auto", key), _look(key)
        case BreakerState.OPEN if not breaker.cooldown_elapsed:
            return _look(key), command("probe", key)
        case _:
            return (_look(key),)


def _look(key: BreakerKey) -> str:
    return command("explain --type", key)


def _run(case: Case, number: int) -> str:
    """`Run 2 of at most 4`; without the maximum if there is none for such failures, or if this handler has other limits."""
    job = case.record.job
    last = job.failures[-1].code if job.failures else ""
    retries = None if job.failed_blamelessly else case.policy.retries(Outcome(kind_of(last), last))
    most = None if retries is None else retries + 1 + job.blameless
    return f"Run {number} of at most {most}" if most is not None and 0 < number <= most else f"Run {number}"


def _last_error(record: JobRecord) -> str:
    last = record.job.failures[-1] if record.job.failures else None
    return f" with {quoted(last.code, last.message)}" if last is not None and (last.code or last.message.strip()) else ""


def _took(case: Case) -> str:
    began = case.record.started_at
    return f", which took {span(max(0, case.record.updated_at - began))}" if began else ""


def _when(case: Case) -> str:
    return ago(case.record.updated_at, case.now)


def _since(record: JobRecord) -> int | None:
    return record.updated_at or None
