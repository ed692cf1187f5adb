"""The command that shows breakers: all, one, or every change as it comes."""

from __future__ import annotations

import click

from sickbay.breakers.v1.breaker_pb2 import Breaker
from sickbay.breakers.v1.breaker_service_pb2 import GetBreakerRequest, ListBreakersRequest, WatchBreakersRequest
from sickbay.breakers.v1.breaker_service_pb2_grpc import BreakerServiceStub
from sickbay.server.rest.views import breaker_view, breakers_view
from sickbay_cli import client, options
from sickbay_cli.breaker_tables import show_breaker, show_breakers, show_change
from sickbay_cli.exit_codes import Unreachable
from sickbay_cli.jobs import now
from sickbay_cli.options import Endpoint, examples
from sickbay_cli.output import document, more, pages, record, remark


@click.command(epilog=examples("sickbay breakers", "sickbay breakers email", "sickbay breakers --watch", "sickbay breakers email --json"))
@click.argument("job_type", required=False, default="")
@click.option("--watch", is_flag=True, help="Print the breakers as they are, then every change, until Ctrl-C.")
@options.tenant
@options.limit
@options.page_token
@options.endpoints("control-plane")
@options.as_json
def breakers(*, job_type: str, tenant: str, limit: int, page_token: str, control_plane: Endpoint, watch: bool, as_json: bool) -> None:
    """Show the breakers, or one of them.

    A job type has a breaker once a worker has seen one of its jobs.
    """
    with client.breakers(control_plane) as stub:
        if watch:
            _watch(stub, WatchBreakersRequest(job_type=job_type, tenant=tenant), as_json=as_json)
        elif job_type:
            show(
                stub.GetBreaker(GetBreakerRequest(job_type=job_type, tenant=tenant), timeout=control_plane.timeout).breaker, as_json=as_json
            )
        else:
            _list(stub, tenant, limit, page_token, control_plane.timeout, as_json=as_json)


def show(breaker: Breaker, *, as_json: bool) -> None:
    """Print one breaker."""
    if as_json:
        document(breaker_view(breaker))
    else:
        show_breaker(breaker, now())


def _list(stub: BreakerServiceStub, tenant: str, limit: int, page_token: str, timeout: float, *, as_json: bool) -> None:
    def fetch(size: int, token: str) -> tuple[list[Breaker], str]:
        page = stub.ListBreakers(ListBreakersRequest(tenant=tenant, page_size=size, page_token=token), timeout=timeout)
        return list(page.breakers), page.next_page_token

    found, token = pages(fetch, limit, page_token)
    if as_json:
        document(breakers_view(list(map(breaker_view, found)), token))
    elif found:
        show_breakers(found, now())
    else:
        remark("there are no breakers yet; a job type has one once a worker has seen one of its jobs")
    more("breakers", len(found), token)


def _watch(stub: BreakerServiceStub, request: WatchBreakersRequest, *, as_json: bool) -> None:
    for reply in stub.WatchBreakers(request):
        if as_json:
            record(breaker_view(reply.breaker))
        else:
            show_change(reply.breaker, now())
    raise Unreachable("the control plane ended the stream; run the command again to continue")
