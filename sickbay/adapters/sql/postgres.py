"""Parses a libpq URL, and makes connections with timeouts.

The URL is that of psql and libpq (`postgresql://user:password@host:port/database?sslmode=verify-full&sslrootcert=ca.pem`, several hosts
by commas, `options=-csearch_path%3Dschema`), so what works in psql works here; `hosts.py` chooses the host. It needs
real sessions: a pooler in transaction mode does not support LISTEN.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

import asyncpg  # type: ignore[import-untyped]  # it ships no types
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool
from sqlalchemy.util import await_only

from sickbay.adapters.sql.hosts import Hosts, url_per_host
from sickbay.domain.errors import SettingsError
from sickbay.system.forks import keep_server

CONNECT_S: Final = 5.0
"""The timeout for connecting to one server."""
STATEMENT_S: Final = 20.0
"""The statement timeout, enforced by the server, so that a stuck statement does not lock rows for ever."""
SLACK_S: Final = 5.0
"""How much longer we wait for a server that does not report its statement timeout."""
MIGRATION_S: Final = 3_600.0
CLOSE_S: Final = 1.0
"""The timeout for a graceful close."""

_SCHEMES: Final = {"postgresql", "postgres", "postgresql+asyncpg"}
_MODES: Final = {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}
_FILES: Final = {"sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile"}
_UNDERSTOOD: Final = _FILES | {
    *("host", "port", "dbname", "user", "password", "sslmode", "sslpassword", "sslnegotiation"),
    *(
        "ssl_min_protocol_version",
        "ssl_max_protocol_version",
        "target_session_attrs",
        "krbsrvname",
        "gsslib",
        "options",
        "application_name",
    ),
}
_MEANT_FOR_LIBPQ: Final = {
    *("channel_binding", "gssencmode", "sslcompression", "sslsni", "client_encoding", "fallback_application_name", "connect_timeout"),
    *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout", "require_auth"),
}
_SERVER_SETTINGS: Final = {
    "application_name": "sickbay",
    "jit": "off",  # our statements are short, and compiling one takes longer than running it
    "idle_in_transaction_session_timeout": "20s",  # a suspended process locks rows no longer than that
}


@dataclass(frozen=True, slots=True)
class Server:
    """A parsed URL; hidden from `repr`, because it may contain a password."""

    dsn: str = field(repr=False)
    options: dict[str, Any] = field(repr=False)
    hosts: Hosts = field(repr=False, compare=False)

    async def connect(self, statement_s: float | None = None) -> asyncpg.Connection:
        """A connection to the server that accepts writes; `statement_s` is its statement timeout in seconds.

        The caller must translate the driver's errors.
        """
        return await self.hosts.connect(lambda dsn: self._connect(dsn, statement_s))

    async def _connect(self, dsn: str, statement_s: float | None) -> asyncpg.Connection:
        limit = statement_s or STATEMENT_S
        settings = {**_SERVER_SETTINGS, "statement_timeout": str(round(limit * 1000)), **self.options.get("server_settings", {})}
        options = {"timeout": CONNECT_S, **self.options, "server_settings": settings}
        try:
            connection = await asyncpg.connect(dsn, command_timeout=limit + SLACK_S, **options)
        except asyncpg.ClientConfigurationError as error:
            raise _settings_error("a parameter is wrong, or a file it names cannot be read") from error
        except ssl.SSLCertVerificationError as error:
            raise _settings_error(
                "certificate verification failed: the server's certificate is not signed by sslrootcert, or is for another host"
            ) from error
        except ConnectionError as error:
            if "rejected SSL upgrade" not in str(error):  # the driver has no class for it
                raise
            raise _settings_error("the server does not support TLS, which sslmode requires") from error
        keep_server(connection._transport.get_extra_info("peername"))  # noqa: SLF001 - there is no public way
        return connection


def server(url: str) -> Server:
    """Parse a URL; SettingsError, without secrets, if it is invalid."""
    try:
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise _settings_error("it is not a valid URL") from None
    if parts.scheme not in _SCHEMES:
        raise _settings_error("it must begin with postgresql:// or sqlite:///")
    _check(parts, query)
    options: dict[str, Any] = {}
    if limit := query.get("connect_timeout"):
        options["timeout"] = float(limit)
    if query.get("sslrootcert") == "system":
        del query["sslrootcert"]
        options["ssl"] = ssl.create_default_context()
    if name := query.pop("application_name", ""):
        options["server_settings"] = {"application_name": name}
    kept = {name: value for name, value in query.items() if name in _UNDERSTOOD}
    if "," in parts.netloc or "," in kept.get("host", ""):
        kept.setdefault("target_session_attrs", "read-write")  # of several servers the current primary
    elif "target_session_attrs" not in kept:
        options["target_session_attrs"] = "primary"  # an address may move to another server; a standby does not support LISTEN
    parts = parts._replace(scheme="postgresql")
    try:
        hosts = Hosts(url_per_host(parts, kept))
    except ValueError:
        raise _settings_error("it must name one port, or one for each host") from None
    return Server(parts._replace(query=urlencode(kept)).geturl(), options, hosts)


def _check(parts: SplitResult, query: dict[str, str]) -> None:
    if unknown := sorted(query.keys() - _UNDERSTOOD - _MEANT_FOR_LIBPQ):
        raise _settings_error(f"unknown parameter {unknown[0]!r}")
    if query.get("sslmode", "prefer") not in _MODES:
        raise _settings_error(f"sslmode must be one of {', '.join(sorted(_MODES))}")
    for name in sorted(_FILES & query.keys()):
        if query[name] != "system" and not Path(query[name]).is_file():
            raise _settings_error(f"the file of {name} does not exist")
    hosts = parts.netloc.rpartition("@")[2].split(",") + query.get("host", "").split(",")
    ports = [host.rpartition(":")[2] for host in hosts if ":" in host and not host.endswith("]")] + query.get("port", "").split(",")
    if not all(port.isdigit() for port in ports if port):
        raise _settings_error("a port must be a number")
    if not query.get("connect_timeout", "1").isdigit():
        raise _settings_error("connect_timeout must be a number of seconds")


def _settings_error(why: str) -> SettingsError:
    return SettingsError(f"DATABASE_URL must be postgresql://user:password@host:port/database or sqlite:///path/to/file: {why}")


class PlainDialect(PGDialect_asyncpg):
    """Runs no set-up on new connections: we have no JSON columns that need it, and a cancelled set-up would leak the connection."""

    supports_statement_cache = True

    def on_connect(self) -> None:
        """No set-up."""

    def do_close(self, dbapi_connection: Any) -> None:
        """Close a session; terminate it if the server does not answer, because a graceful close would wait for ever."""
        with _forced_end(dbapi_connection):
            await_only(dbapi_connection.driver_connection.close(timeout=CLOSE_S))

    def do_terminate(self, dbapi_connection: Any) -> None:
        """Terminate a session that cannot be used any more."""
        with _forced_end(dbapi_connection):
            super().do_terminate(dbapi_connection)


@contextmanager
def _forced_end(connection: Any) -> Iterator[None]:
    try:
        yield
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
        connection.driver_connection.terminate()


registry.register("postgresql.sickbay", __name__, "PlainDialect")


def migration_engine(where: Server) -> AsyncEngine:
    """An engine without a pool and with a long statement timeout, for migrations."""
    return create_async_engine("postgresql+sickbay://", async_creator=lambda: where.connect(MIGRATION_S), poolclass=NullPool)
