"""The outbox beside the running product: `sickbay outbox relay` as a process of its own, on each database."""

from __future__ import annotations

import json
import socket
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from sickbay import outbox
from sickbay.client import Client
from tests.support.answerless_api import AnswerlessApi
from tests.support.clients import PATIENCE_S, HasPorts
from tests.support.fake_dependency import Clinic
from tests.support.outbox_databases import DATABASES, OutboxDatabase, outbox_database
from tests.support.process import Process
from tests.support.system_under_test import Product
from tests.support.waiting import until

pytestmark = pytest.mark.embedded

Relays = Callable[..., Process]


@pytest.fixture(params=DATABASES)
def database(request, tmp_path: Path) -> Iterator[OutboxDatabase]:
    with outbox_database(request.param, tmp_path) as made:
        yield made


@pytest.fixture
def relays(database: OutboxDatabase, tmp_path: Path) -> Iterator[Relays]:
    """Starts relays to a Job API; those that still run at the end are stopped."""
    started: list[Process] = []

    def start(job_api: str, *options: str) -> Process:
        words = ["sickbay_cli", "outbox", "relay", "--jobapi", job_api, "--timeout", "5", "--poll", "100ms", *options]
        started.append(Process(words, tmp_path, {"SICKBAY_OUTBOX_DATABASE_URL": database.url, "LOG_FORMAT": "json"}))
        return started[-1]

    yield start
    for relay in started:
        if relay.process.returncode is None:
            relay.stop()


@dataclass(frozen=True)
class Jobs:
    """The jobs of a tenant of the test's own in the shared product."""

    api: str
    client: Client
    clinic: Clinic
    tenant: str

    def ended(self, count: int) -> list[str]:
        """Wait until so many jobs have succeeded; the ids of all there are."""
        return ended(self.client, self.tenant, count)


@pytest.fixture
def jobs(shared_product: HasPorts, clinic: Clinic) -> Iterator[Jobs]:
    api = f"127.0.0.1:{shared_product.ports['Job API'][1]}"
    with Client(api, timeout=PATIENCE_S) as client:
        yield Jobs(api, client, clinic, f"outbox-{uuid.uuid4().hex[:12]}")


def command(database: OutboxDatabase, folder: Path, *words: str) -> tuple[int, str, str]:
    """Exit code and streams of `sickbay outbox WORDS`."""
    ran = Process(["sickbay_cli", "outbox", *words], folder, {"SICKBAY_OUTBOX_DATABASE_URL": database.url})
    return ran.wait(), ran.out.text, ran.err.text


def write(database: OutboxDatabase, tenant: str, count: int = 1, *, commits: bool = True) -> list[str]:
    """Submit so many jobs in one transaction; their keys."""
    engine = database.engine()
    with Session(engine) as session:
        keys = [outbox.submit(session, "ok", {"n": number}, tenant=tenant) for number in range(count)]
        if commits:
            session.commit()
    engine.dispose()
    return keys


def is_empty(database: OutboxDatabase) -> bool:
    return database.sql("SELECT count(*) FROM sickbay_outbox")[0][0] == 0


def ended(client: Client, tenant: str, count: int) -> list[str]:
    """Wait until so many jobs of the tenant have succeeded; the ids of all its jobs."""
    until(lambda: len(list(client.list(tenant=tenant, states=["SUCCEEDED"]))) >= count)
    return [job.job_id for job in client.list(tenant=tenant)]


def test_a_job_exists_if_and_only_if_the_transaction_committed(database: OutboxDatabase, relays: Relays, jobs: Jobs):
    relay = relays(jobs.api)
    write(database, jobs.tenant, commits=False)
    (key,) = write(database, jobs.tenant)
    (job_id,) = jobs.ended(1)
    until(lambda: is_empty(database))
    again = jobs.client.submit("ok", {"n": 0}, tenant=jobs.tenant, request_id=key)
    assert (again.job_id, again.duplicate) == (job_id, True)
    assert len(jobs.clinic.runs(job_id=job_id)) == 1
    assert relay.logged("relaying to the Job API")
    relay.stop()
    assert relay.logged('"stopped"')


def test_a_job_for_later_waits_in_sickbay(database: OutboxDatabase, relays: Relays, jobs: Jobs):
    """Not in the outbox, whose relay passes its time on."""
    at = datetime(2097, 1, 1, tzinfo=UTC)
    engine = database.engine()
    with Session(engine) as session, session.begin():
        outbox.submit(session, "ok", {}, tenant=jobs.tenant, run_at=at)
    engine.dispose()
    relays(jobs.api)
    until(lambda: is_empty(database))
    (job,) = until(lambda: list(jobs.client.list(tenant=jobs.tenant)))
    assert (job.state, job.run_time) == ("SCHEDULED", at)


def test_a_relay_that_is_killed_between_submit_and_delete(database: OutboxDatabase, relays: Relays, jobs: Jobs):
    """The Job API has accepted, and nobody has heard of it: the next relay is told of the same job."""
    write(database, jobs.tenant, 3)
    with AnswerlessApi(jobs.api) as between:
        relay = relays(between.address, "--lease", "1s")
        assert between.accepted.wait(PATIENCE_S)
        relay.kill()
    assert not is_empty(database)
    relays(jobs.api)
    until(lambda: is_empty(database))
    job_ids = jobs.ended(3)
    assert sorted(job_ids) == sorted(one.job_id for one in between.answers[0].results)
    assert [len(jobs.clinic.runs(job_id=job_id)) for job_id in job_ids] == [1, 1, 1]


def test_two_relays_share_the_work(database: OutboxDatabase, relays: Relays, jobs: Jobs):
    write(database, jobs.tenant, 500)
    for _ in range(2):
        relays(jobs.api)
    until(lambda: is_empty(database))
    assert len(jobs.ended(500)) == 500


def test_a_rejected_job_does_not_hold_up_others(database: OutboxDatabase, relays: Relays, jobs: Jobs, tmp_path: Path):
    """Its key belongs to another request, which only the service can know."""
    jobs.client.submit("ok", {"another": True}, tenant=jobs.tenant, request_id=jobs.tenant)
    engine = database.engine()
    with Session(engine) as session, session.begin():
        outbox.submit(session, "ok", {}, tenant=jobs.tenant, request_id=jobs.tenant)
        outbox.submit(session, "ok", {"good": True}, tenant=jobs.tenant)
    engine.dispose()
    relay = relays(jobs.api)
    assert relay.logged("has rejected job 1 of the outbox (ok)")
    assert len(jobs.ended(2)) == 2
    until(lambda: database.sql("SELECT count(*), max(failed_at) > 0 FROM sickbay_outbox")[0] in {(1, 1), (1, True)})
    code, out, _ = command(database, tmp_path, "list", "--json")
    shown = json.loads(out)
    assert (code, shown["waiting"], shown["rejected"]) == (0, 0, 1)
    assert shown["jobs"][0]["lastError"].startswith("IDEMPOTENCY_KEY_REUSED: ")
    assert command(database, tmp_path, "retry", "1") == (0, "1 job due again\n", "")
    until(lambda: relay.err.text.count("has rejected job 1") == 2)
    until(lambda: database.sql("SELECT count(*) FROM sickbay_outbox WHERE failed_at > 0")[0][0] == 1)
    assert command(database, tmp_path, "discard", "1", "--yes") == (0, "1 job deleted\n", "")
    assert is_empty(database)


def test_a_job_api_that_is_away_for_a_while(database: OutboxDatabase, relays: Relays, own_clinic: Clinic, start: Callable[..., Product]):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    write(database, "acme", 2)
    relay = relays(f"127.0.0.1:{port}", "--timeout", "0.2")
    assert relay.logged("the Job API does not answer, jobs stay in the outbox (attempt 1): no connection to the Job API")
    assert not is_empty(database)
    start(own_clinic.folder, options=["--jobapi-grpc-port", str(port)]).ready()
    assert relay.logged("relaying again after")
    until(lambda: is_empty(database))
    with Client(f"127.0.0.1:{port}", timeout=PATIENCE_S) as client:
        assert len(ended(client, "acme", 2)) == 2


def test_a_database_without_the_table(database: OutboxDatabase, relays: Relays):
    database.sql("DROP TABLE sickbay_outbox")
    relay = relays("127.0.0.1:1")
    assert relay.wait() == 2
    assert relay.err.text.startswith("Error: the database has no table sickbay_outbox")
