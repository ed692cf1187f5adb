"""Creates the topology in a server, and compares: when a session begins, and for `sickbay topology check|apply`.

A session only looks, over its own connection. What has to be declared is declared with aio-pika over a connection of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection
from aiormq.abc import AbstractConnection as DriverConnection
from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity, ChannelPreconditionFailed

from sickbay.adapters.rabbitmq.address import HEARTBEAT_S, Address
from sickbay.adapters.rabbitmq.errors import connecting, translated
from sickbay.adapters.rabbitmq.session import CLOSE_TIMEOUT_S
from sickbay.adapters.rabbitmq.topology import BINDINGS, EXCHANGES, QUEUES, ExchangeSpec, QueueSpec
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


async def ensure(address: Address, session: DriverConnection) -> None:
    """Create what is missing; nothing is declared, and no permission needed, if nothing is. Unavailable if the user may not.

    Bindings cannot be read over AMQP: they are made when anything was missing.
    """
    missing = await _missing(session)
    if not missing:
        return
    log.info("creating %s in RabbitMQ", ", ".join(spec.name for spec in missing))
    async with _connection(address) as connection:
        try:
            await _create(connection, missing)
        except ChannelAccessRefused:
            problem = f"{missing[0].name} is missing, and the user of RABBITMQ_URL has no permission to create it"
            raise Unavailable(f"{problem}; run `sickbay topology apply` as an administrator") from None


async def check(url: str) -> Sequence[Drift]:
    """What is missing or has other arguments than ours. The user needs the permission to configure.

    SettingsError or Unavailable if the server cannot be used. Bindings cannot be compared over AMQP; `apply` makes them anew.
    """
    async with _connection(Address.parse(url)) as connection:
        missing = await _missing(_driver(connection))
        problems = [(spec, "is missing" if spec in missing else await _difference(connection, spec)) for spec in _SPECS]
        return [Drift(spec.name, problem) for spec, problem in problems if problem]


async def apply(url: str) -> Sequence[str]:
    """Create what is missing and bind everything; the names of what was created. Nothing existing is changed or deleted.

    FailedPrecondition if something exists with other arguments, or the user must not configure.
    """
    async with _connection(Address.parse(url)) as connection:
        missing = await _missing(_driver(connection))
        try:
            await _create(connection, _SPECS)
        except ChannelAccessRefused:
            raise FailedPrecondition(_NEEDS_CONFIGURE) from None
        except ChannelPreconditionFailed:
            raise FailedPrecondition("a queue or exchange exists with other arguments; `sickbay topology check` shows which") from None
        return [spec.name for spec in missing]


@asynccontextmanager
async def _connection(address: Address) -> AsyncIterator[AbstractConnection]:
    with connecting(address):
        async with asyncio.timeout(TIMEOUT_S):
            connection = await aio_pika.connect(address.connecting(HEARTBEAT_S))
    try:
        with translated():
            async with asyncio.timeout(TIMEOUT_S):
                yield connection
    finally:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await connection.close()


def _driver(connection: AbstractConnection) -> DriverConnection:
    """The connection of aiormq that aio-pika's is made of."""
    if connection.transport is None:
        raise Unavailable("the connection to RabbitMQ was lost")
    return connection.transport.connection


async def _missing(connection: DriverConnection) -> Sequence[Spec]:
    return [spec for spec in _SPECS if not await _exists(connection, spec)]


async def _exists(connection: DriverConnection, spec: Spec) -> bool:
    """Ask on a channel of its own, for a refusal closes it."""
    channel = await connection.channel(publisher_confirms=False)
    try:
        if isinstance(spec, ExchangeSpec):
            await channel.exchange_declare(spec.name, passive=True)
        else:
            await channel.queue_declare(spec.name, passive=True)
    except (ChannelNotFoundEntity, ChannelPreconditionFailed, ChannelAccessRefused):
        return False
    await channel.close()
    return True


async def _difference(connection: AbstractConnection, spec: Spec) -> str:
    """How an existing one differs; empty if it does not. Declared on a channel of its own, for a refusal closes it."""
    channel = await connection.channel(publisher_confirms=False)
    try:
        await _declare(channel, spec)
    except ChannelAccessRefused:
        raise FailedPrecondition(_NEEDS_CONFIGURE) from None
    except (ChannelNotFoundEntity, ChannelPreconditionFailed) as error:
        found = _DIFFERENCE.search(str(error))
        if found is None:
            return "has other arguments"
        name, ours, theirs = (_plain(part) for part in found.groups())
        return f"has {name} {theirs} instead of {ours}"
    await channel.close()
    return ""


def _plain(words: str) -> str:
    """`the value '20' of type 'signedint'` is 20."""
    found = _PLAIN.fullmatch(words)
    return found.group(1) if found else words


async def _create(connection: AbstractConnection, specs: Sequence[Spec]) -> None:
    channel = await connection.channel(publisher_confirms=False)
    for spec in specs:
        await _declare(channel, spec)
    for binding in BINDINGS:
        queue = await channel.get_queue(binding.queue, ensure=False)
        await queue.bind(binding.exchange, binding.key, arguments=dict(binding.arguments))
    await channel.close()


async def _declare(channel: AbstractChannel, spec: Spec) -> None:
    if isinstance(spec, ExchangeSpec):
        await channel.declare_exchange(spec.name, spec.kind, durable=True)
    else:
        await channel.declare_queue(spec.name, durable=True, arguments=dict(spec.arguments))
