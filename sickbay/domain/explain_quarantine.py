"""Explains a quarantined job: what went wrong, and what a person can do about it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sickbay.domain.explanation import Explanation, JobExplanation, JobReason, JobStep, quoted
from sickbay.domain.job import JobRecord, Reason
from sickbay.domain.spans import ago

_REASONS: Final[Mapping[Reason | None, JobReason]] = {
    Reason.RETRIES_EXHAUSTED: JobReason.RETRIES_EXHAUSTED,
    Reason.UNKNOWN_TYPE: JobReason.UNKNOWN_TYPE,
    Reason.UNDECODABLE: JobReason.UNDECODABLE,
    Reason.WORKER_LOST: JobReason.WORKER_LOST,
    Reason.BROKER: JobReason.BROKER,
    Reason.WORKER_FAULT: JobReason.WORKER_FAULT,
}
_WAITS: Final = "It does not run again by itself, and is kept until a person has resubmitted or discarded it."


def explain_quarantined(record: JobRecord, now: int) -> JobExplanation:
    """Explain a job that needs a person, or a worker that handles its type."""
    reason = _REASONS.get(record.reason, JobReason.SET_ASIDE)
    why, what_to_do = _words(record, reason)
    step, waits = JobStep.PERSON_DECIDES, _WAITS
    if reason is JobReason.UNKNOWN_TYPE:
        step, waits = JobStep.WORKER_COMES, f"It comes back by itself when a live worker handles {record.job.job_type}."
    sentences = (f"The job was quarantined {ago(record.updated_at, now)}{why}.", waits, what_to_do)
    return Explanation(reason, record.updated_at or None, step, None, sentences, _commands(record, reason))


def _words(record: JobRecord, reason: JobReason) -> tuple[str, str]:  # noqa: PLR0911 - one for each case
    """Why it is in quarantine, and what to do about it."""
    error, kind = _last_error(record), record.job.job_type
    match reason:
        case JobReason.RETRIES_EXHAUSTED:
            run = f"run {record.job.attempt + 1}, the last one allowed," if record.job.attempt else "its only allowed run"
            return (
                f": {run} failed{_with(error)}",
                "Correct the data (--edit) or the cause, then resubmit it: it gets all its retries again.",
            )
        case JobReason.UNKNOWN_TYPE:
            return (
                f": no live worker had a handler for {kind}",
                f"Start workers that have a handler for {kind}, or resubmit it with the right type (--job-type).",
            )
        case JobReason.UNDECODABLE:
            return (
                f": its message could not be read{_in_brackets(error)}",
                "Its bytes are kept in the payload's contentBase64: resubmit it with a readable payload and its type, or discard it.",
            )
        case JobReason.WORKER_LOST:
            return (
                ": several workers died while they ran it",
                "Find out what kills them (memory, native code, an exit in the handler) before you resubmit it.",
            )
        case JobReason.BROKER:
            return ": the broker took it out of its queue", "See the broker's log and its limits of the queue, then resubmit it."
        case JobReason.WORKER_FAULT:
            return (
                f": workers had an internal error while processing it{_in_brackets(error)}",
                "Its errors say where, and so does the workers' log; when the fault is corrected, resubmit it.",
            )
        case _:
            return f"; its last run failed{_with(error)}" if error else "", "See its errors and its payload, then resubmit or discard it."


def _last_error(record: JobRecord) -> str:
    last = record.job.failures[-1] if record.job.failures else None
    return quoted(last.code, last.message) if last is not None else ""


def _with(error: str) -> str:
    return f" with {error}" if error else ""


def _in_brackets(error: str) -> str:
    return f" ({error})" if error else ""


def _commands(record: JobRecord, reason: JobReason) -> tuple[str, ...]:
    job_id = record.job.job_id
    again = f"sickbay quarantine resubmit {job_id}"
    if reason is JobReason.RETRIES_EXHAUSTED:
        again += " --edit"
    elif reason is JobReason.UNKNOWN_TYPE:
        again += " --job-type TYPE"
    return f"sickbay quarantine show {job_id}", again, f"sickbay quarantine discard {job_id}"
