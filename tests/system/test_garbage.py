"""Whatever strangers put on the queues of a running system: the next good job runs, and nobody loses a connection over it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.clients import Clients
from tests.support.fake_dependency import Clinic
from tests.support.fleet import Fleet
from tests.support.garbage import BODIES, PROPERTIES
from tests.support.isolated_servers import Corner
from tests.support.rabbitmq_raw import JAVAS_MINUS_ONE, publish_raw, short, table
from tests.support.waiting import until

pytestmark = [pytest.mark.servers, pytest.mark.timeout(240)]

QUEUES: Final = ("jobs.main", "jobs.ledger", "jobs.quarantine")
SAMPLES: Final[Mapping[str, tuple[bytes, dict[str, bytes]]]] = {
    "Java's -1": (b'{"jobType": "ok", "payload": {"do": "ok"}, "jobId": "java"}', {"timestamp": JAVAS_MINUS_ONE}),
    "an id that is no text": (b'{"jobType": "ok", "payload": {"do": "ok"}}', {"message_id": short(b"\xff\xfe")}),
    "a header that is no time": (b'{"jobType": "ok", "payload": {"do": "ok"}}', {"headers": table((b"t", b"T" + JAVAS_MINUS_ONE))}),
    "an id with a NUL": (b'{"jobType": "ok", "payload": {"do": "ok"}, "jobId": "a\\u0000b"}', {}),
    "an event with a NUL": (b'{"jobType": "ok", "jobId": "a\\u0000b", "state": "RETRYING", "code": "\\u0000"}', {}),
    "a generation without end": (b'{"jobType": "ok", "payload": {"do": "ok"}, "jobId": "g", "generation": 2147483647}', {}),
}


def send(url: str, *messages: tuple[str, bytes, Mapping[str, bytes]]) -> None:
    """Each to the queue it names."""

    async def all_of_them() -> None:
        for queue, body, properties in messages:
            await publish_raw(url, body, key=queue, **properties)

    asyncio.run(all_of_them())


def is_quiet(corner: Corner, sickbay: Clients) -> bool:
    """Whether everything has been read, and the quarantine holds just what is set aside."""
    depths, metrics = corner.depths(), sickbay.plane.get("/metrics").json()["jobs"]["byState"]
    set_aside = metrics["PARKED"] + metrics["QUARANTINED"]
    return bool(depths["jobs.main"] == depths["jobs.ledger"] == 0 and depths["jobs.quarantine"] == set_aside)


def test_garbage_on_every_queue_of_a_fleet(fleet: Fleet, corner: Corner, own_clinic: Clinic):
    """Properties, headers and bodies; sessions stay, and what could not be read lies in quarantine, on every queue."""
    fleet.launch_all(workers=2).ready()
    with Clients(fleet) as sickbay:
        send(corner.rabbitmq, *((queue, body, properties) for queue in QUEUES for body, properties in SAMPLES.values()))
        good = sickbay.submit("ok", {"do": "ok"})
        sickbay.wait(good, "SUCCEEDED")
        sickbay.wait("java", "SUCCEEDED")
        kept = until(lambda: sickbay.plane.get("/quarantine", params={"reason": "UNDECODABLE"}).json()["count"])
        assert kept >= 1

        @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(st.tuples(st.sampled_from(QUEUES), BODIES, PROPERTIES), min_size=5, max_size=15))
        def garbage(messages: list[tuple[str, bytes, dict[str, bytes]]]) -> None:
            send(corner.rabbitmq, *messages)
            job = sickbay.submit("ok", {"do": "ok"})
            sickbay.wait(job, "SUCCEEDED")

        garbage()
        until(lambda: is_quiet(corner, sickbay), 90)
        for service in [one for services in fleet.services.values() for one in services]:
            assert "connection was lost" not in service.err.text
            assert "a fault" not in service.err.text


def test_garbage_in_the_embedded_queues(tmp_path: Path, own_clinic: Clinic, start: Callable[..., Any]):
    """Rows that a person or a program has put into the file while nothing ran: each is read, or kept; the next good job runs."""
    import sqlite3

    env = {"JOB_HANDLERS": "clinic_handlers"}
    start(own_clinic.folder, env).ready().stop()
    (file,) = own_clinic.folder.rglob("queue.db")
    rows: list[tuple[Any, ...]] = [
        (0, "m", "", b"\xff\xfe"),
        (0, b"\xff\x00", "no JSON", b'{"jobType": "ok", "payload": {"do": "ok"}}'),
        (0, 7, '["a list"]', '{"jobType": "ok", "payload": {"do": "ok"}}'),
        (0, "n\0", '{"traceparent": 5}', b'{"jobType": "ok", "payload": {}, "jobId": "a\\u0000"}'),
        ("soon", "x", b"\xff", 5),
    ]
    with closing(sqlite3.connect(file)) as connection, connection:
        for queue in QUEUES:
            for number, row in enumerate(rows, 1_000):
                connection.execute(f'INSERT INTO "{queue}" VALUES (?, ?, ?, ?, ?)', (number, *row))  # noqa: S608 - our own names
        connection.execute('INSERT INTO "jobs.retry" VALUES (2000, ?, ?, ?, ?)', rows[-1])
    connection.close()
    with Clients(start(own_clinic.folder, env).ready()) as sickbay:
        sickbay.wait(sickbay.submit("ok", {"do": "ok"}), "SUCCEEDED")
        until(lambda: sickbay.plane.get("/quarantine", params={"reason": "UNDECODABLE"}).json()["count"] >= 3)
        sickbay.wait(sickbay.submit("ok", {"do": "ok"}), "SUCCEEDED")
