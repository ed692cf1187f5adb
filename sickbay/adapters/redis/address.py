"""Where Redis is: REDIS_URL, checked before anything connects, and shown without its password."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from redis.asyncio import BlockingConnectionPool, SSLConnection
from redis.asyncio.connection import AbstractConnection, RedisSSLContext
from redis.exceptions import RedisError

from sickbay.domain.errors import SettingsError
from sickbay.system.forks import keep_server

_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


class SharedTls(SSLConnection):
    """Connections of one pool share what is trusted: the driver would read all authorities of the machine for each, in the event loop."""

    def __init__(self, *, shared: RedisSSLContext, **options: Any) -> None:
        """`shared` has been read."""
        super().__init__(**options)
        self.ssl_context = shared


def make_pool(url: str, **options: Any) -> BlockingConnectionPool:
    """The connections of `redis://`, `rediss://` (TLS) or `unix://`, none made yet; parameters in the URL win over `options`.

    SettingsError if the URL is none of these, or has a parameter that cannot be meant.
    """
    try:
        parts = urlsplit(url)
        _try(parts._replace(query=""), options)
    except ValueError:
        raise _settings_error("it is not a valid URL") from None
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name in _FILES and not Path(value).is_file():
            raise _settings_error(f"the file of {name} does not exist")
        try:
            _try(parts._replace(query=urlencode({name: value})), options)
        except (TypeError, ValueError, RedisError):
            raise _settings_error(f"unknown parameter {name!r} with {parts.scheme}://, or its value is invalid") from None
    pool = BlockingConnectionPool.from_url(url, **options)
    keep_server(pool.connection_kwargs.get("path") or ("", pool.connection_kwargs.get("port", 6379)))
    sample = _unconnected(pool)
    if isinstance(sample, SSLConnection):
        try:
            sample.ssl_context.get()
        except OSError:
            raise _settings_error(f"a file of {', '.join(_FILES)} is invalid") from None
        pool.connection_class = SharedTls
        pool.connection_kwargs["shared"] = sample.ssl_context
    return pool


def place(url: str) -> str:
    """Where a URL leads, without user, password and options: fit for a log."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}{parts.path}"


def _try(parts: SplitResult, options: dict[str, Any]) -> None:
    _unconnected(BlockingConnectionPool.from_url(parts.geturl(), **options))


def _unconnected(pool: BlockingConnectionPool) -> AbstractConnection:
    """The driver looks at most parameters only when it makes a connection: this one is never connected."""
    return pool.connection_class(**pool.connection_kwargs)


def _settings_error(why: str) -> SettingsError:
    forms = "redis://user:password@host:6379/0, rediss://host:6379?ssl_ca_certs=/path/to/ca.pem for TLS, or unix:///path/to/socket"
    return SettingsError(f"REDIS_URL must be {forms}: {why}")
