"""What a webhook is told: a CloudEvent, with a sentence that can do no harm in a chat."""

import json
from dataclasses import replace

import pytest

from sickbay.domain.breaker import BreakerKey
from sickbay.domain.incident import Change, FailedJob, JobCounts, advance
from sickbay.domain.incident_notice import notice_id, render_notice, sentence
from tests.support.incident_snapshots import Patient


def incident(**fields):
    opened = advance(None, Patient().trip())
    return replace(opened, **({"number": 12} | fields))


def test_an_opening():
    found = incident(cause=replace(incident().cause, jobs=(FailedJob("j-1"),)), key=BreakerKey("email", "acme"))
    event = json.loads(render_notice(found, Change.OPENED))
    assert event == {
        "specversion": "1.0",
        "id": notice_id(found, Change.OPENED),
        "source": "/sickbay",
        "type": "sickbay.incident.opened",
        "subject": "acme/email",
        "time": event["data"]["openedAt"],
        "datacontenttype": "application/json",
        "text": "Sickbay incident 12: acme/email has opened after 3 x API_TIMEOUT: no answer in 30 s",
        "data": {
            "incidentId": "12",
            "jobType": "email",
            "tenant": "acme",
            "open": True,
            "openedAt": event["time"],
            "cause": {"code": "API_TIMEOUT", "message": "no answer in 30 s", "count": 3, "jobIds": ["j-1"]},
            "reopenings": 0,
            "wastedRuns": 0,
            "jobs": {"parked": 0, "released": 0, "quarantined": 0},
        },
    }
    assert event["time"].endswith("Z")


@pytest.mark.parametrize(("lasted", "words"), [(1_500, "1.5 s"), (90_000, "2 min"), (9_000_000, "2.5 h")])
def test_a_closing(lasted, words):
    opened = incident(jobs=JobCounts(parked=1_234))
    closed = replace(opened, closed_at=opened.opened_at + lasted)
    event = json.loads(render_notice(closed, Change.CLOSED))
    assert event["text"] == f"Sickbay incident 12: email is well again after {words}, 1,234 jobs were parked"
    assert event["data"]["recoverySeconds"] == lasted / 1000


def test_a_message_cannot_address_a_channel():
    hostile = incident(cause=replace(incident().cause, message="<!channel> & \ud800"))
    text = json.loads(render_notice(hostile, Change.OPENED))["text"]
    assert text.endswith("&lt;!channel&gt; &amp; ?")


def test_every_opening_and_closing_has_an_id_of_its_own():
    opened = incident()
    again = replace(opened, reopenings=1)
    ids = [notice_id(one, change) for one in (opened, again) for change in Change]
    assert len(set(ids)) == 6
    assert sentence(again, Change.REOPENED).startswith("Sickbay incident 12: email has opened again after")
