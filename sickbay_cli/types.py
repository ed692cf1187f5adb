"""The command that shows job types and the schemas of their payloads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import click

from sickbay.jobs.v1.job_type_pb2 import JobType
from sickbay.jobs.v1.job_type_service_pb2 import GetJobTypeRequest, ListJobTypesRequest
from sickbay.server.rest.views import job_type_view
from sickbay_cli import client, options
from sickbay_cli.durations import relative
from sickbay_cli.format import ms
from sickbay_cli.jobs import now
from sickbay_cli.options import Endpoint, examples
from sickbay_cli.output import Cell, Column, details, document, more, pages, remark, table
from sickbay_cli.payload import pretty

_TYPES: Final = (
    Column("TYPE"),
    Column("WORKERS", right=True),
    Column("POOLS", least=80),
    Column("PAYLOAD"),
    Column("DESCRIPTION", loose=True),
)


@click.command(epilog=examples("sickbay types", "sickbay types email", "sickbay types email --json | jq .schema"))
@click.argument("job_type", metavar="[TYPE]", required=False, default="")
@options.limit
@options.page_token
@options.endpoints("jobapi")
@options.as_json
def types(*, job_type: str, limit: int, page_token: str, jobapi: Endpoint, as_json: bool) -> None:
    """List the job types, or show one with the JSON Schema of its payloads.

    These are the types that live workers take, or have described within the last 24 hours. PAYLOAD is `any` for a JSON object of any
    form, `typed` if workers check it before a run, `checked` if the Job API rejects what does not fit.
    """
    with client.types(jobapi) as stub:
        if job_type:
            _show(stub.GetJobType(GetJobTypeRequest(job_type=job_type), timeout=jobapi.timeout).type, as_json=as_json)
            return

        def fetch(size: int, token: str) -> tuple[list[JobType], str]:
            page = stub.ListJobTypes(ListJobTypesRequest(page_size=size, page_token=token), timeout=jobapi.timeout)
            return list(page.types), page.next_page_token

        found, token = pages(fetch, limit, page_token)
    if as_json:
        document({"types": list(map(job_type_view, found))} | ({"nextPageToken": token} if token else {}))
    elif found:
        _list(found)
    else:
        remark("no live worker takes any job type")
    more("types", len(found), token)


def _list(found: Sequence[JobType]) -> None:
    has_pools = any(one.pools for one in found)
    columns = [column for column in _TYPES if has_pools or column.title != "POOLS"]
    rows = [[cell for cell, column in zip(_row(one), _TYPES, strict=True) if column in columns] for one in found]
    table(columns, rows)


def _row(found: JobType) -> list[Cell]:
    return [found.job_type, str(found.workers), ", ".join(found.pools), _payload(found), found.description]


def _payload(found: JobType) -> str:
    if not found.schema_json:
        return "any"
    return "checked" if found.validated_on_submit else "typed"


def _show(found: JobType, *, as_json: bool) -> None:
    if as_json:
        document(job_type_view(found))
        return
    words = {"any": "any JSON object", "typed": "checked before the run", "checked": "checked when a job is submitted, and before the run"}
    pairs: list[tuple[str, Cell]] = [
        ("type", found.job_type),
        ("description", found.description),
        ("handler", found.handler),
        ("workers", str(found.workers)),
        ("pools", ", ".join(found.pools)),
        ("payload", words[_payload(found)]),
        ("announced", relative(ms(found, "announce_time"), now()) if found.HasField("announce_time") else ""),
        ("schemas", f"{found.schemas} different ones; this is the newest" if found.schemas > 1 else ""),
    ]
    details([(name, cell) for name, cell in pairs if cell])
    if found.schema_json:
        click.echo(f"\n{pretty(found.schema_json)}")
