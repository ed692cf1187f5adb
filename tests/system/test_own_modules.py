"""A module that a user names is the user's, whatever else has that name, in every way to start a worker."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.clients import Clients
from tests.support.fleet import Fleet
from tests.support.isolated_servers import Corner
from tests.support.process import Process
from tests.support.system_under_test import Product

pytestmark = pytest.mark.executed

OWN = "from email.message import EmailMessage\nfrom sickbay import handler\n@handler({name!r})\ndef run(job): EmailMessage()\n"


def own(folder: Path, *names: str) -> Path:
    """The folder, with a module of each name that handles a type of the same name."""
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / f"{name}.py").write_text(OWN.format(name=name))
    return folder


def test_up_runs_the_users_own_modules(tmp_path: Path, start: Callable[..., Product]):
    """`worker`, `email` and `gen` are names of others, too."""
    folder = own(tmp_path, "worker", "email", "queue", "gen")
    product = start(folder, {"JOB_HANDLERS": ""}, options=["--handlers", "worker,email,queue,gen"]).ready()
    assert re.search(r"runs email, gen, queue, worker$", product.out.text, re.MULTILINE)
    with Clients(product) as sickbay:
        for job_type in ("worker", "email", "queue", "gen"):
            sickbay.wait(sickbay.submit(job_type, {}), "SUCCEEDED")


@pytest.mark.servers
def test_workers_of_a_fleet_run_the_users_own_modules(tmp_path: Path, corner: Corner):
    """`python -m worker` runs them, also a `worker.py`, and `sickbay worker` does."""
    mine, others = own(tmp_path / "mine", "worker"), own(tmp_path / "others", "email", "queue", "gen")
    with Fleet(others, corner.env) as fleet, Clients(fleet.launch_all(workers=1, JOB_HANDLERS="email,queue,gen").ready()) as sickbay:
        env = {"LOG_FORMAT": "json", "PORT": "0", "GRPC_PORT": "0", "BIND_HOST": "127.0.0.1"} | dict(corner.env)
        for job_type in ("email", "queue", "gen"):
            sickbay.wait(sickbay.submit(job_type, {}), "SUCCEEDED")
        fleet.retire(fleet.workers[0])
        for words in (["sickbay_cli", "worker", "--handlers", "worker"], ["worker"]):
            second = Process(words, mine, env | {"JOB_HANDLERS": "worker"})
            try:
                assert second.logged("ready: HTTP on port")
                sickbay.wait(sickbay.submit("worker", {}), "SUCCEEDED")
            finally:
                second.stop()
