"""Opens a Redis with short timeouts, and translates everything its driver can raise into `Unavailable`.

The driver's own defaults retry ten times and wait 5 s each: a worker would stand still for as long as Redis does. Here one call takes
at most half a second, and what happens then is decided by `store.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from sickbay.errors import Unavailable

TIMEOUT_S: Final = 0.25
"""For connecting, and for each answer."""
MAX_CONNECTIONS: Final = 16

Client = Redis


class StoreSilent(Unavailable):
    """Redis did not answer, or refused. `detail` is the driver's own word, for the log alone."""

    def __init__(self, detail: str) -> None:
        """Take what the driver said; it never is part of the message."""
        super().__init__("Redis does not answer; nothing is lost, try again later")
        self.detail = detail


def open_client(url: str) -> Client:
    """A client of `redis://`, `rediss://` (TLS) or `unix://`; connects at the first command. ValueError if the URL is none of them."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=MAX_CONNECTIONS,
        timeout=2 * TIMEOUT_S,
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        socket_keepalive=True,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        driver_info=None,
    )
    return Redis.from_pool(pool)


def place(url: str) -> str:
    """Where a URL leads, without user, password and options: fit for a log."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}{parts.path}"


@contextmanager
def translated() -> Iterator[None]:
    """The only place where the driver's exceptions are known."""
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise StoreSilent(f"{type(error).__name__}: {error}") from error
    except RuntimeError as error:
        # uvloop's word for a connection that was reset between two commands; the driver lets it through.
        if "closed" not in str(error):
            raise
        raise StoreSilent(f"{type(error).__name__}: {error}") from error
