"""Decides who gets an idempotency key, from what is kept under the keys. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from sickbay.domain.errors import Aborted, AlreadyExists, ErrorReason, SickbayError
from sickbay.domain.queries import KeyClaim, Reservation

LEASE_MS: Final = 30_000

Place = tuple[str, str]
"""A tenant and its key."""


class Kept(NamedTuple):
    """What is kept under a key: the first request, and until when it has the key; None once its job was accepted. Times are in ms."""

    digest: bytes
    job_id: str
    submitted_at: int
    lease_until: int | None


@dataclass(slots=True)
class Decisions:
    """One result for each claim, the claims to keep as new, and the keys whose leases are to be renewed for another request."""

    results: list[Reservation | SickbayError] = field(default_factory=list)
    new: list[KeyClaim] = field(default_factory=list)
    retaken: list[Place] = field(default_factory=list)


def decide(claims: Sequence[KeyClaim], kept: Mapping[Place, Kept], now: int) -> Decisions:
    """Decide claim by claim: a later one finds what an earlier one has left."""
    decisions, known = Decisions(), dict(kept)
    for claim in claims:
        place = place_of(claim)
        found = known.get(place)
        if found is None:
            decisions.new.append(claim)
            decisions.results.append(Reservation(claim.job_id, now, duplicate=False))
            known[place] = in_progress(claim, now)
            continue
        result = _join(claim, found, now)
        if isinstance(result, Reservation) and result.retaken:
            decisions.retaken.append(place)
            known[place] = found._replace(lease_until=now + LEASE_MS)
        decisions.results.append(result)
    return decisions


def in_progress(claim: KeyClaim, now: int) -> Kept:
    """What is kept for a new claim."""
    return Kept(claim.digest, claim.job_id, now, now + LEASE_MS)


def place_of(claim: KeyClaim) -> Place:
    """The claim's tenant and key."""
    return claim.tenant, claim.key


def _join(claim: KeyClaim, kept: Kept, now: int) -> Reservation | SickbayError:
    """The result for a later request with the same key."""
    if kept.digest != claim.digest:
        return AlreadyExists("this idempotency key was used for a different request")
    if kept.lease_until is None:
        return Reservation(kept.job_id, kept.submitted_at, duplicate=True)
    # A lease that ends later than possible was given before the clock was set back.
    if now < kept.lease_until <= now + 2 * LEASE_MS:
        return Aborted("a request with this idempotency key is in progress; try again later", ErrorReason.REQUEST_IN_PROGRESS)
    return Reservation(kept.job_id, kept.submitted_at, duplicate=False, retaken=True)
