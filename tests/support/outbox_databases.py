"""Databases with an outbox for tests: a file of SQLite, and an own database of PostgreSQL."""

from __future__ import annotations

import asyncio
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg
import psycopg
import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from sickbay.outbox.tables import ddl
from tests.support.postgres_server import POSTGRES

DATABASES: Final = ["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)]


@dataclass(frozen=True)
class OutboxDatabase:
    """A program's database: `url` for the command, engines for the program."""

    dialect: str
    url: str

    def engine(self) -> Engine:
        """Of a program that blocks."""
        return create_engine(self.url.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool)

    def async_engine(self) -> AsyncEngine:
        """Of a program with an event loop."""
        drivers = {"postgresql": "postgresql+asyncpg", "sqlite": "sqlite+aiosqlite"}
        return create_async_engine(self.url.replace(self.dialect, drivers[self.dialect], 1), poolclass=NullPool)

    def sql(self, statement: str) -> list[Any]:
        """The rows of a statement, in a transaction of its own."""
        if self.dialect == "sqlite":
            with closing(sqlite3.connect(self.url.removeprefix("sqlite:///"), timeout=30)) as connection, connection:
                return connection.execute(statement).fetchall()
        with psycopg.connect(self.url) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []


@contextmanager
def outbox_database(dialect: str, folder: Path) -> Iterator[OutboxDatabase]:
    """With an empty outbox, and a table `orders` (id) of the program's."""
    if dialect == "sqlite":
        yield _filled(OutboxDatabase(dialect, f"sqlite:///{folder}/app.db"))
        return
    name = f"sickbay_{uuid.uuid4().hex}"
    asyncio.run(_execute(f"CREATE DATABASE {name}"))
    try:
        yield _filled(OutboxDatabase(dialect, urlsplit(POSTGRES)._replace(scheme="postgresql", path=f"/{name}").geturl()))
    finally:
        asyncio.run(_execute(f"DROP DATABASE {name} WITH (FORCE)"))


def _filled(database: OutboxDatabase) -> OutboxDatabase:
    statements = [one for one in ddl(database.dialect).split(";") if one.strip()]
    for statement in [*statements, "CREATE TABLE orders (id INTEGER PRIMARY KEY)"]:
        database.sql(statement)
    return database


async def _execute(statement: str) -> None:
    connection = await asyncpg.connect(POSTGRES.replace("+asyncpg", ""), timeout=10)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
