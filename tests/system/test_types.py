"""Typed payloads from the worker's announcement to the edit in quarantine, in both forms of the product."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from sickbay.client import Client, InvalidRequest, JobState, NewJob, NotFound
from sickbay.jobs.v1.job_service_pb2 import SubmitJobRequest
from tests.support.clients import PATIENCE_S
from tests.support.forms import BOTH, System, running
from tests.support.typed_handlers import Fax, Item, Letter, Order
from tests.support.waiting import until

ENV = {"JOB_HANDLERS": "typed_handlers", "RETRY_DELAY_MS": "50", "LOG_FORMAT": "json"}
WRONG = {"to": "ann", "items": [{"name": "pen", "price": 2}, {"name": "ink", "price": "dear"}]}
MISTAKE = "payload.items[1].price: expected a number, got a string"


@pytest.fixture(params=BOTH)
def system(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[System]:
    """Each form in turn."""
    with running(request.param, "typed_handlers", tmp_path, ENV) as started:
        yield started


@pytest.fixture
def client(system: System) -> Iterator[Client]:
    ports = system.clients.grpc_ports
    with Client(f"127.0.0.1:{ports['Job API']}", control_plane=f"127.0.0.1:{ports['Control plane']}", timeout=PATIENCE_S) as made:
        until(lambda: len(list(made.types())) == 4)
        yield made


def test_typed_payloads_from_end_to_end(system: System, client: Client):
    """One system for all of it, because starting one takes longest."""
    shown(system, client)
    refused_at_the_door(system, client)
    run_with_objects(client)
    corrected_in_quarantine(system, client)


def shown(system: System, client: Client) -> None:
    found = system.clients.api.get("/types").json()["types"]
    assert [one["jobType"] for one in found] == ["fax", "letter", "order", "plain"]
    order = system.clients.api.get("/types/order").json()
    assert (order["validatedOnSubmit"], order["description"], order["workers"]) == (True, "Take an order.", 1)
    assert order["handler"] == "typed_handlers.take_order"
    assert order["schema"]["required"] == ["to"]
    assert client.type("order").schema == order["schema"]
    assert client.type("plain").schema is None
    with pytest.raises(NotFound, match="no live worker takes the job type 'nothing'"):
        client.type("nothing")
    assert system.clients.api.get("/types/nothing").json()["reason"] == "JOB_TYPE_NOT_FOUND"


def refused_at_the_door(system: System, client: Client) -> None:
    answer = system.clients.api.post("/jobs", json={"jobType": "order", "payload": WRONG})
    assert (answer.status_code, answer.json()["reason"]) == (400, "INVALID_PAYLOAD")
    assert answer.json()["message"] == f"the payload is not one of the job type 'order': {MISTAKE}"
    assert answer.json()["violations"] == [{"field": "payload.items[1].price", "message": "expected a number, got a string"}]
    with pytest.raises(grpc.RpcError) as caught:
        system.clients.jobs.SubmitJob(SubmitJobRequest(job_type="order", payload_json="{}"), timeout=PATIENCE_S)
    bad = error_details_pb2.BadRequest()
    (one,) = [detail for detail in rpc_status.from_call(caught.value).details if detail.Unpack(bad)]
    assert one
    assert [(each.field, each.description) for each in bad.field_violations] == [("payload.to", "it is missing")]
    batch = {"jobs": [{"jobType": "order", "payload": WRONG}, {"jobType": "letter", "payload": {}}]}
    refused, accepted = system.clients.api.post("/jobs:batch", json=batch).json()["results"]
    assert refused["error"]["violations"][0]["field"] == "payload.items[1].price"
    assert accepted["jobId"]  # the worker checks it
    with pytest.raises(InvalidRequest) as invalid:
        client.submit("order", WRONG, request_id="refused")
    assert invalid.value.violations == (("payload.items[1].price", "expected a number, got a string"),)
    assert not client.submit(Order(to="ann"), request_id="refused").duplicate  # the key is free again


def run_with_objects(client: Client) -> None:
    order = Order(to="ann", items=[Item(name="pen", price=2.5), Item(name="ink", price=4)])
    assert client.result(client.submit(order).job_id, timeout=PATIENCE_S) == {"to": "ann", "total": 6.5, "type": "order"}
    assert client.result(client.submit("letter", Letter("bob", 3)).job_id, timeout=PATIENCE_S) == 3
    assert client.result(client.submit("fax", Fax(40, ["a", "b"])).job_id, timeout=PATIENCE_S) == 42
    results = list(client.submit_many([NewJob(order), NewJob("plain", Letter("bob"))]))
    assert [client.result(one.job_id, timeout=PATIENCE_S) for one in results] == [{"to": "ann", "total": 6.5, "type": "order"}, 2]


def corrected_in_quarantine(system: System, client: Client) -> None:
    job_id = system.clients.submit("letter", {"to": "bob", "pages": "many"})
    system.clients.wait(job_id, "QUARANTINED")
    (error,) = system.clients.job(job_id)["errors"]
    assert (error["code"], error["message"]) == ("VALIDATION_ERROR", "$.pages: expected an integer, got a string")
    until(lambda: system.clients.plane.get(f"/quarantine/{job_id}").status_code == 200)
    wrong = {"payload": {"to": 5, "pages": 1}}
    refused = system.clients.plane.post(f"/quarantine/{job_id}/resubmit", json=wrong)
    assert (refused.status_code, refused.json()["violations"][0]["field"]) == (400, "payload.to")
    assert "set skip_validation (skipValidation, --skip-validation)" in refused.json()["message"]
    assert system.clients.plane.post(f"/quarantine/{job_id}/resubmit", json=wrong | {"skipValidation": True}).status_code == 200
    until(lambda: len(system.clients.job(job_id)["errors"]) == 2 and system.clients.job(job_id)["state"] == "QUARANTINED")
    with pytest.raises(InvalidRequest, match=r"payload\.pages: expected an integer"):
        client.quarantine.resubmit(job_id, payload={"to": "bob", "pages": None})
    client.quarantine.resubmit(job_id, payload=Letter("bob", 2))
    assert client.wait(job_id, timeout=PATIENCE_S).state is JobState.SUCCEEDED
