"""The ports of incidents, with the rules of the package: one record for each outage of a breaker, and notices of it for a webhook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sickbay.domain.breaker import BreakerRule, Snapshot
from sickbay.domain.incident import Change, Incident, IncidentQuery
from sickbay.domain.queries import Page


@dataclass(frozen=True, slots=True)
class Step:
    """The latest incident of a breaker after a call, None if it has none, and what this very call changed, None if nothing."""

    incident: Incident | None
    change: Change | None = None


class IncidentStore(Protocol):
    """Incidents. Several control planes tell it the same: of those, one makes the change, the others find it made."""

    async def observe(self, breaker: Snapshot) -> Step:
        """Advance the latest incident of this breaker (`incident.advance`), atomically for the whole fleet."""

    async def close_missing(self, incident: Incident) -> Step:
        """Close an incident whose breaker does not exist any more, unless it has changed since it was read."""

    async def unfinished(self) -> Sequence[Incident]:
        """Those that are open, and closed ones whose parked jobs have not all been brought back yet; oldest first."""

    async def count_jobs(self, incident: Incident, scope: BreakerRule, traces: Mapping[str, str]) -> Incident:
        """Count its jobs in the ledger, and name those whose failures opened the breaker, with their trace ids from `traces`.

        Returns the incident as it is afterwards.
        """

    async def open_counts(self) -> Mapping[str, int]:
        """How many incidents are open, by job type."""

    async def find_incidents(self, query: IncidentQuery, limit: int, cursor: str) -> Page[Incident]:
        """Latest first; InvalidArgument(INVALID_PAGE_TOKEN) if the cursor is not from this list."""

    async def get_incident(self, number: int) -> Incident | None:
        """The incident, None if it is unknown."""

    async def acknowledge(self, number: int, actor: str, note: str) -> Incident:
        """Keep who has taken note of it; NotFound."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What a webhook is to be told: `notice_id` is the same for every repeat, `attempts` counts this one, `created_at` is in ms."""

    notice_id: str
    number: int
    body: bytes
    attempts: int
    created_at: int


class IncidentNotices(Protocol):
    """The outbox of the webhook: notices written together with their incident, until they are delivered."""

    async def claim(self, limit: int, lease_ms: int) -> Sequence[Notice]:
        """The notices that have been due longest; nobody else gets them for `lease_ms`, then they are due again."""

    async def postpone(self, notice: Notice, wait_ms: int) -> None:
        """It could not be delivered: it is due again after `wait_ms`."""

    async def finish(self, notice: Notice) -> None:
        """It was delivered, or is given up."""

    async def waiting(self) -> int:
        """How many have not been delivered yet."""


class Undelivered(Exception):
    """A webhook has not taken a notice; the text says why, without its address. `is_final`: repeating it is useless."""

    def __init__(self, why: str, *, retry_after_s: float = 0, is_final: bool = False) -> None:
        """Set the reason, and how long the webhook asks to wait."""
        super().__init__(why)
        self.retry_after_s = retry_after_s
        self.is_final = is_final


class Webhook(Protocol):
    """Whoever is to be told of incidents."""

    async def deliver(self, notice: Notice) -> None:
        """Returns once the webhook has taken the notice; Undelivered if it has not, or if that is uncertain."""
