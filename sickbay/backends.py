"""Picks the back ends that the settings name, and opens them. The only module that imports adapters."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom

from sickbay.adapters.embedded.breakers import EmbeddedBreakers
from sickbay.adapters.embedded.broker import SqliteBroker
from sickbay.adapters.embedded.datafolder import open_data_folder
from sickbay.adapters.sql.ledger import open_ledger
from sickbay.errors import SettingsError
from sickbay.ports import Breakers, Broker, Clock, Fence, IdempotencyKeys, JobReader, LedgerWriter, Wards
from sickbay.settings import Settings


@dataclass(frozen=True, slots=True)
class Backends:
    """Everything behind the services; they never know which technology it is."""

    broker: Broker
    breakers: Breakers
    reader: JobReader
    writer: LedgerWriter
    wards: Wards
    fence: Fence
    keys: IdempotencyKeys
    clock: Clock


def wall_clock() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


@asynccontextmanager
async def open_embedded(settings: Settings, folder: Path | None) -> AsyncIterator[Backends]:
    """Everything in this process: durable in `folder`, or in memory if that is None. SettingsError if the folder cannot be used."""
    for name in ("rabbitmq_url", "redis_url", "database_url"):
        if getattr(settings, name) is not None:
            raise SettingsError(f"{name.upper()} is set, but this version of `sickbay up` runs embedded only; unset it and start again")
    if folder is None:
        async with _open(settings, ":memory:", "sqlite://") as backends:
            yield backends
        return
    with open_data_folder(folder) as data:
        async with _open(settings, data.queue_db, f"sqlite:///{data.ledger_db}") as backends:
            yield backends


@asynccontextmanager
async def _open(settings: Settings, queues: Path | str, ledger_url: str) -> AsyncIterator[Backends]:
    breakers = EmbeddedBreakers(settings.breaker_config, wall_clock, SystemRandom(), settings.worker_name)
    async with open_ledger(ledger_url, wall_clock) as ledger, SqliteBroker(queues, wall_clock, settings.sqlite_synchronous) as broker:
        yield Backends(broker, breakers, ledger.reader, ledger.writer, ledger.wards, ledger.fence, ledger.keys, wall_clock)
