"""The commands about incidents: list, show, ack."""

from __future__ import annotations

import click

from sickbay.breakers.v1.incident_pb2 import Incident
from sickbay.breakers.v1.incident_service_pb2 import AcknowledgeIncidentRequest, GetIncidentRequest, ListIncidentsRequest
from sickbay.server.rest.views import incident_view
from sickbay_cli import client, options
from sickbay_cli.incident_tables import show_incident, show_incidents
from sickbay_cli.jobs import now
from sickbay_cli.options import Endpoint, examples
from sickbay_cli.output import document, more, pages, remark


class _ListUnlessNamed(click.Group):
    """`sickbay incidents --open` is `sickbay incidents list --open`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_ListUnlessNamed)
def incidents() -> None:
    """Show outages of breakers: what happened, and what it cost.

    An incident begins when a breaker opens and ends when it closes; one that opens again soon after continues its incident. Without a
    command it lists them.
    """


@incidents.command("list", epilog=examples("sickbay incidents", "sickbay incidents --open", "sickbay incidents list --type email --json"))
@options.job_type
@options.tenant
@click.option("--open/--closed", "is_open", default=None, help="Only those that go on, or only those that are over.")
@options.limit
@options.page_token
@options.endpoints("control-plane")
@options.as_json
def list_(*, job_type: str, tenant: str, is_open: bool | None, limit: int, page_token: str, control_plane: Endpoint, as_json: bool) -> None:
    """List incidents, latest first."""
    with client.incidents(control_plane) as stub:

        def fetch(size: int, token: str) -> tuple[list[Incident], str]:
            query = ListIncidentsRequest(job_type=job_type, tenant=tenant, open=is_open, page_size=size, page_token=token)
            page = stub.ListIncidents(query, timeout=control_plane.timeout)
            return list(page.incidents), page.next_page_token

        found, token = pages(fetch, limit, page_token)
    if as_json:
        document({"incidents": list(map(incident_view, found))} | ({"nextPageToken": token} if token else {}))
    elif found:
        show_incidents(found, now())
    else:
        remark("no incidents match" if job_type or tenant or is_open is not None else "there have been no incidents")
    more("incidents", len(found), token)


@incidents.command(epilog=examples("sickbay incidents show 12", "sickbay incidents show 12 --json | jq .timeline"))
@click.argument("incident_id", metavar="ID")
@options.endpoints("control-plane")
@options.as_json
def show(*, incident_id: str, control_plane: Endpoint, as_json: bool) -> None:
    """Show one incident with its cause and its timeline."""
    with client.incidents(control_plane) as stub:
        found = stub.GetIncident(GetIncidentRequest(incident_id=incident_id), timeout=control_plane.timeout).incident
    _print(found, as_json=as_json)


@incidents.command(epilog=examples('sickbay incidents ack 12 --note "the provider knows, ticket 4711"'))
@click.argument("incident_id", metavar="ID")
@click.option("--note", default="", metavar="TEXT", help="What others should know.")
@options.actor
@options.endpoints("control-plane")
@options.as_json
def ack(*, incident_id: str, note: str, actor: str, control_plane: Endpoint, as_json: bool) -> None:
    """Tell others that you have taken note of an incident.

    It does not close the incident: the breaker does, when a probe succeeds. A later acknowledgement replaces an earlier one.
    """
    request = AcknowledgeIncidentRequest(incident_id=incident_id, note=note, actor=actor)
    with client.incidents(control_plane) as stub:
        found = stub.AcknowledgeIncident(request, timeout=control_plane.timeout).incident
    _print(found, as_json=as_json)


def _print(incident: Incident, *, as_json: bool) -> None:
    if as_json:
        document(incident_view(incident))
    else:
        show_incident(incident, now())
