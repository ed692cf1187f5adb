"""Redis for tests: an own database on the server that is there, a server of one's own that may be killed, and a fake in this process.

The server is that of SICKBAY_TEST_REDIS_URL, else redis://localhost:6379. A test that needs it carries the marker `servers`.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from urllib.parse import urlsplit, urlunsplit

import psutil
from fakeredis import FakeAsyncRedis, FakeServer
from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from redis.exceptions import RedisError

from scripts.servers import free_port

SERVER = os.environ.get("SICKBAY_TEST_REDIS_URL", "redis://localhost:6379")
CLAIMS_IN = 15
"""The database that tells which others are in use, and by which process."""


def database(number: int) -> str:
    """The URL of a database of the test server."""
    parts = urlsplit(SERVER)
    return urlunsplit(parts._replace(path=f"/{number}"))


@contextmanager
def claimed_database() -> Iterator[str]:
    """The URL of an empty database that no other test uses meanwhile, also no test of another process."""
    with BlockingRedis.from_url(database(CLAIMS_IN), decode_responses=True) as claims:
        number = next((number for number in range(1, CLAIMS_IN) if _claim(claims, number)), None)
        assert number, "every database of the test server is in use"
        try:
            with BlockingRedis.from_url(database(number)) as mine:
                mine.flushdb()
                yield database(number)
                mine.flushdb()
        finally:
            claims.delete(_claim_key(number))


@asynccontextmanager
async def own_database() -> AsyncIterator[str]:
    """The same for a test with an event loop."""
    with claimed_database() as url:
        yield url


def _claim_key(number: int) -> str:
    return f"sickbay-test:{number}"


def _claim(claims: BlockingRedis, number: int) -> bool:
    """Take a database that nobody has, or whose test was killed."""
    if claims.set(_claim_key(number), os.getpid(), nx=True):
        return True
    holder = claims.get(_claim_key(number))
    if holder is not None and not psutil.pid_exists(int(holder)):
        claims.delete(_claim_key(number))
        return bool(claims.set(_claim_key(number), os.getpid(), nx=True))
    return False


def fake() -> Callable[[str], Redis]:
    """What opens clients of one fake server; stands in for `open_client`."""
    server = FakeServer()
    return lambda _url: FakeAsyncRedis(server=server)


class OwnServer:
    """A redis-server that keeps nothing on disk and may be killed and started again on the same port."""

    def __init__(self, password: str = "") -> None:
        self.port = free_port()
        self._password = password
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"redis://{f':{self._password}@' if self._password else ''}127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start it and wait until it answers."""
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        if self._password:
            options += ["--requirepass", self._password]
        self._process = await asyncio.create_subprocess_exec("redis-server", *options, stdout=asyncio.subprocess.DEVNULL)
        async with Redis.from_url(self.url) as client:
            await eventually(partial(answers, client))

    def signal(self, number: int) -> None:
        """Freeze it (SIGSTOP), thaw it (SIGCONT)."""
        assert self._process is not None
        self._process.send_signal(number)

    async def kill(self) -> None:
        """End it without a farewell."""
        if self._process is not None and self._process.returncode is None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGKILL)
            await self._process.wait()


@asynccontextmanager
async def own_server(password: str = "") -> AsyncIterator[OwnServer]:
    """A server of one's own."""
    server = OwnServer(password)
    try:
        await server.start()
        yield server
    finally:
        await server.kill()


async def answers(client: Redis) -> bool:
    """Whether the server is up."""
    with suppress(RedisError, OSError):
        return bool(await client.ping())
    return False


async def eventually(condition: Callable[[], object], within_s: float = 10) -> None:
    """Return as soon as the condition holds; fail if it does not in time. For facts that nobody announces."""
    async with asyncio.timeout(within_s):
        while True:
            held = condition()
            if await held if asyncio.iscoroutine(held) else held:
                return
            await asyncio.sleep(0.005)
