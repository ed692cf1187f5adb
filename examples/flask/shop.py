"""A shop with Flask and SQLAlchemy whose orders are invoiced by jobs.

../../.venv/bin/flask --app shop run
"""

import os
from typing import Any

from flask import Flask, current_app, request
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sickbay import outbox
from sickbay.client import Client, NotFound, Unavailable

DATABASE = "sqlite:///shop.sqlite3"


class Base(DeclarativeBase):
    """The tables of the shop, and that of the outbox."""


class Order(Base):
    """An order; `invoice` is the number of its invoice, once there is one."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    invoice: Mapped[int | None]


outbox.table(Base.metadata)


def create_app(database: str | None = None, client: Client | None = None) -> Flask:
    """The app. It may be made before the web server forks its processes: neither client nor engine connects before it is used."""
    app = Flask(__name__)
    app.extensions["database"] = create_engine(database or os.environ.get("SHOP_DATABASE_URL", DATABASE))
    app.extensions["sickbay"] = client or Client.from_env()
    app.post("/orders")(create_order)
    app.get("/orders/<int:order_id>")(show_order)
    app.post("/reports")(create_report)
    app.get("/jobs/<job_id>")(show_job)
    return app


def database() -> Engine:
    """That of the app that is current, in a request as in a handler."""
    return current_app.extensions["database"]


def create_order() -> Any:
    """The order and its job, both or neither."""
    with Session(database()) as session, session.begin():
        order = Order(name=request.get_json()["name"])
        session.add(order)
        session.flush()  # for its id
        outbox.submit(session, "invoice", {"order": order.id})
        return {"order": order.id}, 201


def show_order(order_id: int) -> Any:
    """Whether it is invoiced."""
    with Session(database()) as session:
        order = session.get(Order, order_id)
        return ({"error": "no such order"}, 404) if order is None else {"order": order.id, "invoice": order.invoice}


def create_report() -> Any:
    """A job that belongs to no change in the database is submitted at once."""
    try:
        job = current_app.extensions["sickbay"].submit("report", request.get_json())
    except Unavailable as error:
        return {"error": str(error)}, 503
    return {"job": job.job_id}, 202


def show_job(job_id: str) -> Any:
    """For a page that asks again and again."""
    try:
        job = current_app.extensions["sickbay"].get(job_id)
    except NotFound:
        return {"error": "no such job"}, 404
    return {"state": job.state, "result": job.result}
