"""Bad input over gRPC: the right status code, ErrorInfo with its reason, and never a word of the machinery inside."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct

from gen.sickbay.breakers.v1 import breaker_service_pb2 as breakers
from gen.sickbay.jobs.v1 import job_service_pb2 as jobs
from gen.sickbay.jobs.v1 import quarantine_service_pb2 as wards
from tests.system.clients import Clients, refusal
from tests.system.leaks import assert_for_people

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
