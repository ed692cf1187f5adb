"""The commands about the outbox, on a file of SQLite."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sickbay import outbox
from sickbay.outbox.tables import ddl
from sickbay_cli.program import cli
from tests.support.outbox_databases import OutboxDatabase, outbox_database


@pytest.fixture
def database(tmp_path: Path):
    with outbox_database("sqlite", tmp_path) as made:
        yield made


def run(database: OutboxDatabase | str, *words: str) -> Result:
    url = database if isinstance(database, str) else database.url
    return CliRunner().invoke(cli, ["outbox", *words], env={"SICKBAY_OUTBOX_DATABASE_URL": url})


def fill(database: OutboxDatabase) -> None:
    """Two that wait, two that were rejected."""
    engine = database.engine()
    with engine.begin() as connection:
        for number in range(4):
            outbox.submit(connection, f"type-{number}", {}, tenant="acme", request_id=f"key-{number}")
    engine.dispose()
    database.sql("UPDATE sickbay_outbox SET created_at = 1000")
    database.sql("UPDATE sickbay_outbox SET failed_at = 2000, attempts = 1, last_error = 'INVALID_FIELD: no' WHERE id > 2")


def test_ddl_is_that_of_the_dialect():
    assert run("", "ddl", "--dialect", "mysql", "--schema", "app").output == ddl("mysql", schema="app")


def test_list(database: OutboxDatabase):
    assert run(database, "list").output == "0 jobs waiting; 0 rejected\n"
    fill(database)
    lines = run(database, "list").output.splitlines()
    assert lines[0].split() == ["ID", "JOB", "TYPE", "TENANT", "WRITTEN", "ATTEMPTS", "REJECTED", "LAST", "ERROR"]
    assert [line.split()[:3] for line in lines[1:5]] == [[str(n + 1), f"type-{n}", "acme"] for n in range(4)]
    assert lines[4].endswith("INVALID_FIELD: no")
    assert lines[5].startswith("2 jobs waiting, the oldest since ")
    assert lines[5].endswith(" ago; 2 rejected")
    assert len(run(database, "list", "--rejected", "--limit", "1").output.splitlines()) == 3


def test_list_for_programs(database: OutboxDatabase):
    fill(database)
    shown = json.loads(run(database, "list", "--rejected", "--json").output)
    assert (shown["waiting"], shown["rejected"], len(shown["jobs"])) == (2, 2, 2)
    assert shown["oldestAgeSeconds"] > 1_000_000
    assert shown["jobs"][0] == {
        "id": 3,
        "jobType": "type-2",
        "tenant": "acme",
        "idempotencyKey": "key-2",
        "writeTime": "1970-01-01T00:00:01.000Z",
        "attempts": 1,
        "rejectTime": "1970-01-01T00:00:02.000Z",
        "lastError": "INVALID_FIELD: no",
    }
    database.sql("DELETE FROM sickbay_outbox")
    assert json.loads(run(database, "list", "--json").output) == {"waiting": 0, "rejected": 0, "jobs": []}


def test_retry(database: OutboxDatabase):
    fill(database)
    result = run(database, "retry", "1", "3")
    assert (result.exit_code, result.output) == (3, "1 job due again\nError: 1 of these ids are not of rejected jobs\n")
    assert database.sql("SELECT id FROM sickbay_outbox WHERE failed_at > 0") == [(4,)]
    assert run(database, "retry", "--all").output == "1 job due again\n"
    assert run(database, "retry", "--all").output == "0 jobs due again\n"


def test_discard(database: OutboxDatabase):
    fill(database)
    result = run(database, "discard", "3")
    assert (result.exit_code, "no terminal" in result.output.lower()) == (1, True)
    assert run(database, "discard", "3", "--yes").output == "1 job deleted\n"
    assert run(database, "discard", "--all", "--yes").output == "1 job deleted\n"
    assert database.sql("SELECT id FROM sickbay_outbox") == [(1,), (2,)]


@pytest.mark.parametrize("words", [("retry",), ("retry", "--all", "1"), ("discard", "--yes")])
def test_ids_or_all(database: OutboxDatabase, words):
    assert run(database, *words).exit_code == 2


@pytest.mark.parametrize(
    ("url", "code", "words"),
    [
        ("sqlite:///nowhere/app.db", 1, "SICKBAY_OUTBOX_DATABASE_URL: there is no database 'nowhere/app.db'"),
        ("postgresql://app@127.0.0.1:no/app", 1, "SICKBAY_OUTBOX_DATABASE_URL must be"),
        ("postgresql://app:secret@127.0.0.1:1/app", 4, "the database does not answer"),
        ("mysql+nodriver://app:secret@db/app", 1, "SICKBAY_OUTBOX_DATABASE_URL must be"),
        ("no url", 1, "SICKBAY_OUTBOX_DATABASE_URL must be"),
        ("mysql+pymysql://app:secret@db/app", 1, "asynchronous driver"),
    ],
)
def test_a_database_that_cannot_be_used(url: str, code: int, words: str):
    result = run(url, "list")
    assert (result.exit_code, words in result.output) == (code, True), result.output
    assert "secret" not in result.output


def test_a_database_without_the_table(tmp_path: Path):
    url = f"sqlite:///{tmp_path}/empty.db"
    (tmp_path / "empty.db").touch()
    result = run(url, "list")
    assert result.exit_code == 2
    assert result.output == (
        "Error: the database has no table sickbay_outbox (in this schema): create it, `sickbay outbox ddl` prints how\n"
    )


@pytest.mark.parametrize("words", [("--poll", "0s"), ("--lease", "0s"), ("--poll", "1")])
def test_spans_of_a_relay(database: OutboxDatabase, words):
    assert run(database, "relay", *words).exit_code == 2


def test_a_relay_needs_a_database():
    result = CliRunner().invoke(cli, ["outbox", "relay"], env={"SICKBAY_OUTBOX_DATABASE_URL": None})
    assert (result.exit_code, "SICKBAY_OUTBOX_DATABASE_URL" in result.output) == (2, True)
