"""The table of the outbox for SQLAlchemy, and its DDL for every database that SQLAlchemy knows."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from typing import Final

from sqlalchemy import BigInteger, Column, Dialect, Index, Integer, MetaData, String, Table, Text, text
from sqlalchemy.dialects.mysql import MEDIUMTEXT
from sqlalchemy.schema import BLANK_SCHEMA, CreateIndex, CreateTable, DDLElement

from sickbay.outbox.writing import TABLE

DIALECTS: Final = ("postgresql", "sqlite", "mysql", "mariadb")


def table(metadata: MetaData, *, schema: str | None = None) -> Table:
    """The table in your MetaData, for `create_all` and for Alembic. `schema` must be what `submit` and the relay are given, too.

    Times are in ms since the epoch. `submit` writes the columns to `created_at`, and `run_at` of jobs that are to run later; the others are
    the relay's.
    """
    return Table(
        TABLE,
        metadata,
        Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
        Column("request_id", String(128), nullable=False),
        Column("job_type", String(64), nullable=False),
        Column("tenant", String(64), nullable=False),
        Column("priority", String(16), nullable=False),
        Column("payload", Text().with_variant(MEDIUMTEXT(), "mysql", "mariadb"), nullable=False),
        Column("on_open", String(16), nullable=False),
        Column("created_at", BigInteger, nullable=False),
        Column("due_at", BigInteger, nullable=False, server_default=text("0")),
        Column("claimed_by", String(36)),
        Column("attempts", Integer, nullable=False, server_default=text("0")),
        Column("failed_at", BigInteger, nullable=False, server_default=text("0")),
        Column("last_error", Text),
        Column("run_at", BigInteger, nullable=False, server_default=text("0")),
        Index(f"{TABLE}_waiting", "failed_at", "id"),
        schema=BLANK_SCHEMA if schema is None else schema,
        sqlite_autoincrement=True,
    )


@lru_cache(maxsize=64)
def outbox_table(schema: str | None = None) -> Table:
    """The table in a MetaData of ours, for statements."""
    return table(MetaData(), schema=schema)


def ddl(dialect: str, *, schema: str | None = None) -> str:
    """The statements that create the table, for a dialect of `DIALECTS`."""
    module = import_module(f"sqlalchemy.dialects.{'mysql' if dialect == 'mariadb' else dialect}")
    made: Dialect = module.dialect(paramstyle="named")  # others double percent signs in names
    found = outbox_table(schema)
    statements: list[DDLElement] = [CreateTable(found), *(CreateIndex(index) for index in found.indexes)]
    return "\n\n".join(f"{_tidy(str(one.compile(dialect=made)))};" for one in statements) + "\n"


def _tidy(statement: str) -> str:
    return "\n".join(line.replace("\t", "    ").rstrip() for line in statement.strip().splitlines() if line.strip())
