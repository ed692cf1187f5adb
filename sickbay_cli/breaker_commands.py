"""The commands that control a breaker: reset, force-open, disable, metrics-only, auto, probe."""

from __future__ import annotations

import click
from google.protobuf.duration_pb2 import Duration

from sickbay.breakers.v1.breaker_service_pb2 import (
    DisableBreakerRequest,
    ForceOpenBreakerRequest,
    ProbeBreakerRequest,
    ResetBreakerRequest,
    SetBreakerAutoRequest,
    SetBreakerMetricsOnlyRequest,
)
from sickbay.server.rest.views import breaker_view, reset_view
from sickbay_cli import client, options
from sickbay_cli.breaker_tables import name_of
from sickbay_cli.breakers import show
from sickbay_cli.options import Endpoint, examples
from sickbay_cli.output import document

_job_type = click.argument("job_type")
_why = click.option("--why", default="", metavar="TEXT", help="Reason, shown to others.")


@click.command(epilog=examples("sickbay reset email"))
@_job_type
@options.breaker_tenant
@options.endpoints("control-plane")
@options.as_json
def reset(*, job_type: str, tenant: str, control_plane: Endpoint, as_json: bool) -> None:
    """Close a breaker at once and clear its failures.

    A running probe no longer counts. Parked jobs come back by themselves.
    """
    with client.breakers(control_plane) as stub:
        reply = stub.ResetBreaker(ResetBreakerRequest(job_type=job_type, tenant=tenant), timeout=control_plane.timeout)
    view = reset_view(reply.breaker)
    if as_json:
        document(view)
    else:
        click.echo(view["message"])


@click.command(
    "force-open",
    epilog=examples('sickbay force-open email --for 10m --why "mail server moves"', "sickbay force-open email   # until `sickbay auto`"),
)
@_job_type
@click.option("--for", "hold", type=options.SPAN, metavar="SPAN", help="For how long: 30s, 10m, 1h30m, 2d. Default: until auto or reset.")
@_why
@options.actor
@options.breaker_tenant
@options.endpoints("control-plane")
@options.as_json
def force_open(*, job_type: str, hold: int | None, why: str, actor: str, tenant: str, control_plane: Endpoint, as_json: bool) -> None:
    """Hold a breaker open: its jobs are parked.

    When the hold ends, one probe decides whether the breaker closes; it never closes without a successful probe.
    """
    request = ForceOpenBreakerRequest(job_type=job_type, tenant=tenant, actor=actor, why=why)
    if hold is not None:
        request.duration.CopyFrom(Duration(seconds=hold // 1000, nanos=hold % 1000 * 1_000_000))
    with client.breakers(control_plane) as stub:
        show(stub.ForceOpenBreaker(request, timeout=control_plane.timeout).breaker, as_json=as_json)


@click.command(epilog=examples('sickbay disable email --why "counts wrongly, see ticket 123"'))
@_job_type
@_why
@options.actor
@options.breaker_tenant
@options.endpoints("control-plane")
@options.as_json
def disable(*, job_type: str, why: str, actor: str, tenant: str, control_plane: Endpoint, as_json: bool) -> None:
    """Switch a breaker off: every job runs, nothing is counted.

    `sickbay auto` switches it on again.
    """
    request = DisableBreakerRequest(job_type=job_type, tenant=tenant, actor=actor, why=why)
    with client.breakers(control_plane) as stub:
        show(stub.DisableBreaker(request, timeout=control_plane.timeout).breaker, as_json=as_json)


@click.command(
    "metrics-only", epilog=examples("sickbay metrics-only email", "sickbay breakers email   # shows how often it would have opened")
)
@_job_type
@_why
@options.actor
@options.breaker_tenant
@options.endpoints("control-plane")
@options.as_json
def metrics_only(*, job_type: str, why: str, actor: str, tenant: str, control_plane: Endpoint, as_json: bool) -> None:
    """Let a breaker count without acting.

    Every job runs, and the breaker shows how often it would have opened.
    """
    request = SetBreakerMetricsOnlyRequest(job_type=job_type, tenant=tenant, actor=actor, why=why)
    with client.breakers(control_plane) as stub:
        show(stub.SetBreakerMetricsOnly(request, timeout=control_plane.timeout).breaker, as_json=as_json)


@click.command(epilog=examples("sickbay auto email"))
@_job_type
@options.breaker_tenant
@options.endpoints("control-plane")
@options.as_json
def auto(*, job_type: str, tenant: str, control_plane: Endpoint, as_json: bool) -> None:
    """Let a breaker decide by itself again.

    Ends what force-open, disable or metrics-only began; a breaker that was held open continues with a probe.
    """
    request = SetBreakerAutoRequest(job_type=job_type, tenant=tenant)
    with client.breakers(control_plane) as stub:
        show(stub.SetBreakerAuto(request, timeout=control_plane.timeout).breaker, as_json=as_json)


@click.command(epilog=examples("sickbay probe email"))
@_job_type
@options.breaker_tenant
@options.endpoints("control-plane")
@options.as_json
def probe(*, job_type: str, tenant: str, control_plane: Endpoint, as_json: bool) -> None:
    """Probe an open breaker now instead of after its cooldown.

    Exactly one job runs: the oldest parked one, or the next that comes. If a probe is running already, no second one starts.
    """
    request = ProbeBreakerRequest(job_type=job_type, tenant=tenant)
    with client.breakers(control_plane) as stub:
        breaker = stub.ProbeBreaker(request, timeout=control_plane.timeout).breaker
    if as_json:
        document(breaker_view(breaker))
    elif breaker.probe_job_id:
        click.echo(f"Job {breaker.probe_job_id} is already running as the probe of {name_of(breaker)}")
    else:
        click.echo(f"The next job of {name_of(breaker)} is the probe")
