"""Results and progress as the client library has them: both clients, both forms."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sickbay.client import DeadlineExceeded, JobNotSucceeded, ResultNotKept
from tests.support.client_pair import IDS, PAIRS, BlockingPair
from tests.support.clients import PATIENCE_S
from tests.support.forms import BOTH, System, running
from tests.support.waiting import until

ENV = {"JOB_HANDLERS": "reporting_handlers", "LOG_FORMAT": "json", "CONCURRENCY": "4"}


@pytest.fixture(params=BOTH)
def system(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[System]:
    """Each form in turn."""
    with running(request.param, "reporting_handlers", tmp_path, ENV) as started:
        yield started


@pytest.fixture(params=PAIRS, ids=IDS)
def client(request: pytest.FixtureRequest, system: System) -> Iterator[BlockingPair]:
    """Each client in turn."""
    job_api, plane = (f"localhost:{system.clients.grpc_ports[name]}" for name in ("Job API", "Control plane"))
    with request.param(job_api, control_plane=plane, timeout=PATIENCE_S) as pair:
        yield pair


def test_what_a_handler_returns_and_says(client: BlockingPair, system: System):
    """The result is waited for and in the job; what was not kept is said; progress comes without a change and is gone at the end."""
    for value in ({"n": 2**60}, [], False, None):
        done = client.call("submit", "returning", {"value": value})
        assert client.call("result", done.job_id, timeout=PATIENCE_S) == value
        assert client.call("get", done.job_id).result == value
    large = client.call("submit", "returning", {"value": "x" * 70_000})
    with pytest.raises(ResultNotKept, match="65,536 bytes"):
        client.call("result", large.job_id, timeout=PATIENCE_S)
    bad = client.call("submit", "mistaken", {})
    with pytest.raises(JobNotSucceeded, match="is QUARANTINED, not SUCCEEDED: VALUE_ERROR: progress: the fraction must be") as caught:
        client.call("result", bad.job_id, timeout=PATIENCE_S)
    assert caught.value.job.state == "QUARANTINED"
    telling = client.call("submit", "telling", {})
    with pytest.raises(DeadlineExceeded):
        client.call("result", telling.job_id, timeout=0.5)
    until(lambda: (progress := client.call("get", telling.job_id).progress) is not None and progress.message == "2 of 4")
    (first,) = client.some(1, "watch", telling.job_id)
    (again,) = client.some(1, "watch", telling.job_id, resume_token=first.resume_token)
    for update in (first, again):
        assert (update.change, update.job.state, update.job.progress.fraction) == (None, "RUNNING", 0.5)
        assert update.job.progress.update_time >= update.job.start_time
    system.release()
    last = client.call("watch", telling.job_id)[-1]
    assert (last.job.state, last.job.progress) == ("SUCCEEDED", None)
    assert client.call("result", telling.job_id) is None
