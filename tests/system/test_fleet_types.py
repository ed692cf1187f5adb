"""A deployment that changes what a payload must be: while both versions are live, nothing is rejected that one of them takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.clients import Clients
from tests.support.fleet import Fleet
from tests.support.isolated_servers import Corner
from tests.support.waiting import until

pytestmark = pytest.mark.servers

MODULE = """
from dataclasses import dataclass
from sickbay import handler

@dataclass
class Email:
    {field}: str

@handler("email", validate="submit")
def send(payload: Email) -> str:
    return payload.{field}
"""
OLD, NEW, NEITHER = {"to": "x"}, {"address": "x"}, {"other": "x"}


def write(folder: Path, name: str, text: str) -> None:
    (folder / f"{name}.py").write_text(text)


def test_a_rolling_deployment_of_another_payload(tmp_path: Path, corner: Corner):
    write(tmp_path, "old_version", MODULE.format(field="to"))
    write(tmp_path, "new_version", MODULE.format(field="address"))
    write(tmp_path, "untyped_version", 'from sickbay import handler\n\n@handler("email")\ndef send(job):\n    return "any"\n')
    with Fleet(tmp_path, {"JOB_HANDLERS": "old_version", "RETRY_DELAY_MS": "50"} | dict(corner.env)) as fleet:
        fleet.launch_all(workers=1).ready()
        with Clients(fleet) as sickbay:
            until(lambda: schemas(sickbay) == 1)
            assert statuses(sickbay) == [202, 400, 400]
            fleet.launch("worker", JOB_HANDLERS="new_version")[0].ready()
            until(lambda: schemas(sickbay) == 2)
            assert statuses(sickbay) == [202, 202, 400]
            old, new = fleet.workers
            old.terminate()
            old.end_well()
            until(lambda: schemas(sickbay) == 1)
            assert statuses(sickbay) == [400, 202, 400]
            new.kill()  # its schema outlives it, so that nothing else is taken until it is back
            until(lambda: sickbay.api.get("/types/email").json()["workers"] == 0)
            assert statuses(sickbay) == [400, 202, 400]
            fleet.retire(old)
            fleet.retire(new)
            fleet.launch("worker", JOB_HANDLERS="untyped_version")[0].ready()
            until(lambda: sickbay.api.get("/types/email").json()["workers"] == 1)
            assert statuses(sickbay) == [202, 202, 202]


def schemas(sickbay: Clients) -> int:
    found = sickbay.api.get("/types/email")
    return int(found.json()["schemas"]) if found.status_code == 200 else 0


def statuses(sickbay: Clients) -> list[int]:
    """Of a payload of the old version, one of the new, and one of neither."""
    jobs = ({"jobType": "email", "payload": payload} for payload in (OLD, NEW, NEITHER))
    return [sickbay.api.post("/jobs", json=job).status_code for job in jobs]
