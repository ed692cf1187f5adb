"""How to reach a PostgreSQL: reads a libpq URL, and makes connections that give up in time.

The URL is that of psql and libpq (`postgresql://user:password@host:port/database?sslmode=verify-full&sslrootcert=ca.pem`, several hosts
by commas, `options=-csearch_path%3Dschema`), so what an operator has tried by hand works here; which host is taken is for `hosts.py`. It
needs a session of its own: a pooler in transaction mode cannot carry LISTEN.
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

from sickbay.adapters.sql.hosts import Hosts, one_by_one
from sickbay.domain.errors import SettingsError
from sickbay.system.forks import keep_server

CONNECT_S: Final = 5.0
"""How long one server may take to let us in."""
STATEMENT_S: Final = 20.0
"""How long a statement may take. The server breaks it off then, so that a stuck one holds no row for ever."""
SLACK_S: Final = 5.0
"""How much longer we wait for a server that does not even say that it gave up."""
MIGRATION_S: Final = 3_600.0
CLOSE_S: Final = 1.0
"""How long we wait for a server to hear our goodbye."""

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
    "idle_in_transaction_session_timeout": "20s",  # a process that was stopped holds its rows no longer than that
}


@dataclass(frozen=True, slots=True)
class Server:
    """A URL that was read; not shown, because it may have a password in it."""

    dsn: str = field(repr=False)
    options: dict[str, Any] = field(repr=False)
    hosts: Hosts = field(repr=False, compare=False)

    async def connect(self, statement_s: float | None = None) -> asyncpg.Connection:
        """One connection to the server that takes writes, whose statements take at most so long, in seconds.

        The driver's own errors are the caller's to translate.
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
        keep_server(connection._transport.get_extra_info("peername"))  # noqa: SLF001 - it does not tell otherwise
        return connection


def server(url: str) -> Server:
    """Read a URL; SettingsError, without anything secret in it, if it is not one."""
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
        kept.setdefault("target_session_attrs", "read-write")  # of several servers the one that is the primary now
    elif "target_session_attrs" not in kept:
        options["target_session_attrs"] = "primary"  # an address may move from one server to another; a standby cannot carry LISTEN
    parts = parts._replace(scheme="postgresql")
    try:
        hosts = Hosts(one_by_one(parts, kept))
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
    """Asks nothing of a new connection: we have no JSON columns to prepare it for, and one broken off while it is asked would be leaked."""

    supports_statement_cache = True

    def on_connect(self) -> None:
        """Nothing is to be done."""

    def do_close(self, dbapi_connection: Any) -> None:
        """End a session; one that does not listen any more is left without a goodbye, which would be waited for without an end."""
        with _forced_end(dbapi_connection):
            await_only(dbapi_connection.driver_connection.close(timeout=CLOSE_S))

    def do_terminate(self, dbapi_connection: Any) -> None:
        """End a session that is of no more use."""
        with _forced_end(dbapi_connection):
            super().do_terminate(dbapi_connection)


@contextmanager
def _forced_end(connection: Any) -> Iterator[None]:
    try:
        yield
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
        connection.driver_connection.terminate()


registry.register("postgresql.sickbay", __name__, "PlainDialect")


def patient_engine(where: Server) -> AsyncEngine:
    """One connection at a time, for work that may take long, such as migrations."""
    return create_async_engine("postgresql+sickbay://", async_creator=lambda: where.connect(MIGRATION_S), poolclass=NullPool)
