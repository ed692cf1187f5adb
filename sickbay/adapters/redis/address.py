"""Parses REDIS_URL, checks it before anything connects, and shows it without its password."""

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
    """Connections of one pool share a TLS context: the driver would load all CAs of the machine for each, in the event loop."""

    def __init__(self, *, shared: RedisSSLContext, **options: Any) -> None:
        """`shared` is already loaded."""
        super().__init__(**options)
        self.ssl_context = shared


def make_pool(url: str, **options: Any) -> BlockingConnectionPool:
    """A pool for `redis://`, `rediss://` (TLS) or `unix://`, not connected yet; parameters in the URL override `options`.

    SettingsError if the URL is none of these, or has an invalid parameter.
    """
    try:
        parts = urlsplit(url)
        _try_options(parts._replace(query=""), options)
    except ValueError:
        raise _settings_error("it is not a valid URL") from None
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name in _FILES and not Path(value).is_file():
            raise _settings_error(f"the file of {name} does not exist")
        try:
            _try_options(parts._replace(query=urlencode({name: value})), options)
        except (TypeError, ValueError, RedisError):
            raise _settings_error(f"unknown parameter {name!r} with {parts.scheme}://, or its value is invalid") from None
    pool = BlockingConnectionPool.from_url(url, **options)
    keep_server(pool.connection_kwargs.get("path") or ("", pool.connection_kwargs.get("port", 6379)))
    sample = _sample_connection(pool)
    if isinstance(sample, SSLConnection):
        try:
            sample.ssl_context.get()
        except OSError:
            raise _settings_error(f"a file of {', '.join(_FILES)} is invalid") from None
        pool.connection_class = SharedTls
        pool.connection_kwargs["shared"] = sample.ssl_context
    return pool


def display_url(url: str) -> str:
    """The URL without user, password and options, for logs."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}{parts.path}"


def _try_options(parts: SplitResult, options: dict[str, Any]) -> None:
    _sample_connection(BlockingConnectionPool.from_url(parts.geturl(), **options))


def _sample_connection(pool: BlockingConnectionPool) -> AbstractConnection:
    """A connection that is never opened: the driver checks most parameters only when it creates one."""
    return pool.connection_class(**pool.connection_kwargs)


def _settings_error(why: str) -> SettingsError:
    forms = "redis://user:password@host:6379/0, rediss://host:6379?ssl_ca_certs=/path/to/ca.pem for TLS, or unix:///path/to/socket"
    return SettingsError(f"REDIS_URL must be {forms}: {why}")
