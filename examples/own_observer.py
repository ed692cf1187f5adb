"""An observer of your own: code that hears what happens to jobs.

    OBSERVERS=own_observer:SlowJobs ../.venv/bin/sickbay up --ephemeral --handlers own_observer
    ../.venv/bin/sickbay submit report '{"seconds": 1.5}' --wait

Hooks are called in the middle of the service's work, so they return at once and hand anything slow to a thread or a queue of their own.
What they raise is logged and harms no job. docs/observers.md lists all of them.
"""

import time

from sickbay import Job, handler
from sickbay.domain.breaker import Permit
from sickbay.domain.job import JobEvent
from sickbay.domain.outcome import Outcome
from sickbay.observer import Observer

SLOW_S = 1.0


class SlowJobs(Observer):
    """Prints the runs that took long, and every job that left the queue without success."""

    def run_ended(self, job: Job, permit: Permit, outcome: Outcome | None, seconds: float) -> None:  # noqa: ARG002
        """After each run of a handler."""
        if seconds > SLOW_S:
            print(f"slow: {job.job_type} took {seconds:.1f} s", flush=True)

    def settled(self, event: JobEvent) -> None:
        """When it is decided what becomes of a job."""
        if event.code:
            print(f"{event.job.job_type} is {event.state}: {event.code}", flush=True)


@handler("report")
def report(job: Job) -> None:
    """Take as long as the payload says."""
    time.sleep(job.payload.get("seconds", 0))
    if job.payload.get("breaks"):
        raise ConnectionError("the dependency is away")
