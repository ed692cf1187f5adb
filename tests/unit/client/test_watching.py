"""Watching and waiting: broken streams are resumed, deadlines hold."""

from __future__ import annotations

import itertools
import threading

import pytest

from sickbay.client import (
    DeadlineExceeded,
    JobNotSucceeded,
    NoResult,
    NotFound,
    ResultNotKept,
    ServerFault,
    Unavailable,
)
from sickbay.jobs.v1.job_pb2 import Progress
from tests.support.cli_services import BUSY, JOB_ID, NOT_FOUND, failed
from tests.support.client_answers import AWAY, one_by_one, update


def test_a_broken_watch_is_resumed_where_it_broke(client, fleet, sleeps):
    fleet.answers["WatchJob"] = one_by_one(
        [update("QUEUED", "1"), AWAY], [AWAY], [update("RUNNING", "2"), BUSY], [update("SUCCEEDED", "3")]
    )
    seen = client.call("watch", JOB_ID, resume_token="0")
    assert [(one.job.state, one.resume_token) for one in seen] == [("QUEUED", "1"), ("RUNNING", "2"), ("SUCCEEDED", "3")]
    assert [request.resume_token for request in fleet.requests] == ["0", "1", "1", "2"]
    assert len(sleeps.slept) == 3


def test_a_watch_is_not_resumed_for_ever(client, fleet, sleeps):
    """Not for longer than the caller wants, counted from the last message."""
    fleet.answers["WatchJob"] = one_by_one([update("QUEUED", "1"), BUSY], *itertools.repeat([BUSY], 99))
    with pytest.raises(Unavailable, match="the broker does not answer"):
        client.call("watch", JOB_ID, reconnect_for=20.0)
    assert 12.0 < sum(sleeps.slept) < 20.0
    fleet.answers["WatchJob"] = one_by_one([NOT_FOUND])
    with pytest.raises(NotFound):
        client.call("watch", JOB_ID)


def test_a_watch_has_a_deadline_if_the_caller_wants_one(kind, fleet):
    released = threading.Event()

    def answer(_request):
        yield update("PARKED", "1")
        released.wait(60)

    fleet.answers["WatchJob"] = answer
    with kind(fleet.address) as client:
        with pytest.raises(DeadlineExceeded, match=rf"job {JOB_ID} has not ended within 0.3 s; it is PARKED"):
            client.call("wait", JOB_ID, timeout=0.3)
        with pytest.raises(DeadlineExceeded, match=r"the watch did not end within 0.3 s"):
            client.call("watch", JOB_ID, timeout=0.3)
        released.set()


@pytest.mark.parametrize(
    ("states", "options", "ended"),
    [
        (["QUEUED", "PARKED", "SUCCEEDED"], {}, "SUCCEEDED"),
        (["RUNNING", "CANCELLED"], {}, "CANCELLED"),
        (["RUNNING", "QUARANTINED", "SUCCEEDED"], {}, "QUARANTINED"),
        (["RUNNING", "QUARANTINED", "SUCCEEDED"], {"even_if_quarantined": True}, "SUCCEEDED"),
    ],
)
def test_waiting_for_the_end(client, fleet, states, options, ended):
    fleet.answers["WatchJob"] = [update(state, str(number)) for number, state in enumerate(states)]
    assert client.call("wait", JOB_ID, **options).state == ended


def test_a_watch_that_ends_before_the_job(client, fleet):
    fleet.answers["WatchJob"] = [update("QUEUED", "1")]
    with pytest.raises(ServerFault, match="before the job had ended"):
        client.call("wait", JOB_ID)


def test_progress_comes_without_a_change(client, fleet):
    """Waiting is not disturbed by it."""
    halfway = update("RUNNING", "1", progress=Progress(fraction=0.5, message="2 of 4"))
    fleet.answers["WatchJob"] = [update("RUNNING", "1"), halfway, update("SUCCEEDED", "2", result_json="[4]")]
    seen = client.call("watch", JOB_ID)
    assert [(one.change, one.job.progress and one.job.progress.message) for one in seen] == [(None, None), (None, "2 of 4"), (None, None)]
    assert client.call("wait", JOB_ID).result == [4]


@pytest.mark.parametrize(("text", "value"), [('{"n": [1, null]}', {"n": [1, None]}), ("false", False), ("", None)])
def test_waiting_for_the_result(client, fleet, text, value):
    fleet.answers["WatchJob"] = [update("QUEUED", "1"), update("SUCCEEDED", "2", result_json=text)]
    assert client.call("result", JOB_ID) == value


def test_a_result_that_was_not_kept(client, fleet):
    fleet.answers["WatchJob"] = [update("SUCCEEDED", "1", result_note="the result has 81,234 bytes of JSON; at most 65,536 are kept")]
    with pytest.raises(ResultNotKept, match=r"^the result has 81,234 bytes of JSON; at most 65,536 are kept$") as caught:
        client.call("result", JOB_ID)
    assert (caught.value.job.state, caught.value.reason) == ("SUCCEEDED", "")


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("CANCELLED", f"job {JOB_ID} is CANCELLED, not SUCCEEDED"),
        ("DISCARDED", f"job {JOB_ID} is DISCARDED, not SUCCEEDED"),
        ("QUARANTINED", f"job {JOB_ID} is QUARANTINED, not SUCCEEDED: VALIDATION_ERROR: no address"),
    ],
)
def test_a_job_that_ends_without_success_has_no_result(client, fleet, state, message):
    errors = [failed("API_TIMEOUT", "slow"), failed("VALIDATION_ERROR", "no address")]
    fleet.answers["WatchJob"] = [update("RUNNING", "1"), update(state, "2", errors=errors)]
    with pytest.raises(JobNotSucceeded) as caught:
        client.call("result", JOB_ID)
    assert isinstance(caught.value, NoResult)
    assert (str(caught.value), caught.value.job.state, len(caught.value.job.errors)) == (message, state, 2)


def test_waiting_for_a_result_out_of_quarantine(client, fleet):
    fleet.answers["WatchJob"] = [update("QUARANTINED", "1"), update("SUCCEEDED", "2", result_json="1")]
    assert client.call("result", JOB_ID, even_if_quarantined=True) == 1
