"""Floods: what is beyond their share waits behind others, and a kill in the middle of moving it loses nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

import pytest

from tests.support.clients import Clients
from tests.support.fake_dependency import Clinic
from tests.support.fleet import Fleet
from tests.support.system_under_test import Product
from tests.support.waiting import until

SLOTS: Final = 8
KILLER: Final = '''
import os, signal
from sickbay.observer import Observer

class Killer(Observer):
    """Dies by kill -9 between the confirm of the copies of moved jobs and the acknowledgements of the originals."""
    def published(self, messages, seconds, error):
        if error is None and any(message.key == "demoted" for message in messages):
            os.kill(os.getpid(), signal.SIGKILL)

killer = Killer()
'''


def depth(sickbay: Clients, queue: str) -> int:
    """How many messages wait in a queue."""
    return int(sickbay.plane.get("/metrics").json()["queues"][queue])


def test_a_hanging_flood_holds_up_nobody(own_clinic: Clinic, start: Callable[..., Product]):
    """300 jobs hang; another type's start at once, also those of the same tenant, and all of the flood runs in the end."""
    product = start(own_clinic.folder, {"JOB_HANDLERS": "clinic_handlers", "CONCURRENCY": str(SLOTS)}).ready()
    with Clients(product) as sickbay:
        sickbay.wait(sickbay.submit("sms", {"do": "ok"}), "SUCCEEDED")
        wish = own_clinic.make_gate("gate")
        flood = sickbay.submit_batch([("held", {"do": wish, "number": number}) for number in range(300)])
        until(lambda: depth(sickbay, "jobs.demoted") > 200 and depth(sickbay, "jobs.main") == 0)
        quiet = [sickbay.submit("sms", {"do": "ok"}) for _ in range(5)]
        sickbay.wait_all(quiet, "SUCCEEDED")
        running = {run.job for run in own_clinic.runs(what="begin")} & set(flood)
        assert 0 < len(running) < SLOTS
        own_clinic.open_gate("gate")
        sickbay.wait_all(flood, "SUCCEEDED")
    assert set(Counter(run.job for run in own_clinic.runs(what="done")).values()) == {1}


@pytest.mark.servers
@pytest.mark.timeout(180)
def test_a_worker_killed_while_it_moves_a_flood_loses_nothing(fleet: Fleet, own_clinic: Clinic):
    """The copies exist beside the originals: all run, none more than twice, and what ran twice or was dropped is told."""
    (own_clinic.folder / "killer.py").write_text(KILLER)
    fleet.launch_all(workers=0)
    fleet.launch("worker", OBSERVERS="killer:killer", CONCURRENCY=str(SLOTS))
    (killed,) = fleet.workers
    with Clients(fleet.ready()) as sickbay:
        wish = own_clinic.make_gate("gate")
        flood = sickbay.submit_batch([("held", {"do": wish, "number": number}) for number in range(80)])
        killed.process.wait(60)
        fleet.retire(killed)
        assert depth(sickbay, "jobs.demoted") > 0
        own_clinic.open_gate("gate")
        fleet.launch("worker", CONCURRENCY=str(SLOTS))
        fleet.ready()
        sickbay.wait_all(flood, "SUCCEEDED")
        done = Counter(run.job for run in own_clinic.runs(what="done"))
        assert done.keys() == set(flood)
        assert max(done.values()) <= 2
        until(lambda: all(depth(sickbay, queue) == 0 for queue in ("jobs.main", "jobs.demoted")))
        assert int(sickbay.plane.get("/metrics").json()["duplicates"]) > 0
