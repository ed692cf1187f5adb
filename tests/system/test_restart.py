"""`sickbay up` ends, in whichever way, and comes up again: what an admin or an outage has closed stays closed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.clients import Clients
from tests.support.fake_dependency import Clinic
from tests.support.system_under_test import Product

ENV = {"JOB_HANDLERS": "clinic_handlers", "COOLDOWN_PERIOD": "3600", "MAX_RETRIES": "0", "RETRY_DELAY_MS": "100", "FAILURE_THRESHOLD": "5"}
COMMANDS = {"held": "force-open", "switch": "disable", "shadow": "metrics-only"}
STATES = {"held": "FORCED_OPEN", "switch": "DISABLED", "shadow": "METRICS_ONLY", "down": "OPEN"}


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "stopped"])
def test_breakers_are_as_they_were(own_clinic: Clinic, start: Callable[..., Product], killed: bool) -> None:
    own_clinic.break_down("down", "STRANGE")
    first = start(own_clinic.folder, ENV).ready()
    with Clients(first) as sickbay:
        failed = sickbay.submit_all("down", *[{}] * 5)
        sickbay.wait_all(failed, "QUARANTINED", "PARKED")
        for job_type, command in COMMANDS.items():
            answer = sickbay.plane.post(f"/breakers/{job_type}/{command}", json={"by": "ada", "why": "maintenance"})
            assert answer.status_code == 200, answer.text
        parked = [sickbay.submit(job_type, {"do": "ok"}) for job_type in ("down", "held")]
        sickbay.wait_all(parked, "PARKED")
    if killed:
        first.kill()
    else:
        first.stop()
    own_clinic.repair("down")
    with Clients(start(own_clinic.folder, ENV).ready()) as sickbay:
        assert {job_type: sickbay.breaker(job_type)["state"] for job_type in STATES} == STATES
        assert sickbay.breaker("held")["forced"] == {"by": "ada", "why": "maintenance"}
        done = sickbay.submit("switch", {"do": "ok"})
        sickbay.wait(done, "SUCCEEDED")
        sickbay.wait_all(parked, "PARKED")
        assert {run.job for run in own_clinic.runs()} == {*failed, done}
