"""What BreakerService answers about tenants that share breakers, and about tenants that have their own."""

from random import Random

import pytest

from controlplane.breaker_service import BreakerApi
from sickbay.adapters.embedded.breakers import EmbeddedBreakers
from sickbay.breakers.v1 import breaker_service_pb2 as pb
from sickbay.domain.breaker import Action, BreakerConfig, BreakerKey, BreakerScope, Command
from sickbay.domain.errors import ErrorReason, FailedPrecondition, NotFound
from tests.support.clock import ManualClock

COMMANDS = {
    "ResetBreaker": pb.ResetBreakerRequest,
    "ForceOpenBreaker": pb.ForceOpenBreakerRequest,
    "DisableBreaker": pb.DisableBreakerRequest,
    "SetBreakerMetricsOnly": pb.SetBreakerMetricsOnlyRequest,
    "SetBreakerAuto": pb.SetBreakerAutoRequest,
}


async def serve(scope, *keys):
    clock = ManualClock()
    breakers = EmbeddedBreakers(BreakerConfig(), clock, Random(0))
    for key in keys:
        await breakers.command(key, Command(Action.DISABLE))
    return BreakerApi(breakers, None, None, clock, scope=scope), breakers


async def test_a_tenant_cannot_probe_for_all():
    api, _ = await serve(BreakerScope.TYPE, BreakerKey("email"))
    with pytest.raises(FailedPrecondition, match="leave out the tenant"):
        await api.ProbeBreaker(pb.ProbeBreakerRequest(job_type="email", tenant="acme"), None)


@pytest.mark.parametrize("name", COMMANDS)
async def test_a_tenant_cannot_change_the_breaker_that_all_share(name):
    api, breakers = await serve(BreakerScope.TYPE, BreakerKey("email"))
    with pytest.raises(FailedPrecondition, match="all tenants share the breaker of email") as caught:
        await getattr(api, name)(COMMANDS[name](job_type="email", tenant="acme"), None)
    assert caught.value.reason is ErrorReason.WRONG_STATE
    assert await breakers.keys() == [BreakerKey("email")]
    for tenant in ("", "default"):
        answer = await getattr(api, name)(COMMANDS[name](job_type="email", tenant=tenant), None)
        assert (answer.breaker.job_type, answer.breaker.tenant) == ("email", "default")


async def test_a_tenant_that_shares_a_breaker_is_shown_that_of_the_type():
    api, _ = await serve(BreakerScope.TYPE, BreakerKey("email"), BreakerKey("email", "acme"), BreakerKey("sms"))
    shown = (await api.GetBreaker(pb.GetBreakerRequest(job_type="email", tenant="acme"), None)).breaker
    assert (shown.job_type, shown.tenant) == ("email", "default")
    listed = (await api.ListBreakers(pb.ListBreakersRequest(tenant="acme"), None)).breakers
    assert [(one.job_type, one.tenant) for one in listed] == [("email", "default"), ("sms", "default")]
    watch = api.WatchBreakers(pb.WatchBreakersRequest(job_type="email", tenant="acme"), None)
    assert (await anext(watch)).breaker.tenant == "default"
    await watch.aclose()


async def test_a_tenant_with_breakers_of_its_own_is_shown_and_changes_those():
    api, breakers = await serve(BreakerScope.TENANT, BreakerKey("email"), BreakerKey("email", "acme"))
    listed = (await api.ListBreakers(pb.ListBreakersRequest(tenant="acme"), None)).breakers
    assert [(one.job_type, one.tenant) for one in listed] == [("email", "acme")]
    await api.ResetBreaker(pb.ResetBreakerRequest(job_type="email", tenant="acme"), None)
    assert await breakers.keys() == [BreakerKey("email")]
    with pytest.raises(NotFound):
        await api.GetBreaker(pb.GetBreakerRequest(job_type="email", tenant="other"), None)
