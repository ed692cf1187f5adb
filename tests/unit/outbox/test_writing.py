"""What `submit` takes, what importing it loads, and the table."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from importlib.metadata import requires
from pathlib import Path

import pytest
from sqlalchemy import MetaData, create_engine, inspect
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

import sickbay.outbox
from sickbay import outbox
from sickbay.outbox.tables import DIALECTS, ddl

PAGE = Path(__file__).parents[3] / "docs" / "outbox.md"


def test_a_session_of_the_other_kind_is_named():
    with pytest.raises(TypeError, match=r"sqlalchemy.AsyncSession is asynchronous: await outbox.submit_async"):
        outbox.submit(AsyncSession(), "email", {})


async def test_and_the_other_way():
    with pytest.raises(TypeError, match=r"sqlalchemy.Session is not asynchronous: outbox.submit"):
        await outbox.submit_async(Session(), "email", {})


@pytest.mark.parametrize("other", [None, "postgresql://", object(), sqlite3.connect])
async def test_anything_else_is_refused(other):
    with pytest.raises(
        TypeError, match=r"needs a session or connection of SQLAlchemy, a connection or cursor of psycopg 3, or .* of Django, not \w+"
    ):
        outbox.submit(other, "email", {})
    with pytest.raises(TypeError, match="needs a session or connection"):
        await outbox.submit_async(other, "email", {})


def test_a_subclass_is_what_it_is_derived_from():
    """As the sessions of SQLModel and Flask-SQLAlchemy."""

    class Own(Session):
        pass

    engine, metadata = create_engine("sqlite://"), MetaData()
    outbox.table(metadata)
    metadata.create_all(engine)
    with Own(engine) as session:
        assert outbox.submit(session, "email", {}, request_id="own") == "own"
    engine.dispose()


def test_importing_it_loads_no_database():
    script = "import sickbay.outbox, sys; print(*sys.modules)"
    loaded = set(subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split())
    assert {"grpc", "sickbay.outbox.writing"} <= loaded
    assert loaded & {"sqlalchemy", "psycopg", "asyncpg", "aiosqlite", "msgspec", "sickbay.adapters", "sickbay.server"} == set()


def test_with_django_no_sqlalchemy_is_needed(tmp_path):
    script = f"""
import sys
sys.modules["sqlalchemy"] = sys.modules["psycopg"] = None  # not installed
import django
from django.conf import settings
database = {{"ENGINE": "django.db.backends.sqlite3", "NAME": {str(tmp_path / "app.db")!r}}}
settings.configure(INSTALLED_APPS=["sickbay.outbox.django"], DATABASES={{"default": database}}, USE_TZ=True)
django.setup()
from django.core.management import call_command
from django.db import connection, transaction
from sickbay import outbox
from sickbay.outbox.django.models import OutboxRow
call_command("migrate", verbosity=0)
with transaction.atomic():
    outbox.submit(connection, "email", {{}}, request_id="key")
print(OutboxRow.objects.get(), OutboxRow.objects.get().failed_at)
connection.close()
"""
    ran = subprocess.run([sys.executable, "-W", "error", "-c", script], check=False, capture_output=True, text=True)
    assert (ran.stdout, ran.stderr) == ("email key 0\n", "")


def test_the_extra_brings_msgspec_alone():
    extra = [re.split(r"[<>=;\[ ]", need)[0] for need in requires("sickbay") or () if "extra == 'outbox'" in need.replace('"', "'")]
    assert extra == ["msgspec"]


def test_all_that_is_exported_is_there():
    assert [name for name in sickbay.outbox.__all__ if not hasattr(sickbay.outbox, name)] == []
    with pytest.raises(AttributeError, match="nothing"):
        _ = sickbay.outbox.nothing  # type: ignore[attr-defined]


def test_the_table_is_in_the_schema_that_is_named_and_no_other():
    assert outbox.table(MetaData(schema="app")).schema is None
    assert outbox.table(MetaData(), schema="app").schema == "app"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_ddl(dialect: str):
    table, index = ddl(dialect, schema="app").strip().split(";\n\n")
    assert table.startswith("CREATE TABLE app.sickbay_outbox (\n")
    where = "app.sickbay_outbox_waiting ON sickbay_outbox" if dialect == "sqlite" else "sickbay_outbox_waiting ON app.sickbay_outbox"
    assert index == f"CREATE INDEX {where} (failed_at, id);"
    assert ("MEDIUMTEXT" in table) == (dialect in {"mysql", "mariadb"})


def test_ddl_makes_what_the_table_says():
    with closing(sqlite3.connect(":memory:")) as connection, connection:
        connection.executescript(ddl("sqlite"))
        made = {row[1] for row in connection.execute("PRAGMA table_info(sickbay_outbox)")}
    connection.close()
    engine, metadata = create_engine("sqlite://"), MetaData()
    outbox.table(metadata)
    metadata.create_all(engine)
    assert made == {column["name"] for column in inspect(engine).get_columns("sickbay_outbox")}
    engine.dispose()


def test_the_page_has_the_ddl():
    assert f"```sql\n{ddl('postgresql')}```" in PAGE.read_text("utf-8")
