"""The calls about breakers, as `client.breakers` has them; the control plane answers them.

`tenant` is the tenant whose jobs the breaker decides about. A call that changes a breaker needs it only with BREAKER_SCOPE=tenant.
"""

from __future__ import annotations

from typing import Any

from sickbay.breakers.v1 import breaker_service_pb2 as pb
from sickbay.client.breakers import Breaker, BreakerExplanation
from sickbay.client.calls import MAX_PAGE, RECONNECT_S, Call, Pages, Rpc, Watch, duration
from sickbay.client.reading import read


def list_breakers(*, tenant: str = "", limit: int | None = None, page_size: int = MAX_PAGE, timeout: float | None = None) -> Pages[Breaker]:
    """Iterate over breakers, ordered by job type; with `tenant`, those that decide about its jobs."""
    request = pb.ListBreakersRequest(tenant=tenant, page_size=page_size)
    return Pages(Rpc.of_breakers("ListBreakers"), request, lambda reply: (read(one, Breaker) for one in reply.breakers), timeout, limit)


def get(job_type: str, *, tenant: str = "", timeout: float | None = None) -> Call[Breaker]:
    """Get the breaker of a job type, or of `dependency:<name>`. NotFound if it is unknown."""
    return _call("GetBreaker", pb.GetBreakerRequest(job_type=job_type, tenant=tenant), timeout)


def explain(job_type: str, *, tenant: str = "", timeout: float | None = None) -> Call[BreakerExplanation]:
    """Explain why jobs of a type run or do not, since when, and what happens next. NotFound if it is unknown."""
    request = pb.ExplainBreakerRequest(job_type=job_type, tenant=tenant)
    return Call(Rpc.of_breakers("ExplainBreaker"), request, lambda reply: read(reply.explanation, BreakerExplanation), timeout)


def watch(job_type: str = "", *, tenant: str = "", timeout: float | None = None, reconnect_for: float = RECONNECT_S) -> Watch[Breaker]:
    """Iterate over breakers, in their current state and after every change; without a job type all of them.

    If changes come too fast, only the latest of each is sent. A broken connection is resumed for at most `reconnect_for` seconds.
    DeadlineExceeded after `timeout` seconds in all; None waits for ever.
    """
    request = pb.WatchBreakersRequest(job_type=job_type, tenant=tenant)
    return Watch(Rpc.of_breakers("WatchBreakers"), request, lambda reply: read(reply.breaker, Breaker), timeout, reconnect_for)


def reset(job_type: str, *, tenant: str = "", timeout: float | None = None) -> Call[Breaker]:
    """Close a breaker at once and clear its failures. NotFound if it is unknown."""
    return _call("ResetBreaker", pb.ResetBreakerRequest(job_type=job_type, tenant=tenant), timeout)


def force_open(
    job_type: str, *, tenant: str = "", duration_s: float | None = None, actor: str = "", why: str = "", timeout: float | None = None
) -> Call[Breaker]:
    """Hold a breaker open, for so many seconds or until `auto` or `reset`. `actor` and `why` are shown to everybody."""
    held = duration(duration_s, "duration_s")
    request = pb.ForceOpenBreakerRequest(job_type=job_type, tenant=tenant, duration=held, actor=actor, why=why)
    return _call("ForceOpenBreaker", request, timeout)


def disable(job_type: str, *, tenant: str = "", actor: str = "", why: str = "", timeout: float | None = None) -> Call[Breaker]:
    """Disable a breaker: every job runs, nothing is counted. `actor` and `why` are shown to everybody."""
    return _call("DisableBreaker", pb.DisableBreakerRequest(job_type=job_type, tenant=tenant, actor=actor, why=why), timeout)


def metrics_only(job_type: str, *, tenant: str = "", actor: str = "", why: str = "", timeout: float | None = None) -> Call[Breaker]:
    """Let a breaker count without acting. `actor` and `why` are shown to everybody."""
    request = pb.SetBreakerMetricsOnlyRequest(job_type=job_type, tenant=tenant, actor=actor, why=why)
    return _call("SetBreakerMetricsOnly", request, timeout)


def auto(job_type: str, *, tenant: str = "", timeout: float | None = None) -> Call[Breaker]:
    """Let a breaker decide by itself again. NotFound if it is unknown."""
    return _call("SetBreakerAuto", pb.SetBreakerAutoRequest(job_type=job_type, tenant=tenant), timeout)


def probe(job_type: str, *, tenant: str = "", timeout: float | None = None) -> Call[Breaker]:
    """Probe an open breaker now instead of after its cooldown. FailedPrecondition unless it is OPEN or HALF_OPEN."""
    return _call("ProbeBreaker", pb.ProbeBreakerRequest(job_type=job_type, tenant=tenant), timeout)


def _call(method: str, request: Any, timeout: float | None) -> Call[Breaker]:
    """All of them have the same answer, and the same effect when they are repeated."""
    return Call(Rpc.of_breakers(method), request, lambda reply: read(reply.breaker, Breaker), timeout)
