"""The client library against the running product: both clients do the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sickbay.client import Conflict, FailedPrecondition, InvalidRequest, JobState, NewJob, NotFound, Priority
from tests.support.client_pair import IDS, PAIRS, BlockingPair
from tests.support.clients import PATIENCE_S, HasPorts
from tests.support.fake_dependency import Clinic


@pytest.fixture(params=PAIRS, ids=IDS)
def client(request, shared_product: HasPorts) -> Iterator[BlockingPair]:
    job_api, plane = (f"127.0.0.1:{shared_product.ports[name][1]}" for name in ("Job API", "Control plane"))
    with request.param(job_api, control_plane=plane, timeout=PATIENCE_S) as pair:
        yield pair


def test_a_job_from_submit_to_its_end(client: BlockingPair):
    done = client.call("submit", "ok", {"do": "ok", "n": 2**60}, tenant="acme", priority=Priority.HIGH)
    assert (done.duplicate, done.breaker, done.job.tenant, done.job.priority) == (False, None, "acme", Priority.HIGH)
    assert client.call("wait", done.job_id, timeout=PATIENCE_S).state is JobState.SUCCEEDED
    job = client.call("get", done.job_id)
    assert [change.state for change in job.history] == ["QUEUED", "RUNNING", "SUCCEEDED"]
    assert job.submit_time <= job.start_time <= job.update_time
    explained = client.call("explain", done.job_id)
    assert (explained.reason, explained.next_step, explained.breaker) == ("SUCCEEDED", "NONE", None)
    seen = client.call("watch", done.job_id)
    assert [update.job.state for update in seen] == [JobState.SUCCEEDED]
    assert client.call("watch", done.job_id, resume_token=seen[-1].resume_token) == []


def test_a_repeat_is_the_same_job(client: BlockingPair, request: pytest.FixtureRequest):
    key = f"client-{request.node.name}"
    first = client.call("submit", "ok", {"n": 1}, request_id=key)
    again = client.call("submit", "ok", '{"n":1}', request_id=key)
    assert (again.job_id, again.duplicate, again.request_id) == (first.job_id, True, key)
    with pytest.raises(Conflict) as caught:
        client.call("submit", "ok", {"n": 2}, request_id=key)
    assert caught.value.reason == "IDEMPOTENCY_KEY_REUSED"


def test_errors(client: BlockingPair):
    with pytest.raises(NotFound) as unknown:
        client.call("get", "no-such-job")
    assert (unknown.value.reason, unknown.value.code) == ("JOB_NOT_FOUND", "NOT_FOUND")
    with pytest.raises(InvalidRequest) as invalid:
        client.call("submit", "No Type", {})
    assert invalid.value.reason == "INVALID_JOB_TYPE"
    with pytest.raises(InvalidRequest, match="not valid JSON"):
        client.call("submit", "ok", "no JSON")
    done = client.call("submit", "ok", {})
    client.call("wait", done.job_id, timeout=PATIENCE_S)
    with pytest.raises(FailedPrecondition) as late:
        client.call("cancel", done.job_id)
    assert late.value.reason == "WRONG_STATE"


def test_many_jobs(client: BlockingPair, request: pytest.FixtureRequest):
    """More than one call has, also one that is refused; listed again page by page."""
    tenant = f"many-{request.node.callspec.id.lower()}"
    jobs = [NewJob("ok", {"n": number}, tenant) for number in range(1_200)]
    jobs[3] = NewJob("No Type", {}, tenant)
    results = client.call("submit_many", iter(jobs))
    assert [result.job.payload for result in results] == [job.payload for job in jobs]
    assert [number for number, result in enumerate(results) if not result.accepted] == [3]
    assert results[3].error.reason == "INVALID_JOB_TYPE"
    ids = {result.job_id for result in results if result.accepted}
    client.call("wait", results[-1].job_id, timeout=PATIENCE_S)
    assert len(ids) == 1_199
    again = client.call("submit_many", [result.job for result in results if result.accepted])
    assert {result.job_id for result in again} == ids
    assert all(result.duplicate for result in again)
    found = client.call("list", tenant=tenant, page_size=500, limit=1_100)
    assert len({job.job_id for job in found} & ids) == 1_100


def test_quarantine(client: BlockingPair):
    done = client.call("submit", "bad", {"do": "VALIDATION_ERROR"})
    assert client.call("wait", done.job_id, timeout=PATIENCE_S).state is JobState.QUARANTINED
    found = client.call("quarantine.get", done.job_id)
    assert (found.payload, found.reason, found.job.errors[0].code) == (
        {"do": "VALIDATION_ERROR"},
        "RETRIES_EXHAUSTED",
        "VALIDATION_ERROR",
    )
    assert done.job_id in {one.job_id for one in client.call("quarantine.list", job_type="bad", state="QUARANTINED")}
    assert found.fingerprint in {group.fingerprint for group in client.call("quarantine.groups", job_type="bad")}
    with pytest.raises(Conflict) as stale:
        client.call("quarantine.resubmit", done.job_id, etag="old")
    assert stale.value.reason == "ETAG_MISMATCH"
    job = client.call("quarantine.resubmit", done.job_id, payload={"do": "ok"}, etag=found.etag, actor="ada")
    assert (job.state, job.generation) == (JobState.QUEUED, 1)
    assert client.call("wait", done.job_id, timeout=PATIENCE_S).state is JobState.SUCCEEDED
    other = client.call("submit", "bad", {"do": "VALIDATION_ERROR"})
    client.call("wait", other.job_id, timeout=PATIENCE_S)
    assert client.call("quarantine.discard", other.job_id, actor="ada").state is JobState.DISCARDED


def test_breakers(client: BlockingPair, clinic: Clinic, request: pytest.FixtureRequest):
    """A type of its own for each client: breakers remember."""
    job_type = {"Client": "client-held", "AsyncClient": "async-client-held"}[request.node.callspec.id]
    held = client.call("breakers.force_open", job_type, duration_s=600, actor="ada", why="maintenance")
    assert (held.state, held.forced_by, held.forced_why) == ("FORCED_OPEN", "ada", "maintenance")
    assert held.forced_until_time > held.update_time
    try:
        assert job_type in {one.job_type for one in client.call("breakers.list", page_size=2)}
        (seen,) = client.some(1, "breakers.watch", job_type)
        assert seen.state == "FORCED_OPEN"
        explained = client.call("breakers.explain", job_type)
        assert (explained.reason, explained.next_step) == ("FORCED_OPEN", "HOLD_ENDS")
        done = client.call("submit", job_type, {})
        assert done.breaker.state == "FORCED_OPEN"
        assert {update.job.state for update in client.some(1, "watch", done.job_id)} <= {"QUEUED", "PARKED"}
        assert client.call("cancel", done.job_id).state is JobState.CANCELLED
        assert client.call("breakers.disable", job_type).state == "DISABLED"
        assert client.call("breakers.metrics_only", job_type).state == "METRICS_ONLY"
        with pytest.raises(FailedPrecondition):
            client.call("breakers.probe", job_type)
        assert client.call("breakers.auto", job_type).state == "CLOSED"
    finally:
        assert client.call("breakers.reset", job_type).state == "CLOSED"
    assert client.call("breakers.get", job_type).forced_by == ""
