"""Explaining a job: what is asked of whom, and what is said where little is known."""

import pytest

from jobapi.service import JobApi
from sickbay.domain.breaker import Action, BreakerKey, BreakerScope, Command, DependencyRule
from sickbay.domain.errors import NotFound
from sickbay.domain.job import Job, JobEvent, JobState, Reason
from sickbay.jobs.v1.explanation_pb2 import JobExplanation
from sickbay.jobs.v1.job_service_pb2 import ExplainJobRequest, SubmitJobRequest
from sickbay.runtime.policies import Policies
from sickbay.runtime.settings import Settings
from sickbay.submission.circuits import Circuits
from sickbay.submission.recent import RecentJobs
from sickbay.submission.submit import JobSubmitter
from tests.support.embedded_backends import open_backends

JOB = Job("job-1", "email", tenant="acme", submitted_at=1)
PARKED = JobEvent(JOB, JobState.PARKED, 2, reason=Reason.CIRCUIT_OPEN, code="CIRCUIT_OPEN")


def serve(backends, view=None, scope=BreakerScope.TENANT, **env):
    recent = RecentJobs()
    return JobApi(
        submitter=JobSubmitter(backends.broker, backends.keys, recent, backends.clock),
        reader=backends.reader,
        holds=backends.holds,
        recent=recent,
        broker=backends.broker,
        clock=backends.clock,
        policies=Policies(Settings(**env)),
        circuits=Circuits(view, scope),
    )


async def explain(api, job_id="job-1"):
    return (await api.ExplainJob(ExplainJobRequest(job_id=job_id), None)).explanation


async def test_an_unknown_job():
    async with open_backends() as backends:
        with pytest.raises(NotFound):
            await explain(serve(backends))


async def test_a_job_that_the_ledger_does_not_have_yet():
    async with open_backends() as backends:
        api = serve(backends, backends.breakers.view())
        accepted = await api.SubmitJob(SubmitJobRequest(job_type="email", payload_json="{}"), None)
        explained = await explain(api, accepted.job.job_id)
        assert explained.reason == JobExplanation.REASON_WAITING_FOR_WORKER
        assert explained.breaker.job_type == "email"


async def test_without_a_view_nothing_is_claimed_of_the_breaker():
    async with open_backends() as backends:
        await backends.writer.apply([PARKED])
        explained = await explain(serve(backends))
        assert (explained.reason, explained.HasField("breaker")) == (JobExplanation.REASON_CIRCUIT_OPEN, False)
        assert explained.commands == ["sickbay explain --type email --tenant acme"]


async def test_the_breaker_is_that_of_the_jobs_tenant():
    async with open_backends() as backends:
        api = serve(backends, backends.breakers.view())
        await backends.writer.apply([PARKED])
        await backends.breakers.command(BreakerKey("email"), Command(Action.FORCE_OPEN))
        assert (await explain(api)).reason == JobExplanation.REASON_RELEASE_DUE
        await backends.breakers.command(BreakerKey("email", "acme"), Command(Action.FORCE_OPEN, by="ada"))
        explained = await explain(api)
        assert explained.reason == JobExplanation.REASON_CIRCUIT_FORCED_OPEN
        assert "The circuit of email (tenant acme) is held open by ada." in explained.sentences


async def test_the_limits_are_those_of_the_settings():
    async with open_backends() as backends:
        api = serve(backends, max_retries=7, handler_timeout=90)
        await backends.writer.apply([JobEvent(JOB, JobState.RUNNING, 2, started_at=2, run="w.1", actor="w")])
        first, second = (await explain(api)).sentences[:2]
        assert first.startswith("Run 1 of at most 8 began")
        assert "90 s" in second or "1 m 30 s" in second


async def test_a_job_whose_type_shares_the_breaker_of_a_dependency():
    rule = DependencyRule(BreakerScope.TYPE, lambda: {"email": "mail", "welcome": "mail"})
    async with open_backends() as backends:
        api = serve(backends, backends.breakers.view(), rule)
        await backends.writer.apply([PARKED])
        await backends.breakers.command(BreakerKey("dependency:mail"), Command(Action.FORCE_OPEN, by="ada"))
        explained = await explain(api)
        assert explained.reason == JobExplanation.REASON_CIRCUIT_FORCED_OPEN
        assert (explained.breaker.job_type, explained.breaker.dependency) == ("email", "mail")
        assert list(explained.breaker.job_types) == ["email", "welcome"]
        assert "email and welcome share this circuit, because of the dependency mail." in explained.sentences
        accepted = await api.SubmitJob(SubmitJobRequest(job_type="welcome", payload_json="{}"), None)
        assert accepted.breaker.note
