"""Attacks that never did harm, each beside the client that must not notice. Others are listed in docs/security.md."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Final

import grpc
import pytest

from sickbay.jobs.v1 import job_service_pb2 as pb
from tests.hostile.conftest import StartPatient
from tests.support.clients import Clients, refusal
from tests.support.hostile_env import Patient
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(180)

MIB: Final = 1024 * 1024
MOST_MB: Final = 60
SUBMIT: Final = "/sickbay.jobs.v1.JobService/SubmitJob"
CALLS: Final = 3_000
WATCHES: Final = 100


@pytest.fixture
def sickbay(patient: Patient) -> Iterator[Clients]:
    with Clients(patient.product) as clients:
        yield clients


@pytest.mark.parametrize("kind", ["arrays", "objects"])
def test_deep_nesting(patient: Patient, sickbay: Clients, kind: str) -> None:
    """300,000 levels, ten times over each door; what is read before a payload is looked into is deep just as well."""
    opening, closing = {"arrays": ("[", "]"), "objects": ('{"a":', "}")}[kind]
    deep = opening * 150_000 + "1" + closing * 150_000
    for _ in range(10):
        for body in (f'{{"jobType": "ok", "payload": {{"a": {deep}}}}}', f'{{"jobType": {deep}}}', deep):
            answer = sickbay.api.post("/jobs", content=body, headers={"content-type": "application/json"})
            assert answer.status_code in {400, 413}, answer.text
        with pytest.raises(grpc.RpcError) as caught:
            sickbay.jobs.SubmitJob(pb.SubmitJobRequest(job_type="ok", payload_json=f'{{"a": {deep}}}'))
        assert refusal(caught.value)[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert patient.grown_mb < MOST_MB


def test_compressed_messages_that_would_be_huge(patient: Patient, sickbay: Clients) -> None:
    """64 KB each that are 64 MB: none is unpacked beyond what a message may have."""
    with grpc.insecure_channel(f"127.0.0.1:{sickbay.grpc_ports['Job API']}") as channel:
        for _ in range(5):
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(SUBMIT)(bytes(64 * MIB), compression=grpc.Compression.Gzip, timeout=60)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert patient.grown_mb < MOST_MB


@pytest.mark.parametrize("metadata", [[("x-huge", "a" * 1_000_000)], [(f"x-{number}", "a" * 100) for number in range(5_000)]])
def test_huge_metadata(patient: Patient, sickbay: Clients, metadata: list[tuple[str, str]]) -> None:
    """Refused by what it is in all, before anybody looks into it; grpc's core fills no log with it."""
    for _ in range(20):
        with pytest.raises(grpc.RpcError) as caught:
            sickbay.jobs.GetJob(pb.GetJobRequest(job_id="unknown"), metadata=metadata, timeout=60)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert patient.grown_mb < MOST_MB


def test_calls_that_are_cancelled(patient: Patient, sickbay: Clients) -> None:
    """Thousands, by a client that keeps to the rules, some of them before and some after they have run."""
    for number in range(CALLS):
        call = sickbay.jobs.SubmitJob.future(pb.SubmitJobRequest(job_type="ok", payload_json="{}", request_id=f"cancelled-{number}"))
        call.cancel()
    sickbay.wait(sickbay.submit("ok"), "SUCCEEDED")
    assert patient.grown_mb < MOST_MB


def test_more_watches_than_there_may_be(attacked: StartPatient) -> None:
    """Those that are open go on, over both doors together, and a closed one makes room."""
    patient = attacked(MAX_WATCHES=str(WATCHES))
    with Clients(patient.product) as sickbay, ExitStack() as stack:
        watched = sickbay.submit("unknown-to-workers")

        def watch() -> Any:
            call = sickbay.jobs.WatchJob(pb.WatchJobRequest(job_id=watched))
            stack.callback(call.cancel)
            return call

        calls = [watch() for _ in range(WATCHES // 2)]
        for call in calls:
            assert next(call).job.job_id == watched
        for _ in range(WATCHES):
            with pytest.raises(grpc.RpcError) as caught:
                next(watch())
            assert refusal(caught.value)[:2] == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_WATCHES")
        answer = sickbay.api.get(f"/jobs/{watched}/events")
        assert (answer.status_code, answer.json()["reason"]) == (429, "TOO_MANY_WATCHES")
        calls[0].cancel()
        until(lambda: is_answered(watch()))
        assert patient.grown_mb < MOST_MB


def is_answered(call: Any) -> bool:
    try:
        next(call)
    except grpc.RpcError:
        return False
    return True


@pytest.mark.parametrize("path", ["/jobs", "/quarantine", "/quarantine/groups", "/breakers"])
def test_forged_page_tokens(patient: Patient, sickbay: Clients, path: str) -> None:
    """A real one with each of its characters changed, cut and put together with others: a page, or a refusal, never a fault."""
    if path != "/breakers":
        sickbay.wait_all(sickbay.submit_all("no-such-type", {}, {}) + sickbay.submit_all("no-such-other-type", {}, {}), "QUARANTINED")
    sickbay.submit_all("sms", {}, {})
    door = sickbay.api if path == "/jobs" else sickbay.plane
    real = until(lambda: door.get(path, params={"pageSize": 1}).json().get("nextPageToken"))
    changed = [real[:place] + other + real[place + 1 :] for place in range(len(real)) for other in "A_=~\x00"]
    for token in [*changed, *(real[:length] for length in range(1, len(real))), real * 2, real * 100]:
        answer = door.get(path, params={"pageSize": 1, "pageToken": token})
        assert answer.status_code in {200, 400}, answer.text
        assert answer.status_code == 200 or answer.json()["reason"] in {"INVALID_PAGE_TOKEN", "INVALID_FIELD"}
    assert patient.grown_mb < MOST_MB
