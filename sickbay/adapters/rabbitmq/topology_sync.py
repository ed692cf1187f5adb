"""Brings the topology to a server and compares: at the begin of a session, and for `sickbay topology check|apply`."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import aiormq
from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity, ChannelPreconditionFailed

from sickbay.adapters.rabbitmq.address import HEARTBEAT_S, Address
from sickbay.adapters.rabbitmq.errors import connecting, translated
from sickbay.adapters.rabbitmq.session import goodbye, open_channel
from sickbay.adapters.rabbitmq.topology import BINDINGS, EXCHANGES, QUEUES, ExchangeSpec, QueueSpec
from sickbay.adapters.rabbitmq.transport import Transport
from sickbay.domain.errors import FailedPrecondition, Unavailable

TIMEOUT_S: Final = 10.0
_DIFFERENCE: Final = re.compile(r"inequivalent arg '([^']+)'.*?received (.+?) but current is (.+)")
_PLAIN: Final = re.compile(r"(?:the value )?'?([^']*)'?(?: of type '\w+')?")
_NEEDS_CONFIGURE: Final = "permission denied: the user of RABBITMQ_URL has no configure permission; use one that has it"

log = logging.getLogger(__name__)

Spec = ExchangeSpec | QueueSpec

_SPECS: Final[tuple[Spec, ...]] = (*EXCHANGES, *QUEUES)


@dataclass(frozen=True, slots=True)
class Drift:
    """One way in which the server is not as it should be."""

    name: str
    """Of the exchange or the queue."""
    problem: str
    """A sentence without its subject: "is missing", "has x-delivery-limit 20 instead of 1000000"."""


async def ensure(connection: aiormq.Connection) -> None:
    """Look whether everything is there, which needs no permission, and create what is not; Unavailable if we must not.

    Bindings cannot be looked at over AMQP: they are made when anything was missing.
    """
    missing = await _missing(connection)
    if not missing:
        return
    log.info("creating %s in RabbitMQ", ", ".join(spec.name for spec in missing))
    try:
        await _create(connection, missing)
    except ChannelAccessRefused:
        problem = f"{missing[0].name} is missing, and the user of RABBITMQ_URL has no permission to create it"
        raise Unavailable(f"{problem}; run `sickbay topology apply` as an administrator") from None


async def check(url: str) -> Sequence[Drift]:
    """What is missing or has other arguments than ours. The user needs the permission to configure.

    SettingsError or Unavailable if the server cannot be used. Bindings cannot be compared over AMQP; `apply` makes them anew.
    """
    async with _connection(url) as connection:
        missing = await _missing(connection)
        problems = [(spec, "is missing" if spec in missing else await _difference(connection, spec)) for spec in _SPECS]
        return [Drift(spec.name, problem) for spec, problem in problems if problem]


async def apply(url: str) -> Sequence[str]:
    """Create what is missing and bind everything; the names of what was created. Nothing existing is changed or deleted.

    FailedPrecondition if something exists with other arguments, or the user must not configure.
    """
    async with _connection(url) as connection:
        missing = await _missing(connection)
        try:
            await _create(connection, _SPECS)
        except ChannelAccessRefused:
            raise FailedPrecondition(_NEEDS_CONFIGURE) from None
        except ChannelPreconditionFailed:
            raise FailedPrecondition("a queue or exchange exists with other arguments; `sickbay topology check` shows which") from None
        return [spec.name for spec in missing]


@asynccontextmanager
async def _connection(url: str) -> AsyncIterator[aiormq.Connection]:
    address = Address.parse(url)
    transport = Transport()
    connection = aiormq.Connection(address.connecting(HEARTBEAT_S), transport_factory=transport)
    try:
        with connecting(address):
            async with asyncio.timeout(TIMEOUT_S):
                await connection.connect()
        with translated():
            async with asyncio.timeout(TIMEOUT_S):
                yield connection
    finally:
        await goodbye(connection, transport)


async def _missing(connection: aiormq.Connection) -> Sequence[Spec]:
    return [spec for spec in _SPECS if await _try(connection, spec, passive=True) is not None]


async def _difference(connection: aiormq.Connection, spec: Spec) -> str:
    """How an existing one differs; empty if it does not."""
    error = await _try(connection, spec, passive=False)
    if error is None:
        return ""
    if isinstance(error, ChannelAccessRefused):
        raise FailedPrecondition(_NEEDS_CONFIGURE)
    found = _DIFFERENCE.search(str(error))
    if found is None:
        return "has other arguments"
    name, ours, theirs = (_plain(part) for part in found.groups())
    return f"has {name} {theirs} instead of {ours}"


def _plain(words: str) -> str:
    """`the value '20' of type 'signedint'` is 20."""
    found = _PLAIN.fullmatch(words)
    return found.group(1) if found else words


async def _try(connection: aiormq.Connection, spec: Spec, *, passive: bool) -> Exception | None:
    """Declare on a channel of its own, for a refusal closes it; the refusal, or None."""
    channel = await open_channel(connection)
    try:
        await _declare(channel, spec, passive=passive)
    except (ChannelNotFoundEntity, ChannelPreconditionFailed, ChannelAccessRefused) as error:
        return error
    await channel.close()
    return None


async def _create(connection: aiormq.Connection, specs: Sequence[Spec]) -> None:
    channel = await open_channel(connection)
    for spec in specs:
        await _declare(channel, spec, passive=False)
    for binding in BINDINGS:
        await channel.queue_bind(binding.queue, binding.exchange, binding.key)
    await channel.close()


def _declare(channel: aiormq.Channel, spec: Spec, *, passive: bool) -> Awaitable[Any]:
    declare: Callable[..., Awaitable[Any]]
    if isinstance(spec, ExchangeSpec):
        declare = channel.exchange_declare
        return declare(spec.name, exchange_type=spec.kind, durable=True, passive=passive)
    declare = channel.queue_declare
    return declare(spec.name, durable=True, passive=passive, arguments=None if passive else dict(spec.arguments))
