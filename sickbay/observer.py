"""The one seam through which metrics, traces, logs and your own code see what happens to jobs.

Subclass `Observer` and override what you want to know of; everything else does nothing and costs nothing. Hooks are plain functions, called
in the event loop of the service in the middle of its work, so they must return at once: hand anything slow to a thread or a queue of your
own. What a hook raises is logged and harms no job. A process loads your observers from the setting OBSERVERS (`docs/observers.md`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

from sickbay.domain.breaker import Permit
from sickbay.domain.errors import SickbayError
from sickbay.domain.incident import Change, Incident
from sickbay.domain.job import Job, JobEvent
from sickbay.domain.outcome import Outcome
from sickbay.domain.queries import Accepted, ReconcileResult, ReleaseLease
from sickbay.domain.schedule import Schedule, ScheduleRun
from sickbay.ports import Delivery, Message
from sickbay.ports.incidents import Notice, Undelivered
from sickbay.ports.schedules import Fired

log = logging.getLogger(__name__)


class Observer:
    """Hears of everything that happens to jobs in this process. Times are in seconds, `error` is None where all went well."""

    def submitted(self, job_types: Sequence[str], results: Sequence[Accepted | SickbayError]) -> None:
        """Job API: what clients submitted in one call, and for each whether it was accepted (durable) or why not."""

    def publishing(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Every service: about to be published; the messages as they are to go, which may have further headers. `published` follows."""
        return messages

    def published(self, messages: Sequence[Message], seconds: float, error: BaseException | None) -> None:
        """Every service: the broker has confirmed all of them, or not. In the same task as `publishing`."""

    def received(self, delivery: Delivery) -> None:
        """Worker: a message came, in the task that treats it from now on."""

    def run_started(self, job: Job, permit: Permit) -> None:
        """Worker: a handler is about to run, as a probe if the permit says so. `run_ended` follows in the same task."""

    def run_ended(self, job: Job, permit: Permit, outcome: Outcome | None, seconds: float) -> None:
        """Worker: the handler has ended; without an outcome it did not run after all."""

    def settled(self, event: JobEvent) -> None:
        """Worker: what became of a delivery: succeeded, retrying, parked, quarantined, or dropped as a duplicate."""

    def ingested(self, events: Sequence[JobEvent], seconds: float, error: BaseException | None) -> None:
        """Control plane: the ledger has taken a batch of events, or not, and then it is tried again."""

    def releasing(self, leases: Sequence[ReleaseLease], by: str) -> None:
        """Control plane: jobs are about to leave the quarantine, by the `healer` or by `people`. `released` follows in the same task."""

    def released(self, leases: Sequence[ReleaseLease], by: str, error: BaseException | None) -> None:
        """Control plane: they are back in the queue; with an error their leases bring them back later."""

    def reconciled(self, result: ReconcileResult) -> None:
        """Control plane: the copies in `jobs.quarantine` were compared with the ledger once more."""

    def incident_changed(self, incident: Incident, change: Change) -> None:
        """Control plane: an incident was opened, re-opened or closed; of several control planes only the one that recorded it hears."""

    def notified(self, notice: Notice, error: Undelivered | None) -> None:
        """Control plane: the webhook has taken a notice of an incident, or not, and then it is tried again."""

    def schedules_fired(self, fired: Sequence[Fired]) -> None:
        """Control plane: the times of schedules have come, and this became of them, also those without a job; each is told once."""

    def schedule_jobs_changed(self, news: Sequence[tuple[Schedule, ScheduleRun]]) -> None:
        """Control plane: jobs of schedules have other states, as the runs say; the schedule is as it is now, perhaps paused by that."""


class Observers(Observer):
    """Several as one. A hook that nobody overrides costs one look at an empty list."""

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        """They hear in this order."""
        self._submitted = _overriding(observers, "submitted")
        self._publishing = _overriding(observers, "publishing")
        self._published = _overriding(observers, "published")
        self._received = _overriding(observers, "received")
        self._run_started = _overriding(observers, "run_started")
        self._run_ended = _overriding(observers, "run_ended")
        self._settled = _overriding(observers, "settled")
        self._ingested = _overriding(observers, "ingested")
        self._releasing = _overriding(observers, "releasing")
        self._released = _overriding(observers, "released")
        self._reconciled = _overriding(observers, "reconciled")
        self._incident_changed = _overriding(observers, "incident_changed")
        self._notified = _overriding(observers, "notified")
        self._schedules_fired = _overriding(observers, "schedules_fired")
        self._schedule_jobs_changed = _overriding(observers, "schedule_jobs_changed")

    def submitted(self, job_types: Sequence[str], results: Sequence[Accepted | SickbayError]) -> None:
        _call(self._submitted, job_types, results)

    def publishing(self, messages: Sequence[Message]) -> Sequence[Message]:
        for hook in self._publishing:
            try:
                messages = hook(messages)
            except Exception:
                log.exception("an observer failed")
        return messages

    def published(self, messages: Sequence[Message], seconds: float, error: BaseException | None) -> None:
        _call(self._published, messages, seconds, error)

    def received(self, delivery: Delivery) -> None:
        _call(self._received, delivery)

    def run_started(self, job: Job, permit: Permit) -> None:
        _call(self._run_started, job, permit)

    def run_ended(self, job: Job, permit: Permit, outcome: Outcome | None, seconds: float) -> None:
        _call(self._run_ended, job, permit, outcome, seconds)

    def settled(self, event: JobEvent) -> None:
        _call(self._settled, event)

    def ingested(self, events: Sequence[JobEvent], seconds: float, error: BaseException | None) -> None:
        _call(self._ingested, events, seconds, error)

    def releasing(self, leases: Sequence[ReleaseLease], by: str) -> None:
        _call(self._releasing, leases, by)

    def released(self, leases: Sequence[ReleaseLease], by: str, error: BaseException | None) -> None:
        _call(self._released, leases, by, error)

    def reconciled(self, result: ReconcileResult) -> None:
        _call(self._reconciled, result)

    def incident_changed(self, incident: Incident, change: Change) -> None:
        _call(self._incident_changed, incident, change)

    def notified(self, notice: Notice, error: Undelivered | None) -> None:
        _call(self._notified, notice, error)

    def schedules_fired(self, fired: Sequence[Fired]) -> None:
        _call(self._schedules_fired, fired)

    def schedule_jobs_changed(self, news: Sequence[tuple[Schedule, ScheduleRun]]) -> None:
        _call(self._schedule_jobs_changed, news)


NOBODY: Final = Observer()
"""Nobody wants to know."""


def _overriding(observers: Sequence[Observer], name: str) -> Sequence[Callable[..., Any]]:
    return [getattr(one, name) for one in observers if getattr(type(one), name) is not getattr(Observer, name)]


def _call(hooks: Sequence[Callable[..., None]], *facts: object) -> None:
    for hook in hooks:
        try:
            hook(*facts)
        except Exception:
            log.exception("an observer failed")
