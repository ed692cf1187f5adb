"""Bad input over gRPC: the right status code, ErrorInfo with its reason, and never a word of the machinery inside."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct

from sickbay.breakers.v1 import breaker_service_pb2 as breakers
from sickbay.jobs.v1 import job_service_pb2 as jobs
from sickbay.jobs.v1 import quarantine_service_pb2 as wards
from tests.support.clients import Clients, refusal
from tests.support.leaks import assert_for_people

INVALID, MISSING = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND


def struct(value: Any) -> Struct:
    made = Struct()
    made.update({"a": value})
    return made


def submit(**fields: Any) -> Callable[[Clients], Any]:
    return lambda sickbay: sickbay.jobs.SubmitJob(jobs.SubmitJobRequest(**fields))


CASES: dict[str, tuple[Callable[[Clients], Any], grpc.StatusCode, str]] = {
    "nothing": (submit(), INVALID, "INVALID_JOB_TYPE"),
    "malformed type": (submit(job_type="E Mail", payload_json="{}"), INVALID, "INVALID_JOB_TYPE"),
    "no content": (submit(job_type="ok"), INVALID, "INVALID_PAYLOAD"),
    "empty text": (submit(job_type="ok", payload_json=""), INVALID, "INVALID_PAYLOAD"),
    "no JSON": (submit(job_type="ok", payload_json="{'a'}"), INVALID, "INVALID_PAYLOAD"),
    "no object": (submit(job_type="ok", payload_json="[1]"), INVALID, "INVALID_PAYLOAD"),
    "too deep": (submit(job_type="ok", payload_json='{"a":' + "[" * 50_000 + "]" * 50_000 + "}"), INVALID, "INVALID_PAYLOAD"),
    "too large": (submit(job_type="ok", payload_json=json.dumps({"a": "x" * 1024 * 1024})), INVALID, "PAYLOAD_TOO_LARGE"),
    "large number": (submit(job_type="ok", payload=struct(2.0**53 + 2)), INVALID, "NUMBER_TOO_LARGE"),
    "large negative number": (submit(job_type="ok", payload=struct([-(2.0**60)])), INVALID, "NUMBER_TOO_LARGE"),
    "no number": (submit(job_type="ok", payload=struct(float("nan"))), INVALID, "INVALID_PAYLOAD"),
    "bad tenant": (submit(job_type="ok", payload_json="{}", tenant="A/B"), INVALID, "INVALID_FIELD"),
    "bad request id": (submit(job_type="ok", payload_json="{}", request_id="caf\u00e9"), INVALID, "INVALID_FIELD"),
    "endless request id": (submit(job_type="ok", payload_json="{}", request_id="x" * 129), INVALID, "INVALID_FIELD"),
    "empty batch": (lambda s: s.jobs.BatchSubmitJobs(jobs.BatchSubmitJobsRequest()), INVALID, "INVALID_FIELD"),
    "no id": (lambda s: s.jobs.GetJob(jobs.GetJobRequest()), INVALID, "INVALID_FIELD"),
    "unknown id": (lambda s: s.jobs.GetJob(jobs.GetJobRequest(job_id="unknown")), MISSING, "JOB_NOT_FOUND"),
    "unknown view": (lambda s: s.jobs.GetJob(jobs.GetJobRequest(job_id="unknown", view=77)), INVALID, "INVALID_FIELD"),  # type: ignore[arg-type]
    "unknown watched": (lambda s: list(s.jobs.WatchJob(jobs.WatchJobRequest(job_id="unknown"))), MISSING, "JOB_NOT_FOUND"),
    "unknown cancelled": (lambda s: s.jobs.CancelJob(jobs.CancelJobRequest(job_id="unknown")), MISSING, "JOB_NOT_FOUND"),
    "page size": (lambda s: s.jobs.ListJobs(jobs.ListJobsRequest(page_size=1001)), INVALID, "INVALID_FIELD"),
    "page token": (lambda s: s.jobs.ListJobs(jobs.ListJobsRequest(page_token="nonsense")), INVALID, "INVALID_PAGE_TOKEN"),
    "unknown state": (lambda s: s.jobs.ListJobs(jobs.ListJobsRequest(states=[77])), INVALID, "INVALID_FIELD"),  # type: ignore[list-item]
    "unknown case": (
        lambda s: s.quarantine.GetQuarantinedJob(wards.GetQuarantinedJobRequest(job_id="unknown")),
        MISSING,
        "JOB_NOT_FOUND",
    ),
    "resubmit unknown": (lambda s: s.quarantine.ResubmitJob(wards.ResubmitJobRequest(job_id="unknown")), MISSING, "JOB_NOT_FOUND"),
    "resubmit bad content": (
        lambda s: s.quarantine.ResubmitJob(wards.ResubmitJobRequest(job_id="unknown", payload_json="7")),
        INVALID,
        "INVALID_PAYLOAD",
    ),
    "discard unknown": (lambda s: s.quarantine.DiscardJob(wards.DiscardJobRequest(job_id="unknown")), MISSING, "JOB_NOT_FOUND"),
    "bad duration": (
        lambda s: s.breakers.ForceOpenBreaker(breakers.ForceOpenBreakerRequest(job_type="never-held", duration=Duration(seconds=-5))),
        INVALID,
        "INVALID_FIELD",
    ),
    "breaker without type": (lambda s: s.breakers.GetBreaker(breakers.GetBreakerRequest()), INVALID, "INVALID_JOB_TYPE"),
    "unknown breaker": (
        lambda s: s.breakers.GetBreaker(breakers.GetBreakerRequest(job_type="never-held")),
        MISSING,
        "BREAKER_NOT_FOUND",
    ),
    "reset unknown": (
        lambda s: s.breakers.ResetBreaker(breakers.ResetBreakerRequest(job_type="never-held")),
        MISSING,
        "BREAKER_NOT_FOUND",
    ),
    "probe unknown": (
        lambda s: s.breakers.ProbeBreaker(breakers.ProbeBreakerRequest(job_type="never-held")),
        MISSING,
        "BREAKER_NOT_FOUND",
    ),
    "auto unknown": (
        lambda s: s.breakers.SetBreakerAuto(breakers.SetBreakerAutoRequest(job_type="never-held")),
        MISSING,
        "BREAKER_NOT_FOUND",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_request_is_refused_with_its_reason(case: str, sickbay: Clients):
    call, code, reason = CASES[case]
    with pytest.raises(grpc.RpcError) as caught:
        call(sickbay)
    status, told, message = refusal(caught.value)
    assert (status, told) == (code, reason)
    assert_for_people(message)


def test_integers_beyond_2_to_53_survive_as_text(sickbay: Clients):
    """`payload_json` is kept byte for byte."""
    text = '{ "id": 9007199254740993, "do": "VALIDATION_ERROR",  "pi": 3.140 }'
    job_id = sickbay.jobs.SubmitJob(jobs.SubmitJobRequest(job_type="bad", payload_json=text)).job.job_id
    sickbay.wait(job_id, "QUARANTINED")
    case = sickbay.quarantine.GetQuarantinedJob(wards.GetQuarantinedJobRequest(job_id=job_id)).job
    assert case.payload_json == text
    assert text in sickbay.plane.get(f"/quarantine/{job_id}").text


def test_items_of_a_batch_are_judged_one_by_one(sickbay: Clients):
    good, bad = jobs.SubmitJobRequest(job_type="ok", payload_json="{}"), jobs.SubmitJobRequest(job_type="ok", payload_json="7")
    results = sickbay.jobs.BatchSubmitJobs(jobs.BatchSubmitJobsRequest(requests=[good, bad, good])).results
    assert [bool(result.job_id) for result in results] == [True, False, True]
    assert results[1].error.code == INVALID.value[0]
    assert_for_people(results[1].error.message)


def _nested(levels: int) -> bytes:
    request = jobs.SubmitJobRequest(job_type="ok")
    inner = request.payload
    for _ in range(levels):
        inner = inner.fields["a"].struct_value
    inner.fields["a"].bool_value = True
    return request.SerializeToString()


SUBMIT = "/sickbay.jobs.v1.JobService/SubmitJob"
UNREADABLE: dict[str, tuple[bytes, str]] = {
    "no message": (b"\xff\xff\xff", "contract"),
    "cut off": (jobs.SubmitJobRequest(job_type="ok", payload_json="{}").SerializeToString()[:-1], "contract"),
    "a text that is no UTF-8": (b"\x0a\x01\xff", "UTF-8"),
}


@pytest.mark.parametrize("method", [SUBMIT, "/sickbay.jobs.v1.JobService/WatchJob", "/grpc.health.v1.Health/Check"])
@pytest.mark.parametrize("case", UNREADABLE)
def test_a_request_that_is_no_message_is_told_so(case: str, method: str, sickbay: Clients):
    """Unary calls and streams, our services and the health service alike; the product's log has no traceback (see `Product.stop`)."""
    with grpc.insecure_channel(f"127.0.0.1:{sickbay.grpc_ports['Job API']}") as channel:
        if method.endswith("WatchJob"):
            call = lambda data: list(channel.unary_stream(method)(data, timeout=30))  # noqa: E731 - one line each
        else:
            call = lambda data: channel.unary_unary(method)(data, timeout=30)  # noqa: E731
        with pytest.raises(grpc.RpcError) as caught:
            call(UNREADABLE[case][0])
    code, reason, message = refusal(caught.value)
    assert (code, reason) == (INVALID, "INVALID_FIELD")
    assert UNREADABLE[case][1] in message
    assert_for_people(message)


def test_a_struct_that_is_too_deep_to_be_read_is_told_so(sickbay: Clients):
    """Protobuf's own limit, far below that of a payload as text."""
    with grpc.insecure_channel(f"127.0.0.1:{sickbay.grpc_ports['Job API']}") as channel:
        submit_bytes = channel.unary_unary(SUBMIT, response_deserializer=jobs.SubmitJobResponse.FromString)
        assert submit_bytes(_nested(30), timeout=30).job.job_type == "ok"
        with pytest.raises(grpc.RpcError) as caught:
            submit_bytes(_nested(60), timeout=30)
    code, reason, message = refusal(caught.value)
    assert (code, reason) == (INVALID, "INVALID_PAYLOAD")
    assert "payload_json" in message
    assert_for_people(message)


def test_reflection_is_told_so_too(sickbay: Clients):
    with grpc.insecure_channel(f"127.0.0.1:{sickbay.grpc_ports['Job API']}") as channel:
        ask = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
        with pytest.raises(grpc.RpcError) as caught:
            list(ask(iter([b"\xff\xff\xff"]), timeout=30))
    assert caught.value.code() is INVALID
