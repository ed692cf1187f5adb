"""Explains a SCHEDULED job: when it is due, and what to check if that has passed. Pure."""

from __future__ import annotations

from typing import Final

from sickbay.domain.explanation import Explanation, JobExplanation, JobReason, JobStep
from sickbay.domain.job import JobRecord
from sickbay.domain.spans import ago, ahead, utc

LATE_MS: Final = 10_000
"""A SCHEDULED job is sent to the workers within a second of its time."""


def explain_scheduled(record: JobRecord, now: int) -> JobExplanation:
    """Explain a job that the ledger holds until it is due."""
    job = record.job
    since = record.updated_at or None
    whose = f" by the schedule {job.schedule_id}" if job.schedule_id else ""
    accepted = f"The job was accepted {ago(job.submitted_at, now)}{whose}, to run later"
    if now > job.run_at + LATE_MS:
        told = (
            f"{accepted}: it was due {ago(job.run_at, now)}.",
            "It is late: check that the control plane runs, and reaches the ledger and the broker.",
        )
        return Explanation(JobReason.SCHEDULED, since, JobStep.DUE, job.run_at, told, ("sickbay health",))
    told = (f"{accepted}: it is due {ahead(job.run_at, now)}.", f"Then, at {utc(job.run_at, now)}, it is queued like any other job.")
    return Explanation(JobReason.SCHEDULED, since, JobStep.DUE, job.run_at, told)
