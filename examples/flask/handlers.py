"""Handlers that use what the Flask app has: its settings, its database.

../../.venv/bin/sickbay up --ephemeral --handlers handlers
"""

import functools
from collections.abc import Callable
from typing import Any

from shop import Base, Order, create_app, database
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from sickbay import Job, JobError, handler

app = create_app()
with app.app_context():
    Base.metadata.create_all(database())  # in production: Alembic, before the start


def in_app(function: Callable[[Job], Any]) -> Callable[[Job], Any]:
    """Run it in an app context, as Flask runs a view."""

    @functools.wraps(function)
    def run(job: Job) -> Any:
        with app.app_context():
            return function(job)

    return run


@handler("invoice", timeout=30, retries={"NO_ORDER": 0})
@in_app
def invoice(job: Job) -> dict[str, int]:
    """A second run of the job finds the number of the first."""
    with Session(database()) as session, session.begin():
        order = session.get(Order, job.payload["order"], with_for_update=True)
        if order is None:
            raise JobError("NO_ORDER", f"there is no order {job.payload['order']}", kind="data")
        order.invoice = order.invoice or 1_000 + order.id
        return {"invoice": order.invoice}


@handler("report")
@in_app
def report(job: Job) -> dict[str, int]:
    """What it returns is the job's result."""
    with Session(database()) as session:
        return {"invoiced": session.scalar(select(func.count()).where(Order.invoice.is_not(None)))}
