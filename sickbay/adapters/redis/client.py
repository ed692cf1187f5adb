"""Creates Redis clients with short timeouts, and translates everything the driver can raise into `Unavailable`.

The driver's defaults are ten retries and timeouts of 5 s: a worker would block for as long as Redis does. Here one call takes at most
half a second; `guarded_client.py` decides what happens then.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ClusterDownError, NoPermissionError, OutOfMemoryError, ReadOnlyError, RedisError, ResponseError

from sickbay.adapters.redis.address import make_pool
from sickbay.domain.errors import Unavailable

TIMEOUT_S: Final = 0.25
"""For connecting, and for each answer."""
MAX_CONNECTIONS: Final = 16

UNAVAILABLE: Final = "Redis is unavailable"
REJECTS_WRITES: Final = "Redis rejects writes"

Client = Redis


class RedisUnavailable(Unavailable):
    """Redis did not answer, or answered with an error. `detail` is the driver's message, for the log alone."""

    def __init__(self, detail: str) -> None:
        """Set `detail`, which never is part of the message."""
        super().__init__("Redis is unavailable; nothing is lost, try again later")
        self.detail = detail


class Refused(RedisUnavailable):
    """Redis answers but rejects writes: it is out of memory, a replica, cannot save, or denies us permission."""


class KeyRejected(RedisUnavailable):
    """Redis answers with any other error: something is wrong with this one key."""


_REFUSAL: Final = re.compile(
    r"\b(OOM|READONLY|MISCONF|NOREPLICAS|NOPERM|CLUSTERDOWN|MASTERDOWN)\b|user executing the script can't|ACL failure in script"
)
"""Error texts for which the driver has no class, or that a script returns."""


def open_client(url: str) -> Client:
    """A client of `redis://`, `rediss://` (TLS) or `unix://`; connects at the first command. SettingsError if the URL is invalid."""
    keeping = {} if url.startswith("unix:") else {"socket_keepalive": True}
    pool = make_pool(
        url,
        max_connections=MAX_CONNECTIONS,
        timeout=2 * TIMEOUT_S,
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        driver_info=None,
        **keeping,
    )
    return Redis.from_pool(pool)


@contextmanager
def translated() -> Iterator[None]:
    """The only place where the driver's exceptions are known."""
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise _translation(error)(_detail(error)) from error
    except RuntimeError as error:
        # uvloop's exception for a connection that was reset between two commands; the driver does not translate it.
        if "closed" not in str(error):
            raise
        raise RedisUnavailable(f"{type(error).__name__}: {error}") from error


def rejection_of(error: Exception) -> KeyRejected:
    """One error among the answers of a pipeline, if it is about its key alone; any other one is raised."""
    kind = _translation(error)
    if not issubclass(kind, KeyRejected):
        raise error
    return kind(_detail(error))


def _translation(error: Exception) -> type[RedisUnavailable]:
    if isinstance(error, (OutOfMemoryError, ReadOnlyError, NoPermissionError, ClusterDownError)):
        return Refused
    if not isinstance(error, ResponseError):
        return RedisUnavailable
    return Refused if _REFUSAL.search(str(error)) else KeyRejected


def _detail(error: BaseException) -> str:
    reason: BaseException | None = error
    while reason is not None and not isinstance(reason, ssl.SSLError):
        reason = reason.__cause__ or reason.__context__
    if isinstance(reason, ssl.SSLCertVerificationError):
        return "certificate verification failed; name the CA file in REDIS_URL with ?ssl_ca_certs=/path/to/ca.pem"
    if reason is not None and any(word in str(reason.reason) for word in ("ALERT_UNKNOWN_CA", "CERTIFICATE")):
        return "it rejects the client certificate (ssl_certfile in REDIS_URL), or requires one"
    return f"{type(error).__name__}: {error}"
