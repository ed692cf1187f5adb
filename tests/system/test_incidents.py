"""An outage leaves one incident with its cause, its jobs and its time to recover; a flapping dependency leaves one, too."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Final

import pytest

from tests.support.clients import Clients
from tests.support.fake_dependency import Clinic
from tests.support.fleet import Fleet
from tests.support.isolated_servers import Corner
from tests.support.system_under_test import Product
from tests.support.waiting import until
from tests.support.webhook_receiver import SECRET, Receiver, verify

ENV: Final = {"JOB_HANDLERS": "clinic_handlers", "COOLDOWN_PERIOD": "1.5", "RETRY_DELAY_MS": "300", "LOG_FORMAT": "json"}


def incidents(sickbay: Clients, job_type: str, **query: Any) -> list[dict[str, Any]]:
    answer = sickbay.plane.get("/incidents", params={"jobType": job_type, **query})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["incidents"]
    return found


def incident(sickbay: Clients, job_type: str) -> dict[str, Any]:
    """The only one of the type, with its timeline."""
    (listed,) = incidents(sickbay, job_type)
    found: dict[str, Any] = sickbay.plane.get(f"/incidents/{listed['incidentId']}").json()
    return found


def kinds(found: dict[str, Any]) -> list[str]:
    return [entry["kind"] for entry in found["timeline"]]


def introduce(sickbay: Clients, job_type: str) -> None:
    sickbay.wait(sickbay.submit(job_type), "SUCCEEDED")


def test_an_outage_is_one_incident(sickbay: Clients, clinic: Clinic):
    """It opens with its cause, counts parked jobs and failed probes, and closes with its time to recover."""
    introduce(sickbay, "incident")
    clinic.break_down("incident")
    with sickbay.watching("incident") as breaker:
        failed = sickbay.submit_all("incident", *({"number": number} for number in range(5)))
        opened = breaker.until("OPEN")
        late = sickbay.submit_all("incident", {"late": 1}, {"late": 2})
        sickbay.wait_all(late, "PARKED")
        until(lambda: incidents(sickbay, "incident", open=True) and incident(sickbay, "incident")["parkedJobs"] >= 2)
        until(lambda: len(incident(sickbay, "incident")["cause"]["jobs"]) == 5)
        found = incident(sickbay, "incident")
        assert found["open"] is True
        assert "closedAt" not in found
        cause = found["cause"]
        assert (cause["code"], cause["count"]) == ("API_TIMEOUT", 5)
        assert {job["jobId"] for job in cause["jobs"]} == set(failed)

        noted = sickbay.plane.post(f"/incidents/{found['incidentId']}/acknowledge", json={"by": "ada", "note": "calling them"})
        assert noted.status_code == 200, noted.text
        breaker.until("HALF_OPEN")
        breaker.until("OPEN")
        clinic.repair("incident")
        closed = breaker.until("CLOSED")
    sickbay.wait_all(failed + late, "SUCCEEDED")
    until(lambda: not incident(sickbay, "incident")["open"] and incident(sickbay, "incident")["releasedJobs"] >= 7)
    found = incident(sickbay, "incident")
    lasted = closed.update_time.ToMilliseconds() - opened.open_time.ToMilliseconds()
    assert round(found["recoverySeconds"] * 1000) <= lasted
    assert found["recoverySeconds"] > 1.5, "longer than the cooldown"
    assert found["wastedRuns"] >= 1, "another probe may have failed before the dependency was repaired"
    assert (found["reopenings"], found["parkedJobs"]) == (0, 7)
    assert [kind for kind in kinds(found) if kind != "ACKNOWLEDGED"] == ["OPENED", "PROBE_FAILED", "CLOSED"]
    assert found["acknowledgement"]["actor"] == "ada"
    assert incidents(sickbay, "incident", open=True) == []
    assert len(incidents(sickbay, "incident", open=False)) == 1
    assert "timeline" not in incidents(sickbay, "incident")[0]
    text = sickbay.plane.get("/metrics", headers={"Accept": "text/plain"}).text
    assert 'sickbay_incidents_total{job_type="incident"} 1.0' in text
    assert 'sickbay_incident_recovery_seconds_count{job_type="incident"} 1.0' in text


def test_a_flapping_dependency_is_one_incident_and_the_command_shows_it(sickbay: Clients, clinic: Clinic):
    introduce(sickbay, "flapping")
    for _ in range(2):
        clinic.break_down("flapping")
        with sickbay.watching("flapping") as breaker:
            ids = sickbay.submit_all("flapping", *({"number": number} for number in range(5)))
            breaker.until("OPEN")
            clinic.repair("flapping")
            breaker.until("CLOSED")
        sickbay.wait_all(ids, "SUCCEEDED")
    until(lambda: (seen := incidents(sickbay, "flapping")) and not seen[0]["open"] and seen[0]["reopenings"] >= 1)
    found = incident(sickbay, "flapping")
    assert kinds(found) == ["OPENED", "CLOSED", "REOPENED", "CLOSED"]
    command = [sys.executable, "-m", "sickbay_cli", "incidents", "show", found["incidentId"], "--json"]
    address = f"localhost:{sickbay.grpc_ports['Control plane']}"
    shown = json.loads(subprocess.run([*command, "--control-plane", address], capture_output=True, check=True, timeout=60).stdout)
    assert shown == found


def test_a_hold_is_no_incident(sickbay: Clients):
    introduce(sickbay, "maintained")
    assert sickbay.plane.post("/breakers/maintained/force-open", json={"by": "ada"}).status_code == 200
    assert sickbay.plane.post("/breakers/maintained/auto").status_code == 200
    assert incidents(sickbay, "maintained") == []
    assert sickbay.plane.get("/incidents/999999999").json()["reason"] == "INCIDENT_NOT_FOUND"


@pytest.mark.servers
def test_two_control_planes_record_one_incident_and_its_end_while_none_was_there(fleet: Fleet, corner: Corner, own_clinic: Clinic):
    """Both are killed -9 during the outage, and the breaker closes meanwhile: the next control plane sees that and closes the incident."""
    with Receiver() as receiver:
        fleet.env |= {"WEBHOOK_URL": receiver.url, "WEBHOOK_SECRET": SECRET}
        fleet.launch_all(workers=1)
        fleet.launch("controlplane")
        with Clients(fleet.ready()) as sickbay:
            introduce(sickbay, "ok")
            own_clinic.break_down("ok")
            with sickbay.watching("ok") as breaker:
                ids = sickbay.submit_all("ok", *({"number": number} for number in range(5)))
                breaker.until("OPEN")
            assert until(lambda: incidents(sickbay, "ok"))[0]["open"]
            for plane in list(fleet.services["controlplane"]):
                fleet.retire(plane)
            done = len(own_clinic.runs(what="done"))
            own_clinic.repair("ok")
            until(lambda: sickbay.submit("ok") and len(own_clinic.runs(what="done")) > done, pause_s=0.5)
        fleet.launch("controlplane", count=2)
        with Clients(fleet.ready()) as sickbay:
            sickbay.wait_all(ids, "SUCCEEDED")
            until(lambda: not incidents(sickbay, "ok")[0]["open"])
            found = incident(sickbay, "ok")
            assert (kinds(found)[0], kinds(found)[-1], found["reopenings"]) == ("OPENED", "CLOSED", 0)
            assert corner.sql("SELECT count(*) AS n FROM incidents")[0]["n"] == 1
            # A notice that a killed control plane may have been sending is due again a minute later, rather than now.
            corner.sql("UPDATE incident_notices SET due_at = 0")
            until(lambda: receiver.types == ["opened", "closed"])
        for one in receiver.received:
            verify(one)


def test_the_webhook_is_told_although_it_was_down_at_first(start: Callable[..., Product], own_clinic: Clinic):
    """Each event at least once and in order, signed, repeats with the same id, and no secret in the log."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    url = f"http://127.0.0.1:{port}/hook/T0KEN"
    product = start(own_clinic.folder, ENV | {"WEBHOOK_URL": url, "WEBHOOK_SECRET": SECRET}).ready()
    with Clients(product) as sickbay:
        introduce(sickbay, "ok")
        own_clinic.break_down("ok")
        with sickbay.watching("ok") as breaker:
            sickbay.submit_all("ok", *({"number": number} for number in range(5)))
            breaker.until("OPEN")
            assert product.logged("is not delivered, retrying in")
            own_clinic.repair("ok")
            breaker.until("CLOSED")
        refusals = iter([503])
        with Receiver(lambda _: next(refusals, 204), port=port) as receiver:
            until(lambda: receiver.types == ["opened", "closed"])
            until(lambda: not product_waits(sickbay))
        (found,) = incidents(sickbay, "ok")
    for one in receiver.received:
        verify(one)
        assert one.headers["webhook-id"] == one.event["id"]
        assert one.event["data"]["incidentId"] == found["incidentId"]
    assert len(receiver.received) >= 3, "the first answer was no success"
    assert receiver.received[0].body == receiver.received[1].body
    assert receiver.received[-1].event["data"]["recoverySeconds"] == found["recoverySeconds"]
    assert "T0KEN" not in product.err.text
    assert SECRET.removeprefix("whsec_") not in product.err.text


def product_waits(sickbay: Clients) -> bool:
    """Whether some notice has not been delivered: two are in all."""
    text = sickbay.plane.get("/metrics", headers={"Accept": "text/plain"}).text
    return 'sickbay_webhook_attempts_total{result="delivered"} 2.0' not in text
