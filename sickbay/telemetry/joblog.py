"""One log line for the outcome of each delivery, with its job and attempt.

Successes are logged at DEBUG, because a healthy system has thousands a second and the metrics count them; to see them, set
LOG_LEVEL=INFO,sickbay.jobs=DEBUG. A failed run is logged once per attempt with the handler's message and traceback; the setting REDACT
names a function that removes secrets from both.
"""

from __future__ import annotations

import logging
from typing import Final

from sickbay.domain.breaker import Permit
from sickbay.domain.job import Job, JobEvent, JobState
from sickbay.observer import Observer
from sickbay.telemetry.logs import RUNNING

_LINES: Final = {
    JobState.SUCCEEDED: (logging.DEBUG, "job succeeded"),
    JobState.RETRYING: (logging.INFO, "job failed and will run again"),
    JobState.PARKED: (logging.INFO, "job parked"),
    JobState.QUARANTINED: (logging.INFO, "job quarantined"),
    JobState.CANCELLED: (logging.INFO, "job cancelled"),
}
_DROPPED: Final = (logging.INFO, "outdated copy of a job dropped")

log = logging.getLogger("sickbay.jobs")


class JobLog(Observer):
    """Writes the line, and adds the job to every line that its handler logs."""

    def run_started(self, job: Job, permit: Permit) -> None:  # noqa: ARG002 - the hook's
        """Set the context of the log lines; each job has a task of its own, so it is never reset."""
        RUNNING.set(job)

    def settled(self, event: JobEvent) -> None:
        """Log the outcome."""
        level, words = _DROPPED if event.duplicate else _LINES[event.state]
        if log.isEnabledFor(level):
            log.log(level, words, extra=_facts(event))


def _facts(event: JobEvent) -> dict[str, object]:
    job = event.job
    facts: dict[str, object] = {
        "job_id": job.job_id,
        "job_type": job.job_type,
        # A copy that will run again has the number of its next attempt already.
        "attempt": job.attempt - (event.state is JobState.RETRYING),
        "generation": job.generation,
    }
    if event.started_at is not None:
        facts["run_ms"] = event.at - event.started_at
    if event.code:
        facts["code"] = event.code
    if event.reason is not None:
        facts["reason"] = event.reason.value
    failed = job.failures[-1] if job.failures and event.code else None
    if failed is not None and failed.code == event.code:
        facts["error"] = failed.message
        if event.state is JobState.RETRYING and failed.retry_at:
            facts["retry_in_ms"] = max(0, failed.retry_at - event.at)
        if failed.traceback:
            facts["traceback"] = failed.traceback
    return facts
