"""A shop with FastAPI and SQLAlchemy whose orders are invoiced by jobs.

../../.venv/bin/uvicorn shop:app --port 8000
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sickbay import outbox
from sickbay.client import AsyncClient, NotFound, Unavailable

DATABASE = os.environ.get("SHOP_DATABASE_URL", "sqlite+aiosqlite:///shop.sqlite3")


class Base(DeclarativeBase):
    """The tables of the shop, and that of the outbox."""


class Order(Base):
    """An order; `invoice` is the number of its invoice, once there is one."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    invoice: Mapped[int | None]


outbox.table(Base.metadata)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """In each process of the web server, on its event loop: the client and the engine, and a relay, which shares the rows with others."""
    engine = create_async_engine(DATABASE)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)  # in production: Alembic, before the start
    async with AsyncClient.from_env() as client:
        app.state.engine, app.state.client = engine, client
        relay = outbox.Relay(engine, client)
        relaying = asyncio.create_task(relay.run())
        yield
        relay.stop()
        await relaying
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


async def open_session(request: Request) -> AsyncIterator[AsyncSession]:
    """A session for one request; each route begins its transaction."""
    async with AsyncSession(request.app.state.engine) as session:
        yield session


def get_client(request: Request) -> AsyncClient:
    """The client of this process."""
    return request.app.state.client


Database = Annotated[AsyncSession, Depends(open_session)]
Jobs = Annotated[AsyncClient, Depends(get_client)]


class NewOrder(BaseModel):
    """What is ordered."""

    name: str


@app.post("/orders", status_code=201)
async def create_order(order: NewOrder, session: Database) -> dict[str, int]:
    """The order and its job, both or neither. The transaction ends before the answer is sent."""
    async with session.begin():
        row = Order(name=order.name)
        session.add(row)
        await session.flush()  # for its id
        await outbox.submit_async(session, "invoice", {"order": row.id})
        return {"order": row.id}


@app.get("/orders/{order_id}")
async def show_order(order_id: int, session: Database) -> dict[str, int | None]:
    """Whether it is invoiced."""
    order = await session.get(Order, order_id)
    if order is None:
        raise HTTPException(404, "no such order")
    return {"order": order.id, "invoice": order.invoice}


@app.post("/reports", status_code=202)
async def create_report(payload: dict[str, Any], jobs: Jobs) -> dict[str, str]:
    """A job that belongs to no change in the database is submitted at once."""
    try:
        job = await jobs.submit("report", payload)
    except Unavailable as error:
        raise HTTPException(503, str(error)) from error
    return {"job": job.job_id}


@app.get("/jobs/{job_id}")
async def show_job(job_id: str, jobs: Jobs) -> dict[str, Any]:
    """For a page that asks again and again."""
    try:
        job = await jobs.get(job_id)
    except NotFound as error:
        raise HTTPException(404, "no such job") from error
    return {"state": job.state, "result": job.result}
