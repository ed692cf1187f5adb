"""The audit log as an operator sees it: over REST, over gRPC and with the command, and after kill -9 in the middle of an action."""

from __future__ import annotations

import json
from collections.abc import Callable
from signal import SIGKILL
from typing import Any, Final

import httpx
import pytest

from tests.support.clients import Clients
from tests.support.fake_dependency import Clinic
from tests.support.process import Process
from tests.support.system_under_test import Product
from tests.support.waiting import until

DYING: Final = """
import os, signal
from sickbay import handler
from sickbay.adapters.embedded.breakers import EmbeddedBreakers

_command = EmbeddedBreakers.command

async def command(self, *args):
    if {before}:
        os.kill(os.getpid(), signal.SIGKILL)
    await _command(self, *args)
    os.kill(os.getpid(), signal.SIGKILL)

EmbeddedBreakers.command = command

@handler("dying")
async def dying(job):
    pass
"""


def entries(sickbay: Clients, query: str) -> list[dict[str, Any]]:
    """The entries that are listed."""
    found: list[dict[str, Any]] = sickbay.plane.get(f"/audit?{query}").json()["entries"]
    return found


def ended(sickbay: Clients, query: str, count: int = 1) -> list[dict[str, Any]]:
    """So many entries, all with a result, as soon as the ledger has them."""
    until(lambda: [one["result"] != "STARTED" for one in entries(sickbay, query)] == [True] * count)
    return entries(sickbay, query)


def test_without_access_control_actions_are_entries_with_what_their_caller_claims(sickbay: Clients):
    assert sickbay.plane.post("/breakers/audited/disable").status_code == 200
    assert sickbay.plane.post("/breakers/audited/force-open", json={"by": "ceo", "why": "a test"}).status_code == 200
    assert sickbay.plane.post("/breakers/audited/auto").status_code == 200
    by_action = {one["action"]: one for one in ended(sickbay, "target=audited", 3)}
    forced = by_action["ForceOpenBreaker"]
    assert (forced["claimedActor"], forced["note"], forced["before"], forced["after"]) == ("ceo", "a test", "DISABLED", "FORCED_OPEN")
    assert (forced["result"], forced["door"], forced["source"]) == ("OK", "rest", "127.0.0.1")
    assert "principal" not in forced
    assert by_action["SetBreakerAuto"]["after"] == "OPEN"


def test_a_cancelled_job_is_an_entry_of_the_job_api(sickbay: Clients):
    job_id = sickbay.submit("healthy")
    sickbay.wait(job_id, "SUCCEEDED")
    assert sickbay.api.post(f"/jobs/{job_id}/cancel").status_code == 409
    (found,) = ended(sickbay, f"target={job_id}")
    assert (found["action"], found["result"], found["tenant"], found["targetKind"]) == (
        "CancelJob",
        "FAILED_PRECONDITION",
        "default",
        "job",
    )
    assert found["before"].startswith("SUCCEEDED")


@pytest.mark.parametrize("before", [True, False])
def test_a_process_killed_in_the_middle_of_an_action_leaves_a_started_entry(
    before: bool, own_clinic: Clinic, start: Callable[..., Product]
):
    """Whether it had its effect nobody can know; that somebody tried is known."""
    env = {"JOB_HANDLERS": "clinic_handlers", "RETRY_DELAY_MS": "200"}
    (own_clinic.folder / "dying.py").write_text(DYING.format(before=before))
    product = start(own_clinic.folder, env | {"JOB_HANDLERS": "clinic_handlers,dying"}).ready()
    with Clients(product) as sickbay, pytest.raises(httpx.HTTPError):
        sickbay.plane.post("/breakers/audited/disable", json={"by": "ceo"})
    assert product.wait() == -SIGKILL
    again = start(own_clinic.folder, env).ready()
    with Clients(again) as sickbay:
        until(lambda: entries(sickbay, "target=audited"))
        (found,) = entries(sickbay, "target=audited")
        assert (found["action"], found["result"], found["claimedActor"]) == ("DisableBreaker", "STARTED", "ceo")
        assert "endedAt" not in found
        address = f"127.0.0.1:{sickbay.grpc_ports['Control plane']}"
        exported = Process(["sickbay_cli", "audit", "export", "--control-plane", address, "--since", "1h"], own_clinic.folder, {})
        assert exported.wait() == 0
        assert [json.loads(line) for line in exported.out.text.splitlines()] == [found]
