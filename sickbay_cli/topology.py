"""The commands about the queues in RabbitMQ: check them, and create what is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import click

from sickbay.domain.errors import SickbayError, Unavailable
from sickbay.domain.job import NAME_PATTERN, is_name
from sickbay.runtime.backends import RABBITMQ_URL, apply_topology, check_topology
from sickbay.runtime.settings import Settings
from sickbay_cli import options
from sickbay_cli.exit_codes import Refused, Unreachable
from sickbay_cli.options import examples
from sickbay_cli.output import Column, count, document, table

Answer = TypeVar("Answer")


def _names(_: click.Context, __: click.Parameter, pools: tuple[str, ...]) -> tuple[str, ...]:
    for pool in pools:
        if not is_name(pool):
            raise click.BadParameter(f"{pool!r} is no name of a pool; it must match {NAME_PATTERN}")
    return pools


@click.group()
def topology() -> None:
    """Check or create the queues in RabbitMQ (RABBITMQ_URL).

    Services create what is missing if their user has permission; in production an administrator does, with a user that has the
    configure permission, which the services' users do not have.
    """


_pools = click.option("--pool", "pools", metavar="NAME", multiple=True, callback=_names, help="Also the queue of this pool; repeatable.")


@topology.command(epilog=examples("sickbay topology check", "RABBITMQ_URL=amqps://admin:secret@rabbit/ sickbay topology check"))
@_pools
@options.as_json
def check(*, pools: tuple[str, ...], as_json: bool) -> None:
    """Compare the server's exchanges and queues with ours, changing nothing.

    Exits with 1 if something is missing or different. Bindings and policies cannot be compared; `apply` creates the bindings again.
    """
    drifts = _run(check_topology(_url(), pools))
    if as_json:
        document({"status": "drift" if drifts else "ok", "drift": [{"name": drift.name, "problem": drift.problem} for drift in drifts]})
    elif drifts:
        table((Column("NAME"), Column("PROBLEM")), [(drift.name, drift.problem) for drift in drifts])
    else:
        click.echo("all exchanges and queues are as expected")
    if drifts:
        remedy = "`sickbay topology apply` creates what is missing; what has other arguments must be emptied and deleted first"
        raise Refused(f"{count(len(drifts), 'difference')}: {remedy}")


@topology.command(epilog=examples("sickbay topology apply", "sickbay topology apply --pool reports"))
@_pools
@options.as_json
def apply(*, pools: tuple[str, ...], as_json: bool) -> None:
    """Create what is missing, and every binding; nothing that exists is changed or deleted."""
    created = _run(apply_topology(_url(), pools))
    if as_json:
        document({"created": list(created)})
    else:
        click.echo(f"created {', '.join(created)}" if created else "nothing was missing")


def _url() -> str:
    try:
        return Settings.read().url("rabbitmq_url") or RABBITMQ_URL
    except SickbayError as error:
        raise Refused(str(error)) from None


def _run(work: Coroutine[Any, Any, Answer]) -> Answer:
    try:
        return asyncio.run(work)
    except Unavailable as error:
        raise Unreachable(str(error)) from None
    except SickbayError as error:
        raise Refused(str(error)) from None
