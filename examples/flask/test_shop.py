"""Tests in Flask's style: `python -m pytest`. No service is running."""

import json
from typing import Any

import handlers
from shop import Order
from sqlalchemy import text
from sqlalchemy.orm import Session

from sickbay.testing import System, run


def test_an_order_has_a_job(web: Any, session: Session) -> None:
    """Both are of one transaction."""
    answer = web.post("/orders", json={"name": "Ada"})
    assert answer.status_code == 201
    (row,) = session.execute(text("SELECT job_type, payload FROM sickbay_outbox"))
    assert (row.job_type, json.loads(row.payload)) == ("invoice", answer.json)


def test_an_order_is_invoiced_once(session: Session) -> None:
    """At least once: a second run changes nothing."""
    session.add(Order(id=7, name="Ada"))
    session.commit()
    for attempt in (1, 2):
        assert run(handlers.invoice, {"order": 7}, attempt=attempt).result == {"invoice": 1_007}


def test_an_order_that_does_not_exist_is_for_a_person(session: Session) -> None:
    """No repeat helps, and no breaker counts it."""
    ended = run(handlers.invoice, {"order": 0})
    assert (ended.code, ended.will_be_quarantined, ended.breaker_counts) == ("NO_ORDER", True, False)


def test_a_report_whole_way(web: Any, sickbay_system: System) -> None:
    """Submitted by one view, and followed by another."""
    job_id = web.post("/reports", json={}).json["job"]
    sickbay_system.drain()
    assert web.get(f"/jobs/{job_id}").json == {"state": "SUCCEEDED", "result": {"invoiced": 0}}
    assert web.get("/jobs/nothing").status_code == 404
