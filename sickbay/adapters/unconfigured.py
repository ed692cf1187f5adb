"""Null adapters for parts that are not configured: their errors name the missing variable."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NoReturn

from sickbay.domain.errors import ErrorReason, FailedPrecondition, SickbayError
from sickbay.domain.job import JobRecord, StateChange
from sickbay.domain.queries import JobQuery, KeyClaim, Page, Reservation
from sickbay.ports.lost import Hold


def _raise_not_configured(what: str, variable: str) -> NoReturn:
    raise FailedPrecondition(f"{what} needs {variable}, which is not set for this service", ErrorReason.NOT_CONFIGURED)


class UnconfiguredJobReader:
    """A JobReader without a ledger: jobs can be submitted, but not read."""

    async def get(self, job_id: str) -> JobRecord | None:
        """FailedPrecondition."""
        _raise_not_configured("reading jobs", "DATABASE_URL")

    async def history(self, job_id: str) -> Sequence[StateChange]:
        """FailedPrecondition."""
        _raise_not_configured("reading jobs", "DATABASE_URL")

    async def histories(self, job_ids: Sequence[str]) -> Mapping[str, Sequence[StateChange]]:
        """FailedPrecondition."""
        _raise_not_configured("reading jobs", "DATABASE_URL")

    async def parked_before(self, job_id: str) -> int:
        """FailedPrecondition."""
        _raise_not_configured("reading jobs", "DATABASE_URL")

    async def find(self, query: JobQuery, limit: int, cursor: str) -> Page[JobRecord]:
        """FailedPrecondition."""
        _raise_not_configured("listing jobs", "DATABASE_URL")

    def watch(self, job_id: str) -> AbstractAsyncContextManager[AsyncIterator[tuple[JobRecord, StateChange | None]]]:
        """FailedPrecondition."""
        _raise_not_configured("watching a job", "DATABASE_URL")


class UnconfiguredHolds:
    """Holds without a ledger."""

    def hold(self, job_ids: Sequence[str]) -> AbstractAsyncContextManager[Hold]:
        """FailedPrecondition."""
        _raise_not_configured("cancelling a job", "DATABASE_URL")


class UnconfiguredKeys:
    """IdempotencyKeys without a store: requests without a key work, those with one are refused rather than trusted."""

    async def reserve(self, claims: Sequence[KeyClaim]) -> Sequence[Reservation | SickbayError]:
        """FailedPrecondition."""
        _raise_not_configured("an idempotency key", "REDIS_URL or DATABASE_URL")

    async def confirm(self, claims: Sequence[KeyClaim]) -> None:
        """Nothing was reserved."""

    async def release(self, claims: Sequence[KeyClaim]) -> None:
        """Nothing was reserved."""
