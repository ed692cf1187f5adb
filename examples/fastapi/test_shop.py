"""Tests in FastAPI's style: `python -m pytest`. No service is running: the app calls the product in memory."""

import asyncio
import os
import tempfile
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from sickbay.testing import System, run

os.environ.setdefault("SHOP_DATABASE_URL", f"sqlite+aiosqlite:///{tempfile.mkdtemp()}/test.sqlite3")  # before the app is imported

import handlers
import shop

pytest_plugins = ["sickbay.testing.pytest_plugin"]


@pytest.fixture
def sickbay_handlers() -> str:
    """The modules of the handlers."""
    return "handlers"


@pytest.fixture
def tables() -> None:
    """Empty ones."""

    async def create() -> None:
        async with handlers.ENGINE.begin() as connection:
            await connection.run_sync(shop.Base.metadata.drop_all)
            await connection.run_sync(shop.Base.metadata.create_all)

    asyncio.run(create())


@pytest.fixture
def web(tables: None, sickbay_system: System, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """The app with its lifespan, and so with its relay."""
    monkeypatch.setenv("SICKBAY_JOBAPI", sickbay_system.address)
    with TestClient(shop.app) as client:
        yield client


def test_an_order_is_invoiced_whole_way(web: TestClient, sickbay_system: System) -> None:
    """From the route over the outbox and the relay to the handler."""
    order = web.post("/orders", json={"name": "Ada"}).json()["order"]
    (job,) = next(jobs for jobs in iter(lambda: list(sickbay_system.client.list(job_type="invoice")), None) if jobs)
    sickbay_system.client.wait(job.job_id, timeout=30)
    assert web.get(f"/orders/{order}").json() == {"order": order, "invoice": 1_000 + order}


def test_an_order_without_a_name_has_neither_row_nor_job(web: TestClient, sickbay_system: System) -> None:
    """FastAPI rejects it."""
    assert web.post("/orders", json={}).status_code == 422
    assert list(sickbay_system.client.list()) == []


def test_an_order_that_does_not_exist_is_for_a_person(web: TestClient) -> None:
    """No repeat helps, and no breaker counts it."""
    ended = run(handlers.invoice, {"order": 0})
    assert (ended.code, ended.will_be_quarantined, ended.breaker_counts) == ("NO_ORDER", True, False)


def test_a_report_whole_way(web: TestClient, sickbay_system: System) -> None:
    """Submitted by one route, and followed by another."""
    job_id = web.post("/reports", json={}).json()["job"]
    sickbay_system.drain()
    shown = web.get(f"/jobs/{job_id}").json()
    assert (shown["state"], shown["result"].keys()) == ("SUCCEEDED", {"invoiced"})
    assert web.get("/jobs/nothing").status_code == 404
