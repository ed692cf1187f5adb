"""Where chaos happens: private servers, each behind a proxy, and a fleet that knows the proxies alone."""

from __future__ import annotations

import asyncio
import json
import tempfile
import traceback
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiormq
import asyncpg

from scripts.servers import SERVERS, free_port
from sickbay.adapters.rabbitmq.topology import QUEUES
from tests.support.fake_dependency import Clinic
from tests.support.faults.proxy import Proxy
from tests.support.fleet import Fleet, Service

SETTINGS = {
    "JOB_HANDLERS": "clinic_handlers",
    "CONCURRENCY": "20",
    "COOLDOWN_PERIOD": "1",
    "BREAKER_MAX_COOLDOWN": "3",
    "RETRY_DELAY_MS": "300",
    "SICKBAY_CONFIG": "sickbay.toml",
}
SETTINGS_FILE = '[defaults]\nretry = { max_delay = "20s" }\n'
"""Jobs that an outage has failed again and again come back while the audit waits for them."""
PLACES = ("controlplane", "controlplane", "jobapi", "jobapi", "worker", "worker", "worker")


@dataclass
class Place:
    """One service's place: whoever comes after a kill listens on the same ports."""

    module: str
    http: int = field(default_factory=free_port)
    grpc: int = field(default_factory=free_port)
    service: Service | None = None


@dataclass
class Arena:
    """Servers and proxies by the names `rabbitmq`, `redis`, `postgres`; what blocks is done in threads, for the proxies' sake."""

    clinic: Clinic
    servers: Mapping[str, Any]
    proxies: Mapping[str, Proxy]
    fleet: Fleet
    places: list[Place]

    def launch(self, place: Place) -> None:
        """Start a service there."""
        (place.service,) = self.fleet.launch(place.module, PORT=str(place.http), GRPC_PORT=str(place.grpc))

    async def kill(self, place: Place) -> None:
        """Kill -9, and a new one in its place."""
        assert place.service
        await asyncio.to_thread(self.fleet.retire, place.service)
        faults = [fault for fault in place.service.faults if fault["level"] != "unreadable"]  # the last line may be cut in two
        if faults:
            told = "\n".join(json.dumps(fault) for fault in faults)
            raise AssertionError(f"{place.module} had logged {len(faults)} faults before it was killed:\n{told}")
        self.launch(place)

    async def calm(self) -> None:
        """No fault is on any more."""
        for proxy in self.proxies.values():
            await proxy.accept()
            proxy.heal()
            proxy.latency = 0
        for server in self.servers.values():
            server.thaw()

    def targets(self, module: str) -> list[str]:
        """The gRPC addresses of a service."""
        return [f"127.0.0.1:{place.grpc}" for place in self.places if place.module == module]

    async def depths(self) -> Mapping[str, int]:
        """The messages in each queue that nobody has in hand, asked behind the proxy's back."""
        async with aiormq.connect(self.servers["rabbitmq"].url) as connection:
            channel = await connection.channel()
            answers = {queue.name: await channel.queue_declare(queue.name, passive=True) for queue in QUEUES}
        return {name: answer.message_count or 0 for name, answer in answers.items()}

    async def sql(self, statement: str) -> list[asyncpg.Record]:
        """Rows of the ledger, behind the proxy's back."""
        connection = await asyncpg.connect(self.servers["postgres"].url)
        try:
            return list(await connection.fetch(statement))
        finally:
            await connection.close()


@asynccontextmanager
async def open_arena() -> AsyncIterator[Arena]:
    """Everything running and ready; at the end the services must stop as they should."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sickbay-chaos-", ignore_cleanup_errors=True)))
        folder.chmod(0o755)  # PostgreSQL's own user must get there
        servers = {name: kind(folder / name) for name, kind in SERVERS.items()}
        for server in servers.values():
            stack.push_async_callback(asyncio.to_thread, server.stop)
            await asyncio.to_thread(server.start)
        proxies = {name: await stack.enter_async_context(Proxy("127.0.0.1", server.port)) for name, server in servers.items()}
        home = folder / "home"
        home.mkdir()
        (home / "sickbay.toml").write_text(SETTINGS_FILE)
        clinic = Clinic(home)
        fleet = Fleet(home, SETTINGS | _urls(proxies))
        arena = Arena(clinic, servers, proxies, fleet, [Place(module) for module in PLACES])
        for place in arena.places:
            arena.launch(place)
        await asyncio.to_thread(fleet.ready)
        stack.push_async_callback(asyncio.to_thread, fleet.stop)
        try:
            yield arena
            await asyncio.to_thread(fleet.ready)  # one that was begun anew a moment ago cannot stop as it should yet
        except BaseException:
            # What follows may fail as well and hide it; and services can stop in the weather that broke the test, but slowly.
            traceback.print_exc()
            await arena.calm()
            raise


def _urls(proxies: Mapping[str, Proxy]) -> dict[str, str]:
    """A silent RabbitMQ is noticed after two heartbeats of 2 s."""
    ports = {name: proxy.port for name, proxy in proxies.items()}
    return {
        "RABBITMQ_URL": f"amqp://guest:guest@127.0.0.1:{ports['rabbitmq']}/%2F?heartbeat=2",
        "REDIS_URL": f"redis://127.0.0.1:{ports['redis']}",
        "DATABASE_URL": f"postgresql://postgres@127.0.0.1:{ports['postgres']}/postgres",
    }
