"""The commands about the audit log: list, export."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import click
from google.protobuf.timestamp_pb2 import Timestamp

from sickbay.audit.v1.audit_pb2 import AuditEntry
from sickbay.audit.v1.audit_service_pb2 import ListAuditEntriesRequest
from sickbay.server.rest.views import audit_view, encode
from sickbay_cli import client, options
from sickbay_cli.durations import moment, parse_span
from sickbay_cli.format import join_nonempty, ms
from sickbay_cli.jobs import now
from sickbay_cli.options import Endpoint, examples
from sickbay_cli.output import Cell, Column, document, more, pages, remark, table

PAGE: Final = 1_000
COLUMNS: Final = (
    Column("TIME"),
    Column("PRINCIPAL"),
    Column("ACTION"),
    Column("TARGET"),
    Column("RESULT"),
    Column("CHANGE", least=100),
    Column("FROM", least=120),
    Column("NOTE", least=90, loose=True),
)

Function = TypeVar("Function", bound=Callable[..., Any])


class _Time(click.ParamType[int]):
    """A moment: RFC 3339, or how long ago. The command gets milliseconds since the epoch."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        text = str(value).strip()
        try:
            return now() - parse_span(text)
        except ValueError:
            pass
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            self.fail(f"{text!r} is neither a time such as 2026-01-31T08:00:00Z nor a duration such as 24h", param, ctx)
        if at.tzinfo is None:
            self.fail(f"{text!r} has no time zone; add Z for UTC, or for example +01:00", param, ctx)
        return round(at.astimezone(UTC).timestamp() * 1000)


_TIME: Final = _Time()


def _filters(command: Function) -> Function:
    for option in reversed(
        (
            click.option("--since", type=_TIME, metavar="TIME", help="Only what began then or later: 24h (ago), 2026-01-31T08:00:00Z."),
            click.option("--until", type=_TIME, metavar="TIME", help="Only what began before."),
            click.option("--principal", default="", help="Only this principal."),
            click.option("--action", default="", help="Only this RPC, such as ResetBreaker."),
            click.option("--target", default="", help="Only this job, incident or breaker."),
            options.tenant,
            click.option("--result", default="", help="Only this result: OK, STARTED, or a gRPC status code."),
            click.option("--refused", is_flag=True, help="Only calls that were refused."),
        )
    ):
        command = option(command)
    return command


@click.group()
def audit() -> None:
    """Show who did what, and what was refused.

    It needs the role `admin` where access control is on.
    """


@audit.command("list", epilog=examples("sickbay audit list --since 24h", "sickbay audit list --refused --json"))
@_filters
@options.limit
@options.page_token
@options.endpoints("control-plane")
@options.as_json
def list_(*, limit: int, page_token: str, control_plane: Endpoint, as_json: bool, **filters: Any) -> None:
    """List entries, latest first."""
    with client.audit(control_plane) as stub:

        def fetch(size: int, token: str) -> tuple[list[AuditEntry], str]:
            page = stub.ListAuditEntries(_query(filters, page_size=size, page_token=token), timeout=control_plane.timeout)
            return list(page.entries), page.next_page_token

        found, token = pages(fetch, limit, page_token)
    if as_json:
        document({"entries": list(map(audit_view, found))} | ({"nextPageToken": token} if token else {}))
    elif found:
        table(COLUMNS, list(map(_row, found)))
    else:
        remark("no entries match")
    more("entries", len(found), token)


@audit.command(epilog=examples("sickbay audit export > audit.jsonl", "sickbay audit export --since 2026-01-31T08:00:00Z >> audit.jsonl"))
@_filters
@options.endpoints("control-plane")
def export(*, control_plane: Endpoint, **filters: Any) -> None:
    """Print all entries as JSON lines, oldest first.

    To go on with an earlier export, give the `time` of its last line to --since: that entry comes again, with the same `entryId`, and
    what was STARTED then has its result now.
    """
    token = ""
    with client.audit(control_plane) as stub:
        while True:
            query = _query(filters, oldest_first=True, page_size=PAGE, page_token=token)
            page = stub.ListAuditEntries(query, timeout=control_plane.timeout)
            for entry in page.entries:
                click.echo(encode(audit_view(entry)).decode())
            token = page.next_page_token
            if not token:
                break
    sys.stdout.flush()


def _query(filters: dict[str, Any], **more: Any) -> ListAuditEntriesRequest:
    named = dict(filters)
    return ListAuditEntriesRequest(start_time=_timestamp(named.pop("since")), end_time=_timestamp(named.pop("until")), **named, **more)


def _timestamp(at: int | None) -> Timestamp | None:
    if at is None:
        return None
    found = Timestamp()
    found.FromMilliseconds(at)
    return found


def _row(entry: AuditEntry) -> list[Cell]:
    refused = entry.result in {"PERMISSION_DENIED", "UNAUTHENTICATED"}
    style = "red" if refused else "green" if entry.result == "OK" else "yellow"
    change = join_nonempty(" -> ", entry.before, entry.after)
    claimed = f"claims to be {entry.claimed_actor}" if entry.claimed_actor and entry.claimed_actor != entry.principal else ""
    calls = f"{entry.count:,} calls" if entry.count > 1 else ""
    return [
        moment(ms(entry, "time")),
        entry.principal,
        entry.action,
        join_nonempty(" ", entry.target_kind, entry.target, f"({entry.tenant})" if entry.tenant else ""),
        (entry.result, style),
        change,
        join_nonempty(" ", entry.source, f"({entry.door})"),
        join_nonempty(", ", claimed, entry.note, calls, entry.message),
    ]
