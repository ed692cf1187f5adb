"""One idempotency key at a time, for tests that need no more: what is rejected is raised."""

from __future__ import annotations

from sickbay.domain.errors import SickbayError
from sickbay.domain.queries import KeyClaim, Reservation
from sickbay.ports import IdempotencyKeys


async def reserve(keys: IdempotencyKeys, tenant: str, key: str, digest: bytes, job_id: str) -> Reservation:
    """The only result."""
    (result,) = await keys.reserve([KeyClaim(tenant, key, digest, job_id)])
    if isinstance(result, SickbayError):
        raise result
    return result


async def confirm(keys: IdempotencyKeys, tenant: str, key: str) -> None:
    """Whoever has it."""
    await keys.confirm([KeyClaim(tenant, key, b"", "")])


async def release(keys: IdempotencyKeys, tenant: str, key: str, job_id: str) -> None:
    """If that job has it."""
    await keys.release([KeyClaim(tenant, key, b"", job_id)])
