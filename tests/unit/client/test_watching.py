"""Watching and waiting: broken streams are resumed, deadlines hold."""

from __future__ import annotations

import itertools
import threading

import pytest

from sickbay.client import (
    DeadlineExceeded,
    NotFound,
    ServerFault,
    Unavailable,
)
from tests.support.cli_services import BUSY, JOB_ID, NOT_FOUND
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
        with pytest.raises(DeadlineExceeded, match=r"the watch did not end within 0.3 s"):
            client.call("wait", JOB_ID, timeout=0.3)
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
