"""A program that submits a job with each order, in the same transaction (docs/outbox.md): there is neither without the other.

With the handler of `first_handler.py` running, `../.venv/bin/sickbay up --ephemeral --handlers first_handler`:

    ../.venv/bin/python outbox.py

The database is SQLite in a temporary folder, and the relay runs in this program; in production it is `sickbay outbox relay`.
"""

import asyncio
import tempfile
from pathlib import Path

from sqlalchemy import Column, Integer, MetaData, String, Table
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from sickbay import outbox
from sickbay.client import AsyncClient, InvalidRequest

metadata = MetaData()
orders = Table("orders", metadata, Column("id", Integer, primary_key=True), Column("name", String(100), nullable=False))
outbox.table(metadata)  # the table `sickbay_outbox`, created with yours


async def order(engine: AsyncEngine, name: str, *, job_type: str = "greet", paid: bool = True) -> str:
    """Take an order and submit its job, both or neither. Returns the job's idempotency key."""
    async with AsyncSession(engine) as session, session.begin():
        await session.execute(orders.insert().values(name=name))
        key = await outbox.submit_async(session, job_type, {"name": name})
        if not paid:
            msg = f"{name} has not paid"
            raise ValueError(msg)
        return key


async def take_orders(engine: AsyncEngine) -> str:
    """One that is kept, and two that are rolled back."""
    key = await order(engine, "Ada")
    try:
        await order(engine, "Bob", paid=False)
    except ValueError as error:
        print(f"rolled back: {error}")
    try:
        await order(engine, "Eve", job_type="Not a type")
    except InvalidRequest as error:
        print(f"refused: {error.reason}")
    return key


async def main() -> None:
    """Take orders, and relay their jobs to the Job API that SICKBAY_JOBAPI names, by default that of this machine."""
    with tempfile.TemporaryDirectory() as folder:
        engine = create_async_engine(f"sqlite+aiosqlite:///{Path(folder) / 'shop.db'}")
        async with engine.begin() as connection:
            await connection.run_sync(metadata.create_all)
        key = await take_orders(engine)
        async with AsyncClient.from_env() as client:
            relay = outbox.Relay(engine, client)
            done = await relay.once()  # a long-running program has `asyncio.create_task(relay.run())` and at the end `relay.stop()`
            print(f"relayed: {done.accepted}")
            again = await client.submit("greet", {"name": "Ada"}, request_id=key)  # the key finds the job
            print(f"the job of the order: {(await client.wait(again.job_id, timeout=60)).state}")
        await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main())
