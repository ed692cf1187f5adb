"""Renews a probe's lease while its handler runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sickbay.domain.breaker import Permit
from sickbay.ports import Breakers

log = logging.getLogger(__name__)


@asynccontextmanager
async def renew_while_running(breakers: Breakers, permit: Permit) -> AsyncIterator[None]:
    """Renew the lease every third of its length until the context ends."""
    renewal = asyncio.create_task(_renew(breakers, permit), name="probe lease")
    try:
        yield
    finally:
        renewal.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await renewal


async def _renew(breakers: Breakers, permit: Permit) -> None:
    while True:
        await asyncio.sleep(permit.lease_ms / 3000)
        if not await breakers.renew(permit):
            log.warning("the probe of %s ran longer than its lease; another job will be the probe", permit.key.name)
            return
