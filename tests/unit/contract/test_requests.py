"""Every rule about requests, one table row each."""

import hashlib

import pytest
from google.protobuf.duration_pb2 import Duration

from sickbay.breakers.v1 import breaker_service_pb2 as breakers
from sickbay.contract import requests
from sickbay.domain.breaker import Action, BreakerKey, Command
from sickbay.domain.errors import ErrorReason, InvalidArgument
from sickbay.domain.job import Job, JobState, Reason
from sickbay.domain.priority import Priority
from sickbay.domain.queries import JobEdit, JobQuery, QuarantineQuery
from sickbay.jobs.v1 import job_pb2
from sickbay.jobs.v1 import job_service_pb2 as jobs
from sickbay.jobs.v1 import quarantine_service_pb2 as wards

JOB = jobs.SubmitJobRequest(job_type="email", payload_json='{"a": 1}')


def test_a_submission_with_its_defaults():
    found = requests.submission(JOB)
    assert found == requests.Submission("email", "default", b'{"a": 1}', "")
    assert found.job("id", 5) == Job("id", "email", b'{"a": 1}', submitted_at=5)


def test_a_submission_with_everything():
    request = jobs.SubmitJobRequest(job_type="a.b-c_9", tenant="acme", request_id="k 1~")
    request.payload["n"] = 3
    assert requests.submission(request) == requests.Submission("a.b-c_9", "acme", b'{"n":3}', "k 1~")


def with_priority(name):
    return jobs.SubmitJobRequest(job_type="email", payload_json='{"a": 1}', priority=f"PRIORITY_{name}")


def test_the_digest_of_the_default_priority_is_that_of_before():
    """Keys that a Job API of before has reserved are known after an upgrade."""
    assert requests.submission(JOB).digest == hashlib.blake2b(b'default\nemail\n{"a": 1}', digest_size=16).digest()
    digests = {requests.submission(with_priority(name)).digest for name in Priority}
    assert len(digests) == len(Priority)


@pytest.mark.parametrize("name", list(Priority))
def test_a_priority_is_read_everywhere(name):
    number = job_pb2.Priority.Value(f"PRIORITY_{name}")
    assert requests.submission(with_priority(name)).job("id", 5).priority is name
    assert requests.job_query(jobs.ListJobsRequest(priority=number)) == JobQuery(priority=name)
    assert requests.quarantine_query(wards.ListQuarantinedJobsRequest(priority=number), 5) == QuarantineQuery(priority=name)
    assert requests.edit(wards.ResubmitJobRequest(priority=number)) == JobEdit(priority=name)


@pytest.mark.parametrize(
    "read",
    [
        lambda: requests.submission(jobs.SubmitJobRequest(job_type="email", payload_json="{}", priority=9)),
        lambda: requests.job_query(jobs.ListJobsRequest(priority=9)),
        lambda: requests.quarantine_query(wards.ListQuarantinedJobsRequest(priority=-1), 5),
        lambda: requests.edit(wards.ResubmitJobRequest(priority=4)),
    ],
)
def test_an_unknown_priority_is_refused_with_the_known_ones(read):
    with pytest.raises(InvalidArgument, match="use PRIORITY_HIGH, PRIORITY_NORMAL or PRIORITY_LOW"):
        read()


def test_the_digest_tells_requests_apart():
    same = requests.submission(JOB).digest
    assert (
        same
        == requests.submission(jobs.SubmitJobRequest(job_type="email", tenant="default", payload_json='{"a": 1}', request_id="k")).digest
    )
    assert requests.submission(with_priority("NORMAL")).digest == same
    for change in ({"job_type": "sms"}, {"tenant": "acme"}, {"payload_json": '{"a":1}'}, {"priority": job_pb2.PRIORITY_HIGH}):
        other = jobs.SubmitJobRequest(**{"job_type": "email", "payload_json": '{"a": 1}'} | change)
        assert requests.submission(other).digest != same


INVALID = ErrorReason.INVALID_FIELD


@pytest.mark.parametrize(
    ("change", "reason", "hint"),
    [
        ({"job_type": ""}, ErrorReason.INVALID_JOB_TYPE, "missing"),
        ({"job_type": "Email"}, ErrorReason.INVALID_JOB_TYPE, "lower-case"),
        ({"job_type": "-x"}, ErrorReason.INVALID_JOB_TYPE, "'-x'"),
        ({"job_type": "x\n"}, ErrorReason.INVALID_JOB_TYPE, "lower-case"),
        ({"job_type": "x" * 65}, ErrorReason.INVALID_JOB_TYPE, "at most 64"),
        ({"job_type": "x" * 100_000}, ErrorReason.INVALID_JOB_TYPE, "..."),
        ({"tenant": "ACME"}, INVALID, "'ACME'"),
        ({"payload_json": ""}, ErrorReason.INVALID_PAYLOAD, "not valid JSON"),
        ({"payload_json": "[]"}, ErrorReason.INVALID_PAYLOAD, "object"),
        ({"request_id": "x" * 129}, INVALID, "1 to 128"),
        ({"request_id": "é"}, INVALID, "ASCII"),
        ({"request_id": "a\tb"}, INVALID, "printable"),
    ],
)
def test_bad_submissions(change, reason, hint):
    request = jobs.SubmitJobRequest(**{"job_type": "email", "payload_json": "{}"} | change)
    with pytest.raises(InvalidArgument) as caught:
        requests.submission(request)
    assert caught.value.reason is reason
    assert hint in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_submission_without_content():
    with pytest.raises(InvalidArgument, match="missing") as caught:
        requests.submission(jobs.SubmitJobRequest(job_type="email"))
    assert caught.value.reason is ErrorReason.INVALID_PAYLOAD


@pytest.mark.parametrize("count", [0, 1001])
def test_bad_batches(count):
    with pytest.raises(InvalidArgument, match="1 to 1,000"):
        requests.batch(jobs.BatchSubmitJobsRequest(requests=[JOB] * count))


def test_good_batches():
    assert len(requests.batch(jobs.BatchSubmitJobsRequest(requests=[JOB] * 1000))) == 1000


def test_job_queries():
    assert requests.job_query(jobs.ListJobsRequest()) == JobQuery()
    states = [job_pb2.Job.STATE_PARKED, job_pb2.Job.STATE_QUEUED, job_pb2.Job.STATE_PARKED]
    query = requests.job_query(jobs.ListJobsRequest(job_type="email", tenant="acme", states=states))
    assert query == JobQuery("email", frozenset({"acme"}), frozenset({JobState.PARKED, JobState.QUEUED}))


def test_any_state_among_the_states_is_any_state():
    states = [job_pb2.Job.STATE_PARKED, job_pb2.Job.STATE_UNSPECIFIED]
    assert requests.job_query(jobs.ListJobsRequest(states=states)).states == frozenset()


def test_quarantine_queries():
    assert requests.quarantine_query(wards.ListQuarantinedJobsRequest(), 10_000) == QuarantineQuery()
    request = wards.ListQuarantinedJobsRequest(
        job_type="email",
        tenant="acme",
        state=job_pb2.Job.STATE_PARKED,
        reason=wards.QuarantinedJob.REASON_CIRCUIT_OPEN,
        error_code="API_TIMEOUT",
        fingerprint="f00",
        min_age=Duration(seconds=2, nanos=500_000_000),
    )
    expected = QuarantineQuery("email", frozenset({"acme"}), JobState.PARKED, Reason.CIRCUIT_OPEN, "API_TIMEOUT", "f00", 7500)
    assert requests.quarantine_query(request, 10_000) == expected


@pytest.mark.parametrize(
    "request_",
    [
        jobs.ListJobsRequest(states=[99]),  # type: ignore[list-item]
        jobs.ListJobsRequest(job_type="E"),
        jobs.ListJobsRequest(tenant="E"),
    ],
)
def test_bad_job_queries(request_):
    with pytest.raises(InvalidArgument):
        requests.job_query(request_)


@pytest.mark.parametrize(
    "fields",
    [
        {"state": 99},
        {"reason": 99},
        {"error_code": "no"},
        {"fingerprint": "x" * 65},
        {"fingerprint": "\0"},
        {"min_age": Duration(seconds=-1)},
        {"min_age": Duration(seconds=1, nanos=-1)},
        {"min_age": Duration(seconds=10**15)},
        {"min_age": Duration(nanos=1_000_000_000)},
    ],
)
def test_bad_quarantine_queries(fields):
    with pytest.raises(InvalidArgument):
        requests.quarantine_query(wards.ListQuarantinedJobsRequest(**fields), 10_000)


def test_edits():
    assert requests.edit(wards.ResubmitJobRequest(job_id="x")) == JobEdit()
    assert requests.edit(wards.ResubmitJobRequest(payload_json="{}", job_type="sms")) == JobEdit(b"{}", "sms")
    with pytest.raises(InvalidArgument):
        requests.edit(wards.ResubmitJobRequest(payload_json="[]"))


KEY = BreakerKey("email", "default")
DAY = 86_400


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (breakers.ResetBreakerRequest(job_type="email"), Command(Action.RESET)),
        (breakers.SetBreakerAutoRequest(job_type="email"), Command(Action.AUTO)),
        (breakers.ProbeBreakerRequest(job_type="email"), Command(Action.PROBE)),
        (breakers.ForceOpenBreakerRequest(job_type="email", actor="ann", why="oops"), Command(Action.FORCE_OPEN, None, "ann", "oops")),
        (
            breakers.ForceOpenBreakerRequest(job_type="email", duration=Duration(seconds=30 * DAY)),
            Command(Action.FORCE_OPEN, 30 * DAY * 1000),
        ),
        (breakers.ForceOpenBreakerRequest(job_type="email", duration=Duration(nanos=1_000_000)), Command(Action.FORCE_OPEN, 1)),
        (breakers.DisableBreakerRequest(job_type="email", actor="ann"), Command(Action.DISABLE, None, "ann")),
        (breakers.SetBreakerMetricsOnlyRequest(job_type="email", why="w"), Command(Action.METRICS_ONLY, None, "", "w")),
    ],
)
def test_commands(request_, expected):
    assert requests.command(request_) == (KEY, expected)


@pytest.mark.parametrize(
    "fields",
    [
        {"job_type": ""},
        {"tenant": "A"},
        {"duration": Duration()},
        {"duration": Duration(seconds=-1)},
        {"duration": Duration(seconds=30 * DAY, nanos=1_000_000)},
        {"actor": "x" * 129},
        {"actor": "a\nb"},
        {"why": "x" * 501},
    ],
)
def test_bad_commands(fields):
    with pytest.raises(InvalidArgument):
        requests.command(breakers.ForceOpenBreakerRequest(**{"job_type": "email"} | fields))


def test_every_command_of_the_contract_is_known():
    """A new RPC that answers with a breaker and is no read must be translated here."""
    methods = breakers.DESCRIPTOR.services_by_name["BreakerService"].methods
    commanding = {method.input_type.name for method in methods if method.GetOptions().idempotency_level == 2}
    assert commanding == {kind.__name__ for kind in requests._ACTIONS}


def test_views():
    assert requests.full_view(job_pb2.JOB_VIEW_UNSPECIFIED, default=True)
    assert not requests.full_view(job_pb2.JOB_VIEW_UNSPECIFIED, default=False)
    assert requests.full_view(job_pb2.JOB_VIEW_FULL, default=False)
    assert not requests.full_view(job_pb2.JOB_VIEW_BASIC, default=True)
    with pytest.raises(InvalidArgument):
        requests.full_view(9, default=True)


def test_ids_and_etags():
    assert requests.job_id("0190-abc") == "0190-abc"
    assert requests.etag("") == ""
    for bad in ("", "x" * 65, "a\0b"):
        with pytest.raises(InvalidArgument):
            requests.job_id(bad)
    with pytest.raises(InvalidArgument):
        requests.etag("x" * 129)
