"""What handlers' modules make at the start of a worker is there before its first job, and is ended after its last one; in both forms."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.fleet import Service
from tests.support.forms import BOTH, running
from tests.support.system_under_test import Product

ENV = {"JOB_HANDLERS": "lifespan_handlers", "LOG_FORMAT": "json", "CONCURRENCY": "10"}


@pytest.mark.parametrize("form", BOTH)
def test_a_worker_makes_it_once_and_ends_it_last(form: str, tmp_path: Path):
    with running(form, "lifespan_handlers", tmp_path, ENV) as system:
        notes = tmp_path / "notes.txt"
        assert notes.read_text().splitlines() == ["folder opened in eu", "client opened"], "before the first job"
        sickbay = system.clients
        jobs = sickbay.submit_all("sending", *({"n": number} for number in range(20)))
        sickbay.wait_all(jobs, "SUCCEEDED")
        results = [sickbay.job(one)["result"] for one in jobs]
        assert {result["region"] for result in results} == {"eu"}
        assert len({result["pid"] for result in results}) == 1
        plain = sickbay.submit("writing")
        sickbay.wait(plain, "SUCCEEDED")
        assert sickbay.job(plain)["result"] == str(tmp_path)
        slow = sickbay.submit("slow")
        system.wait_for_note("waiting")
        system.worker.terminate()
        assert system.worker.logged("stopping: running jobs may finish")
        system.release()
        assert system.worker.wait() == 0
        last = notes.read_text().splitlines()
        assert last == ["folder opened in eu", "client opened", "waiting", "flushed True", "client closed", "folder closed"]
        assert "ConnectionRefusedError" not in system.worker.err.text
        del slow


@pytest.mark.parametrize("module", ["up", "worker"])
def test_a_worker_does_not_start_without_it(module: str, tmp_path: Path):
    """It says why, takes no job, and ends."""
    source = Path(__file__).parent.parent / "support" / "lifespan_handlers.py"
    (tmp_path / source.name).write_text(source.read_text())
    env = ENV | {"TEST_FAILS": "1", "RABBITMQ_URL": "amqp://127.0.0.1:1", "REDIS_URL": "redis://127.0.0.1:1"}
    if module == "up":
        del env["RABBITMQ_URL"], env["REDIS_URL"]
    process = Product(tmp_path, env) if module == "up" else Service("worker", tmp_path, env)
    assert process.wait() == 1
    said = process.err.text
    assert "JOB_HANDLERS: a lifespan of module 'lifespan_handlers' failed at the start: ConnectionRefusedError: no database" in said
    assert "Traceback" not in said
