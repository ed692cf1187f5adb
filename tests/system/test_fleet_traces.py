"""Traces where not everybody makes spans: foreign programs begin them, and services without traces hand them on."""

from __future__ import annotations

import pytest

from tests.support.clients import Clients
from tests.support.fleet import Fleet
from tests.support.isolated_servers import Corner
from tests.support.otlp_sink import Receiver
from tests.support.tracing_env import PLANE, WORKER, Caller
from tests.support.waiting import until
from tests.system.test_fleet_parts import publish

pytestmark = pytest.mark.servers


def test_the_trace_of_a_foreign_program_goes_on(fleet: Fleet, corner: Corner):
    """Its message needs nothing but W3C's header: the runs are children of its span, and the second links to the first."""
    caller = Caller.new()
    with Receiver() as receiver:
        fleet.launch_all(workers=1, **receiver.env).ready()
        publish(corner.rabbitmq, b'{"jobType": "ok", "payload": {"do": ["NETWORK_ERROR", "ok"]}}', headers=caller.headers)
        first, second = receiver.wait(2, trace=caller.trace, name="process jobs.main")
        fleet.stop()
    assert [run.parent for run in (first, second)] == [caller.id, caller.id]
    assert (first.service, second.links) == (WORKER, (first.here,))


def test_services_without_traces_hand_them_on(fleet: Fleet, corner: Corner):
    """A worker without them retries and quarantines the job; when it leaves, the control plane goes on in the trace that it began with."""
    caller = Caller.new()
    with Receiver() as receiver:
        fleet.launch("controlplane", **receiver.env)
        fleet.launch("jobapi")
        fleet.launch("worker", **{"OTEL_SDK_DISABLED": "true"} | dict(receiver.env))
        fleet.ready()
        publish(corner.rabbitmq, b'{"jobType": "bad", "payload": {"do": "VALIDATION_ERROR"}}', headers=caller.headers)
        with Clients(fleet) as sickbay:
            until(lambda: sickbay.plane.get("/quarantine").json()["count"] == 1)
            (case,) = sickbay.plane.get("/quarantine").json()["jobs"]
            assert case["attempt"] == 3
            sickbay.plane.post(f"/quarantine/{case['jobId']}/resubmit", json={"payload": {"do": "ok"}})
            sickbay.wait(case["jobId"], "SUCCEEDED")
        (sent,) = receiver.wait(trace=caller.trace)
        fleet.stop()
    assert (sent.name, sent.service, sent.parent) == ("send jobs.low", PLANE, caller.id)
    assert {span.service for span in receiver.spans} == {PLANE}
