"""One trace from the client's call to the job's end, whatever happens between, as a receiver of OTLP sees it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sickbay.domain.lane import Lane
from sickbay.jobs.v1.job_service_pb2 import BatchSubmitJobsRequest, SubmitJobRequest
from tests.support.clients import Clients
from tests.support.otlp_sink import Receiver, Span
from tests.support.tls_servers import Authority
from tests.support.tracing_env import API, ENV, PLANE, WORKER, Caller, Scene, traced_clinic
from tests.system.conftest import Start

pytest_plugins = ["tests.support.tracing_fixtures"]
SENDS = {f"{verb} jobs.{lane.value}" for verb in ("send", "create") for lane in Lane}


def submit_over_grpc(clients: Clients, caller: Caller, job_type: str, **payload) -> str:
    request = SubmitJobRequest(job_type=job_type, payload_json=json.dumps(payload))
    return str(clients.jobs.SubmitJob(request, metadata=tuple(caller.headers.items())).job.job_id)


def submit_over_rest(clients: Clients, caller: Caller, job_type: str, **payload) -> str:
    answer = clients.api.post("/jobs", json={"jobType": job_type, "payload": payload}, headers=caller.headers)
    return str(answer.json()["jobId"])


def one(spans: list[Span], **wanted) -> Span:
    (found,) = [span for span in spans if all(getattr(span, name) == value for name, value in wanted.items())]
    return found


def test_one_trace_from_the_clients_call_over_a_retry_to_the_success(scene: Scene):
    """The client's trace goes on in all services; the second run is a sibling of the first and links to it."""
    caller = Caller.new()
    job_id = submit_over_grpc(scene.clients, caller, "traced", do=["NETWORK_ERROR", "ok"])
    scene.clients.wait(job_id, "SUCCEEDED")
    first, second = scene.receiver.wait(2, job__id=job_id, name="process jobs.main")
    scene.receiver.wait(trace=caller.trace, name="call the dependency", parent=second.id)
    spans = scene.receiver.wait(7, trace=caller.trace)
    call = one(spans, name="sickbay.jobs.v1.JobService/SubmitJob")
    sent = one(spans, name="send jobs.main")
    again = one(spans, name="send jobs.retry")
    assert [span.parent for span in (call, sent, first, second, again)] == [caller.id, call.id, sent.id, sent.id, first.id]
    assert (first.links, second.links) == ((), (first.here,))
    assert [span.service for span in (call, sent, first, second, again)] == [API, API, WORKER, WORKER, WORKER]
    assert [span.kind for span in (call, sent, first, again)] == ["SERVER", "PRODUCER", "CONSUMER", "PRODUCER"]
    assert [span.parent for span in spans if span.name == "call the dependency"] == [first.id, second.id]
    assert (first.error, second.error) == ("NETWORK_ERROR", None)
    assert {span.state for span in spans} == {"acme=1"}, "other vendors' part is handed on, ours is not shown to handlers"


def test_a_trace_goes_on_over_rest(scene: Scene):
    """The request is a span of its own around the call it makes."""
    caller = Caller.new()
    job_id = submit_over_rest(scene.clients, caller, "traced")
    scene.clients.wait(job_id, "SUCCEEDED")
    (run,) = scene.receiver.wait(job__id=job_id, name="process jobs.main")
    spans = scene.receiver.wait(5, trace=caller.trace)
    request, call, sent = (one(spans, name=name) for name in ("POST /jobs", "sickbay.jobs.v1.JobService/SubmitJob", "send jobs.main"))
    assert [span.parent for span in (request, call, sent, run)] == [caller.id, request.id, call.id, sent.id]
    assert (request.service, request.kind, request.facts["http.response.status_code"]) == (API, "SERVER", 202)


def test_spans_say_what_the_conventions_ask_for(scene: Scene):
    """OpenTelemetry's attributes for messaging and gRPC, and ours."""
    caller = Caller.new()
    job_id = submit_over_grpc(scene.clients, caller, "traced", do=["NETWORK_ERROR", "ok"])
    scene.clients.wait(job_id, "SUCCEEDED")
    first, _ = scene.receiver.wait(2, job__id=job_id, name="process jobs.main")
    spans = scene.receiver.wait(7, trace=caller.trace)
    sent, again = one(spans, name="send jobs.main"), one(spans, name="send jobs.retry")
    job = {"sickbay.job.id": job_id, "sickbay.job.type": "traced", "sickbay.job.tenant": "default", "sickbay.job.generation": 0}
    assert first.facts == job | {
        "messaging.system": scene.system,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "jobs.main",
        "messaging.message.id": sent.facts["messaging.message.id"],
        "sickbay.job.attempt": 0,
        "sickbay.run.probe": False,
        "sickbay.run.outcome": "transient",
        "error.type": "NETWORK_ERROR",
    }
    assert again.facts == job | {
        "messaging.system": scene.system,
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": "jobs.retry",
        "messaging.message.id": again.facts["messaging.message.id"],
        "sickbay.job.attempt": 1,
    }
    assert one(spans, kind="SERVER").facts == {
        "rpc.system.name": "grpc",
        "rpc.method": "sickbay.jobs.v1.JobService/SubmitJob",
        "rpc.response.status_code": "OK",
    }


def test_a_sync_handlers_spans_and_log_lines_belong_to_its_run(scene: Scene):
    """The context goes into the handler's thread."""
    job_id = scene.clients.submit("traced-sync")
    scene.clients.wait(job_id, "SUCCEEDED")
    (run,) = scene.receiver.wait(job__id=job_id, name="process jobs.main")
    (child,) = scene.receiver.wait(trace=run.trace, name="call the dependency")
    assert child.parent == run.id
    lines = [json.loads(line) for worker in scene.workers for line in worker.err.text.splitlines() if job_id in line]
    (line,) = [line for line in lines if line["logger"] == "my_handlers"]
    assert (line["trace_id"], line["span_id"]) == child.here


def test_parked_jobs_go_on_in_their_traces_when_they_are_released(scene: Scene):
    """A job that never ran is parked in its own trace; the probe and the others come back in theirs, linked to what released them."""
    clients, receiver = scene.clients, scene.receiver
    clients.wait(clients.submit("traced-outage"), "SUCCEEDED")
    scene.clinic.break_down("traced-outage")
    with clients.watching("traced-outage") as breaker:
        failed = clients.submit_all("traced-outage", *({} for _ in range(5)))
        breaker.until("OPEN")
        late = Caller.new()
        job_id = submit_over_grpc(clients, late, "traced-outage")
        clients.wait(job_id, "PARKED")
        scene.clinic.repair("traced-outage")
        breaker.until("CLOSED")
    clients.wait_all([*failed, job_id], "SUCCEEDED")

    (run,) = receiver.wait(job__id=job_id, name="process jobs.main")
    (parked,) = receiver.wait(job__id=job_id, name="park jobs.main")
    first, second = _sends(receiver, job_id)
    assert {span.trace for span in (run, parked, first, second)} == {late.trace}
    assert (parked.parent, run.parent, second.parent) == (first.id, first.id, first.id)
    assert (parked.facts["messaging.operation.type"], parked.facts["sickbay.job.reason"]) == ("settle", "CIRCUIT_OPEN")
    assert (run.facts["sickbay.job.generation"], second.service) == (1, PLANE)
    assert run.links == (second.here,)
    ((release_trace, release_id),) = second.links
    (release,) = receiver.wait(trace=release_trace, id=release_id)
    assert (release.name, release.service, release.facts["sickbay.release.by"]) == ("release", PLANE, "healer")
    assert release.trace != late.trace

    probes = receiver.wait(run__probe=True, job__type="traced-outage")
    assert all(probe.trace in {span.trace for span in receiver.wait(job__id=probe.facts["sickbay.job.id"])} for probe in probes)
    assert probes[-1].facts["sickbay.run.outcome"] == "success"
    ran = [span for span in receiver.spans if span.facts.get("sickbay.job.id") == failed[0] and span.name not in SENDS]
    assert len({span.trace for span in ran}) == 1


def _sends(receiver: Receiver, job_id: str) -> list[Span]:
    """What carried the job to its queue: the submission and the release, alone or in a batch."""
    return receiver.wait_for(lambda span: span.facts.get("sickbay.job.id") == job_id and span.name in SENDS, 2)


def test_a_resubmitted_job_goes_on_in_its_trace_linked_to_the_persons_call(scene: Scene):
    """The admin's call is a trace of its own; the job's has a span for the quarantine and one for the release, which links there."""
    clients, receiver = scene.clients, scene.receiver
    submitter, admin = Caller.new(), Caller.new()
    job_id = submit_over_rest(clients, submitter, "traced-edit", do="VALIDATION_ERROR")
    clients.wait(job_id, "QUARANTINED")
    answer = clients.plane.post(f"/quarantine/{job_id}/resubmit", json={"payload": {"do": "ok"}}, headers=admin.headers)
    assert answer.status_code == 200, answer.text
    clients.wait(job_id, "SUCCEEDED")
    *before, last = receiver.wait(5, job__id=job_id, name="process jobs.main")
    (quarantined,) = receiver.wait(job__id=job_id, name="quarantine jobs.main")
    first, second = _sends(receiver, job_id)
    (release,) = receiver.wait(trace=admin.trace, name="release")
    (call,) = receiver.wait(trace=admin.trace, name="sickbay.jobs.v1.QuarantineService/ResubmitJob")
    assert {span.trace for span in (*before, quarantined, second, last)} == {submitter.trace}
    assert {span.parent for span in (*before, second, last)} == {first.id}
    assert [run.links for run in (*before, last)] == [(), *((run.here,) for run in before[:-1]), (second.here,)]
    assert (quarantined.parent, quarantined.facts["sickbay.job.error_code"]) == (before[-1].id, "VALIDATION_ERROR")
    (request,) = receiver.wait(trace=admin.trace, parent=admin.id)
    assert (call.parent, release.parent, second.links) == (request.id, call.id, (release.here,))
    assert (release.facts["sickbay.release.by"], release.service) == ("people", PLANE)


def test_a_job_that_runs_later_goes_on_in_its_trace_linked_to_what_sent_it(scene: Scene):
    """Also after a person has changed its time, in a trace of their own."""
    clients, receiver, submitter, admin = scene.clients, scene.receiver, Caller.new(), Caller.new()
    answer = clients.api.post("/jobs", json={"jobType": "traced", "payload": {}, "delaySeconds": 3_600}, headers=submitter.headers)
    job_id = str(answer.json()["jobId"])
    clients.wait(job_id, "SCHEDULED")
    assert clients.plane.patch(f"/scheduled-jobs/{job_id}", json={"delaySeconds": 0}, headers=admin.headers).status_code == 200
    clients.wait(job_id, "SUCCEEDED")
    (run,) = receiver.wait(job__id=job_id, name="process jobs.main")
    (call,) = receiver.wait(trace=submitter.trace, name="sickbay.jobs.v1.JobService/SubmitJob")
    (sent,) = receiver.wait(job__id=job_id, name="send jobs.main")
    ((release_trace, release_id),) = sent.links
    (release,) = receiver.wait(trace=release_trace, id=release_id)
    assert (sent.trace, run.trace) == (submitter.trace, submitter.trace)
    assert (sent.parent, sent.service, run.parent, run.links) == (call.id, PLANE, call.id, (sent.here,))
    assert (release.name, release.facts["sickbay.release.by"]) == ("release", "scheduler")
    assert release.trace not in {submitter.trace, admin.trace}


def test_a_follow_up_that_runs_later_is_a_child_of_the_run_that_submitted_it(scene: Scene):
    caller = Caller.new()
    submit_over_grpc(scene.clients, caller, "traced-follow-up")
    first, second = scene.receiver.wait(2, trace=caller.trace, name="process jobs.main")
    assert (first.facts["sickbay.job.type"], second.facts["sickbay.job.type"]) == ("traced-follow-up", "traced")
    assert (second.parent, second.facts["sickbay.job.generation"]) == (first.id, 1)


def test_each_job_of_a_batch_has_a_span_of_its_own_that_made_it(scene: Scene):
    """So that its runs are told apart; the one publish links to all of them."""
    caller = Caller.new()
    requests = [SubmitJobRequest(job_type="traced", payload_json="{}") for _ in range(3)]
    reply = scene.clients.jobs.BatchSubmitJobs(BatchSubmitJobsRequest(requests=requests), metadata=tuple(caller.headers.items()))
    ids = [result.job_id for result in reply.results]
    scene.clients.wait_all(ids, "SUCCEEDED")
    runs = scene.receiver.wait(3, trace=caller.trace, name="process jobs.main")
    created = scene.receiver.wait(3, trace=caller.trace, name="create jobs.main")
    (sent,) = scene.receiver.wait(trace=caller.trace, name="send jobs.main")
    assert sorted(sent.links) == sorted(span.here for span in created)
    assert (sent.kind, sent.facts["messaging.batch.message_count"]) == ("CLIENT", 3)
    made = {span.id: span.facts["sickbay.job.id"] for span in created}
    assert sorted(made.values()) == sorted(ids)
    assert [made[run.parent] for run in runs] == [run.facts["sickbay.job.id"] for run in runs]


def test_refused_calls_are_told_by_their_code_and_are_no_errors_of_ours(scene: Scene):
    """As OpenTelemetry's conventions for gRPC have it."""
    caller = Caller.new()
    assert scene.clients.api.post("/jobs", json={"jobType": "NO NAME", "payload": {}}, headers=caller.headers).status_code == 400
    call, request = (
        one(scene.receiver.wait(2, trace=caller.trace), name=name) for name in ("sickbay.jobs.v1.JobService/SubmitJob", "POST /jobs")
    )
    assert (call.facts["rpc.response.status_code"], call.error) == ("INVALID_ARGUMENT", None)
    assert (request.facts["http.response.status_code"], request.error) == (400, None)


def test_neither_payloads_nor_messages_of_failures_are_in_spans(scene: Scene):
    """Their texts may hold anything; codes are enough."""
    job_id = scene.clients.submit("traced", {"do": ["NETWORK_ERROR", "ok"], "says": "hunter2", "password": "hunter3"})
    scene.clients.wait(job_id, "SUCCEEDED")
    scene.receiver.wait(2, job__id=job_id, name="process jobs.main")
    assert not [raw for raw in scene.receiver.raw if b"hunter" in raw]


def test_without_the_variable_nothing_makes_or_sends_spans(start: Start, tmp_path: Path):
    """All three services at work, and neither the tracing SDK nor an exporter nor what uses them is loaded."""
    traced_clinic(tmp_path)
    product = start(tmp_path, ENV)
    with Clients(product.ready()) as clients:
        clients.wait(clients.submit("modules"), "SUCCEEDED")
    assert json.loads((tmp_path / "modules.json").read_text()) == []


@pytest.mark.parametrize(
    ("patience_s", "words"),
    [("1", "Failed to export traces"), ("10", "sending the last spans timed out after 2 s")],
    ids=["refuses", "late"],
)
def test_a_receiver_that_is_away_disturbs_nobody(start: Start, tmp_path: Path, patience_s: str, words: str):
    """Jobs run, the service ends in time and without an error in its log, which tells of the receiver as a warning."""
    traced_clinic(tmp_path)
    with Receiver() as receiver:
        env = dict(receiver.env)
    product = start(tmp_path, ENV | env | {"OTEL_EXPORTER_OTLP_TIMEOUT": patience_s})
    with Clients(product.ready()) as clients:
        clients.wait(clients.submit("traced"), "SUCCEEDED")
    product.terminate()
    assert product.wait() == 0
    assert product.faults == []
    (line,) = [line for line in map(json.loads, product.err.text.splitlines()) if words in line["event"]]
    assert line["level"] == "warning"


def test_spans_go_over_tls(start: Start, tmp_path: Path):
    """`https://` in the endpoint, and OpenTelemetry's own variable for who signed the receiver's certificate."""
    traced_clinic(tmp_path)
    authority = Authority(tmp_path)
    with Receiver(*authority.sign("localhost")) as receiver:
        product = start(tmp_path, ENV | dict(receiver.env) | {"OTEL_EXPORTER_OTLP_CERTIFICATE": str(authority.ca)})
        with Clients(product.ready()) as clients:
            job_id = clients.submit("traced")
        assert receiver.wait(job__id=job_id, name="process jobs.main")
        product.stop()
