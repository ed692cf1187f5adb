"""What a worker, a Job API and a control plane count by tenant."""

import pytest

from controlplane.tenant_metrics import SHARE, WaitingMetrics
from jobapi.metrics import TenantSubmissionMetrics
from sickbay.domain.breaker import BreakerKey, Permit, PermitKind
from sickbay.domain.errors import InvalidArgument, Unavailable
from sickbay.domain.job import Job, JobEvent, JobState
from sickbay.domain.queries import Accepted
from sickbay.ports.limits import Waiting
from sickbay.telemetry.metrics import OTHER, MetricsRegistry
from tests.support.scraped_metrics import numbers
from worker.tenant_metrics import TenantMetrics

RUNS = Permit(BreakerKey("email"), PermitKind.NORMAL, 0, "a")


@pytest.fixture
def told():
    return MetricsRegistry("worker")


def job(tenant, number=0, submitted_at=1_000):
    return Job(f"{tenant}-{number}", "email", b"{}", tenant=tenant, submitted_at=submitted_at)


def done(one):
    return JobEvent(one, JobState.SUCCEEDED, 2_000)


async def test_a_worker_counts_outcomes_waits_and_slots_by_tenant(told):
    metrics = TenantMetrics(told.registry, 2, lambda: 3.0)
    one, other = job("acme"), job("beta", submitted_at=2_990)
    for each in (one, other):
        metrics.run_started(each, RUNS)
    assert metrics.running() == {"acme": 1, "beta": 1}
    assert await numbers(told, "sickbay_tenant_jobs_running") == {("acme",): 1, ("beta",): 1}
    metrics.run_ended(one, RUNS, None, 0.1)
    metrics.settled(done(one))
    assert metrics.running() == {"beta": 1}
    assert await numbers(told, "sickbay_tenant_jobs_total") == {("succeeded", "acme"): 1}
    buckets = await numbers(told, "sickbay_tenant_job_wait_seconds_bucket")
    assert (buckets["1.0", "acme"], buckets["5.0", "acme"], buckets["+Inf", "acme"]) == (0, 1, 1)
    assert (buckets["0.01", "beta"], buckets["+Inf", "beta"]) == (1, 1)
    assert await numbers(told, "sickbay_tenant_job_wait_seconds_sum") == {("acme",): 2, ("beta",): pytest.approx(0.01)}


async def test_the_wait_of_a_job_is_counted_once_and_not_at_its_retries(told):
    metrics = TenantMetrics(told.registry, 2, lambda: 3.0)
    metrics.run_started(Job("a", "email", b"{}", tenant="acme", submitted_at=1_000, attempt=1), RUNS)
    assert await numbers(told, "sickbay_tenant_job_wait_seconds_count") == {}


async def test_series_stay_few_under_invented_tenants(told):
    metrics, submissions = TenantMetrics(told.registry, 20, lambda: 3.0), TenantSubmissionMetrics(told.registry, 20)
    for number in range(5_000):
        one = job(f"random-{number}")
        submissions.submitted(["email"], [Accepted(one)])
        metrics.run_started(one, RUNS)
        metrics.run_ended(one, RUNS, None, 0.1)
        metrics.settled(done(one))
    for name in ("sickbay_tenant_jobs_total", "sickbay_tenant_submissions_total"):
        counted = await numbers(told, name)
        assert len(counted) == 21
        assert sum(counted.values()) == 5_000
    assert len(await numbers(told, "sickbay_tenant_job_wait_seconds_bucket")) == 21 * 8
    assert metrics.running() == {}


async def test_a_job_api_counts_what_it_accepted_by_tenant(told):
    metrics = TenantSubmissionMetrics(told.registry, 20)
    metrics.submitted(["email"] * 3, [Accepted(job("acme")), Accepted(job("acme"), duplicate=True), InvalidArgument("no")])
    assert await numbers(told, "sickbay_tenant_submissions_total") == {("accepted", "acme"): 1, ("duplicate", "acme"): 1}


class Counts:
    """A ledger that takes two seconds to count."""

    def __init__(self):
        self.now, self.asked, self.fails = 100.0, 0, False

    async def count(self):
        self.asked += 1
        self.now += 2.0
        if self.fails:
            raise Unavailable("the ledger is gone")
        return Waiting({"acme": 7, "beta": 2, "gamma": 1}, 0)


async def test_a_control_plane_counts_waiting_jobs_by_tenant_and_is_not_busy_with_it(told):
    counts = Counts()
    metrics = WaitingMetrics(told.registry, counts=counts, limit=1, now=lambda: counts.now)
    told.before_scrape = metrics.refresh
    waiting = {("acme",): 7, (OTHER,): 3}
    assert await numbers(told, "sickbay_tenant_waiting_jobs") == waiting
    counts.now += 2.0 / SHARE - 2.1
    assert await numbers(told, "sickbay_tenant_waiting_jobs") == waiting
    assert counts.asked == 1
    counts.now += 0.2
    counts.fails = True
    assert await numbers(told, "sickbay_tenant_waiting_jobs") == {}
    assert counts.asked == 2


async def test_without_a_ledger_nothing_is_said_of_waiting_jobs(told):
    told.before_scrape = WaitingMetrics(told.registry, counts=None, limit=20).refresh
    assert await numbers(told, "sickbay_tenant_waiting_jobs") == {}
