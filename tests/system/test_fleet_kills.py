"""A worker of a fleet is killed while its handler does more than run. A module of its own: fleets of one process share a vhost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.forms import running
from tests.system import test_cancel_runs as cancelling
from tests.system import test_follow_ups as following


@pytest.mark.servers
def test_a_worker_that_dies_after_the_request_does_not_have_the_job_run_again(tmp_path: Path):
    with running("fleet", "cancelled_handlers", tmp_path, cancelling.ENV) as system:
        job_id, number = cancelling.begun(system, "completing")
        assert cancelling.cancel(system.clients, job_id)["state"] == "RUNNING"
        assert system.fleet is not None
        system.fleet.retire(system.fleet.workers[0])
        system.fleet.launch("worker")
        system.clients.wait(job_id, "CANCELLED")
        system.fleet.ready()
        assert (tmp_path / "notes.txt").read_text().splitlines().count(f"began {number}") == 1
        assert [change["state"] for change in system.clients.job(job_id)["history"]][-1] == "CANCELLED"


@pytest.mark.servers
def test_a_worker_that_dies_between_two_of_them(tmp_path: Path):
    with running("fleet", "following_handlers", tmp_path, following.ENV) as system:
        job_id = system.clients.submit("dying")
        first = following.until_submitted(system)
        assert system.fleet is not None
        system.fleet.retire(system.fleet.workers[0])
        system.release()
        system.fleet.launch("worker")
        following.check(system.clients, job_id, first)
        system.fleet.ready()
