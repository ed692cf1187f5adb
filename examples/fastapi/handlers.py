"""Handlers that use the models of the app.

../../.venv/bin/sickbay up --ephemeral --handlers handlers
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shop import DATABASE, Order
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

from sickbay import Job, JobError, handler

ENGINE = create_async_engine(DATABASE, poolclass=NullPool)
"""Without a pool: a pooled connection belongs to one event loop, and the worker replaces a loop that a handler blocks."""


@asynccontextmanager
async def transaction() -> AsyncIterator[AsyncSession]:
    """A session that commits at the end."""
    async with AsyncSession(ENGINE) as session, session.begin():
        yield session


@handler("invoice", timeout=30, retries={"NO_ORDER": 0})
async def invoice(job: Job) -> dict[str, int]:
    """A second run of the job finds the number of the first."""
    async with transaction() as session:
        order = await session.get(Order, job.payload["order"], with_for_update=True)
        if order is None:
            raise JobError("NO_ORDER", f"there is no order {job.payload['order']}", kind="data")
        order.invoice = order.invoice or 1_000 + order.id
        return {"invoice": order.invoice}


@handler("report")
async def report(job: Job) -> dict[str, int]:
    """What it returns is the job's result."""
    async with transaction() as session:
        return {"invoiced": await session.scalar(select(func.count()).where(Order.invoice.is_not(None)))}
