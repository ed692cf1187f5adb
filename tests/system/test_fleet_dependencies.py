"""Only some processes have read a settings file that names a dependency: nothing is lost, and nothing goes to and fro for ever."""

from __future__ import annotations

import pytest

from tests.support.clients import Clients
from tests.support.fake_dependency import Clinic
from tests.support.fleet import Fleet
from tests.support.waiting import until

pytestmark = [pytest.mark.servers, pytest.mark.timeout(180)]
MOST_GENERATIONS = 8
"""With pauses of 1, 2, 4, 8 ... s that is more than half a minute; without them it took two seconds."""
MOST_WHILE_RECOVERING = 30
"""The control plane does not reserve the permits of the breaker that recovers, so some jobs are refused several times within seconds."""
OLD = "[types.email]\n"
NEW = '[types.email]\ndependency = "smtp"\n'


@pytest.mark.parametrize("first", ["worker", "controlplane"])
def test_nothing_is_lost_while_only_some_have_the_new_file(fleet: Fleet, own_clinic: Clinic, first: str):
    """The breaker that parks is not the one that releases; jobs still come back, and all is as it should be once both have the file."""
    for module in ("worker", "controlplane"):
        (own_clinic.folder / f"{module}.toml").write_text(NEW if module == first else OLD)
    for module in ("worker", "controlplane", "jobapi"):
        fleet.launch(module, SICKBAY_CONFIG=f"{module}.toml" if module != "jobapi" else "")
    with Clients(fleet.ready()) as sickbay:
        sickbay.wait(sickbay.submit("email"), "SUCCEEDED")
        own_clinic.break_down("email")
        jobs = sickbay.submit_all("email", *({"number": number} for number in range(10)))
        sickbay.wait_all(jobs, "PARKED")
        assert fleet.services["controlplane"][0].logged("or its settings file names another dependency")
        assert max(sickbay.job(job_id)["generation"] for job_id in jobs) <= MOST_GENERATIONS
        own_clinic.repair("email")
        sickbay.wait_all(jobs, "SUCCEEDED")
        assert max(sickbay.job(job_id)["generation"] for job_id in jobs) <= MOST_WHILE_RECOVERING
        for module in ("worker", "controlplane"):
            (own_clinic.folder / f"{module}.toml").write_text(NEW)
        assert fleet.services["controlplane" if first == "worker" else "worker"][0].logged("the settings file has changed")
        sickbay.wait(sickbay.submit("email"), "SUCCEEDED")
        until(lambda: sickbay.breaker("email").get("dependency") == "smtp")
