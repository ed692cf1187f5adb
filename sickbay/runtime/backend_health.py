"""Composes what the backends in use say of themselves: whether they can be used, and what is wrong."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from sickbay.adapters.embedded.breakers import EmbeddedBreakers
from sickbay.adapters.embedded.broker import SqliteBroker
from sickbay.adapters.embedded.datafolder import DataFolder
from sickbay.adapters.rabbitmq.broker import RabbitBroker
from sickbay.adapters.redis.breakers import RedisBreakers
from sickbay.adapters.redis.keys import RedisIdempotencyKeys
from sickbay.adapters.sql.ledger import Ledger
from sickbay.adapters.sql.listener import AlwaysUp
from sickbay.domain.backend_status import BackendStatus


def system_of(broker: SqliteBroker | RabbitBroker) -> str:
    """The messaging system, as traces name it."""
    return "rabbitmq" if isinstance(broker, RabbitBroker) else "sickbay"


def all_ready(broker: SqliteBroker | RabbitBroker, ledger: Ledger | None) -> Callable[[], Awaitable[None]]:
    """What waits until they can be used."""

    async def ready() -> None:
        if isinstance(broker, RabbitBroker):
            await broker.ready()
        if ledger is not None:
            await ledger.link.wait_up()

    return ready


def backend_status(
    broker: SqliteBroker | RabbitBroker,
    ledger: Ledger | None,
    breakers: EmbeddedBreakers | RedisBreakers | None = None,
    *,
    keys: RedisIdempotencyKeys | None = None,
    folder: DataFolder | None = None,
) -> BackendStatus:
    """The status of the backends in use; `folder` is that of embedded ones."""
    up: dict[str, Callable[[], bool]] = {"broker": lambda: broker.is_ready if isinstance(broker, RabbitBroker) else broker.is_open}
    troubles: dict[str, Callable[[], str]] = {"broker": lambda: _disk(broker, SqliteBroker, folder) or broker.trouble}
    if breakers is not None:
        up["breakers"] = lambda: not (isinstance(breakers, RedisBreakers) and breakers.is_degraded)
        troubles["breakers"] = lambda: breakers.trouble if isinstance(breakers, RedisBreakers) else ""
    if ledger is not None:
        up["ledger"] = lambda: ledger.link.is_up and not ledger.write_check.trouble
        troubles["ledger"] = lambda: _disk(ledger.link, AlwaysUp, folder) or ledger.trouble
    if keys is not None:
        up["keys"] = lambda: not keys.trouble
        troubles["keys"] = lambda: keys.trouble
    return BackendStatus(
        up=up,
        troubles=troubles,
        is_blocked=lambda: isinstance(broker, RabbitBroker) and broker.is_blocked,
        stale=lambda: breakers.stale if breakers is not None else 0,
        shut_here=lambda: {key.job_type for key in breakers.shut_here} if isinstance(breakers, RedisBreakers) else (),
    )


def _disk(part: object, embedded: type, folder: DataFolder | None) -> str:
    """The disk problem of an embedded backend, empty if there is none."""
    return folder.trouble if folder is not None and isinstance(part, embedded) else ""
