"""What is counted of jobs: what the Job API accepted, and what became of them in a worker."""

from dataclasses import replace

import pytest

from jobapi.metrics import SubmissionMetrics
from sickbay import JobError
from sickbay.domain.breaker import BreakerKey, BreakerState, PermitKind, Refusal
from sickbay.domain.errors import ErrorReason, InvalidArgument, Refused
from sickbay.domain.job import Job, Reason
from sickbay.domain.priority import Priority
from sickbay.domain.queries import Accepted, DuplicateCheck
from sickbay.telemetry.metrics import MetricsRegistry
from tests.support.engine_bench import does, job, open_bench
from tests.support.scraped_metrics import numbers


@pytest.fixture
def told():
    return MetricsRegistry("worker")


async def test_submissions_are_counted_by_type_up_to_a_bound_and_by_result(told):
    metrics = SubmissionMetrics(told.registry)
    accepted = Accepted(Job("a", "email"))
    repeated, circuit_open = Accepted(Job("b", "email"), duplicate=True), Refused("no", ErrorReason.CIRCUIT_OPEN)
    misfit = InvalidArgument("no", ErrorReason.INVALID_PAYLOAD)
    metrics.submitted(["email"] * 6, [accepted, accepted, repeated, InvalidArgument("no"), circuit_open, misfit])
    metrics.submitted([f"type-{number}" for number in range(150)], [accepted] * 150)
    counted = await numbers(told, "sickbay_submissions_total")
    assert counted["email", "accepted"] == 2
    assert counted["email", "duplicate"] == counted["email", "refused"] == counted["email", "circuit_open"] == 1
    assert counted["email", "invalid_payload"] == 1
    assert counted["other", "accepted"] == 51
    assert len({job_type for job_type, _ in counted}) == 101


async def test_jobs_of_another_priority_are_counted_once_accepted(told):
    metrics = SubmissionMetrics(told.registry)
    high, normal, low = (Accepted(Job("a", "email", priority=priority)) for priority in (Priority.HIGH, Priority.NORMAL, Priority.LOW))
    metrics.submitted(["email"] * 5, [high, normal, low, high, replace(high, duplicate=True)])
    assert await numbers(told, "sickbay_prioritized_jobs_total") == {("email", "HIGH"): 2, ("email", "LOW"): 1}


async def fine(job):
    pass


def fails(*args):
    async def run(job):
        raise JobError(*args)

    return run


async def test_every_outcome_of_a_job_is_counted():
    async with open_bench(does(fine)) as bench:
        await bench.run_one(job())
        bench.fence.entry = DuplicateCheck(superseded=True)
        await bench.run_one(job(attempt=1))
        bench.fence.entry = DuplicateCheck(superseded=False)
        bench.breakers.answer = Refusal(BreakerKey("email"), BreakerState.OPEN)
        await bench.run_one(job())
        await bench.run_one(Job("k", "nobody-knows-me", submitted_at=1))
        await bench.run_one(body=b"not a job")
        outcomes = await numbers(bench.told, "sickbay_jobs_total")
        reasons = await numbers(bench.told, "sickbay_jobs_set_aside_total")
        waits = await numbers(bench.told, "sickbay_job_wait_seconds_count")
    assert outcomes["email", "succeeded"] == outcomes["email", "dropped"] == outcomes["email", "parked"] == 1
    assert outcomes["other", "quarantined"] == 2
    told_reasons = {labels: count for labels, count in reasons.items() if count}
    assert told_reasons == {("email", "CIRCUIT_OPEN"): 1, ("other", "UNKNOWN_TYPE"): 1, ("other", "UNDECODABLE"): 1}
    assert {("email", reason.value) for reason in Reason} < set(reasons), "an alert sees the first of them only if it was 0 before"
    assert waits == {("email",): 1, ("other",): 0}


async def test_runs_failures_and_probes_are_counted():
    async with open_bench(does(fails("API_TIMEOUT"))) as bench:
        await bench.run_one(job())
        bench.breakers.kind = PermitKind.PROBE
        await bench.run_one(job())
        runs = await numbers(bench.told, "sickbay_job_runs_total")
        failures = await numbers(bench.told, "sickbay_job_failures_total")
        probes = await numbers(bench.told, "sickbay_breaker_probes_total")
        times = await numbers(bench.told, "sickbay_job_run_seconds_count")
        outcomes = await numbers(bench.told, "sickbay_jobs_total")
    assert (runs["email", "systemic"], runs["email", "success"]) == (2, 0)
    assert failures == {("API_TIMEOUT", "email"): 2}
    assert (probes["email", "failure"], probes["email", "success"]) == (1, 0)
    assert times["email",] == 2
    assert outcomes["email", "retried"] == 2


async def test_retries_beyond_the_limit_are_counted():
    """Only those of jobs that others like them would be quarantined by now; 0 before the first, for an alert."""
    async with open_bench(does(fails("API_TIMEOUT"))) as bench:
        copy = job()
        for _ in range(3):
            await bench.run_one(copy)
            copy = bench.broker.copies()[-1]
        assert await numbers(bench.told, "sickbay_jobs_retried_beyond_limit_total") == {("email",): 0, ("other",): 0}
        await bench.run_one(copy)
        assert (await numbers(bench.told, "sickbay_jobs_retried_beyond_limit_total"))["email",] == 1


async def test_error_codes_beyond_a_bound_are_other():
    codes = iter(f"CODE_{number}" for number in range(60))

    async def invent(job):
        raise JobError(next(codes))

    async with open_bench(does(invent)) as bench:
        for _ in range(60):
            await bench.run_one(job())
        failures = await numbers(bench.told, "sickbay_job_failures_total")
    assert len(failures) == 51
    assert failures["other", "email"] == 10
