"""The examples do what they say, started as they say."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.support.clients import Clients
from tests.support.system_under_test import Product
from tests.support.webhook_receiver import SECRET

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
QUICK: Final = {"RETRY_DELAY_MS": "300", "LOG_FORMAT": "json"}
NAMES: Final = sorted(path.stem for path in EXAMPLES.glob("*.py") if path.stem not in {"client", "outbox", "test_handlers"})
"""Those with handlers; the others are programs of their own, and tests."""


Started = Callable[..., Product]


@pytest.fixture
def started(tmp_path: Path, start: Callable[..., Product]) -> Started:
    """`sickbay up --handlers NAME` in a folder with the examples."""
    shutil.copytree(EXAMPLES, tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    return lambda name, **env: start(tmp_path / "examples", QUICK | env, options=["--handlers", name]).ready()


@pytest.mark.parametrize("name", NAMES)
def test_each_begins_with_the_command_that_starts_it(name: str):
    command = f"sickbay up --ephemeral --handlers {name}"
    assert command in (EXAMPLES / f"{name}.py").read_text("utf-8").split('"""')[1]
    assert command in (EXAMPLES / "README.md").read_text("utf-8")


def test_their_own_tests_pass(tmp_path: Path):
    folder = shutil.copytree(EXAMPLES, tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_handlers.py"]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "9 passed" in ran.stdout


def test_first_handler(started: Started):
    product = started("first_handler")
    with Clients(product) as sickbay:
        sickbay.wait(sickbay.submit("greet", {"name": "Ada"}), "SUCCEEDED")
    assert product.out.wait_for(lambda line: line == "Hello, Ada!\n")


def test_idempotent_effect(started: Started):
    """The first run fails after the effect, the second finds it done."""
    product = started("idempotent_effect")
    with Clients(product) as sickbay:
        job_id = sickbay.submit("charge", {"account": "ada", "cents": 500, "breaks": True})
        sickbay.wait(job_id, "SUCCEEDED")
        assert [error["code"] for error in sickbay.job(job_id)["errors"]] == ["NETWORK_ERROR"]
    assert product.out.wait_for(lambda line: line == "ada: was charged already\n")
    assert len(re.findall(r"^ada: ", product.out.text, re.MULTILINE)) == 2


def test_retries_and_errors(started: Started):
    """Data ends with a person at once; what is not the job's fault is retried."""
    product = started("retries_and_errors")
    with Clients(product) as sickbay:
        nowhere, busy, closed = (sickbay.submit("deliver", {"to": to}) for to in ("nowhere", "busy", "closed"))
        sickbay.wait(nowhere, "QUARANTINED")
        sickbay.wait_all([busy, closed], "SUCCEEDED")
        found = {job_id: [error["code"] for error in sickbay.job(job_id)["errors"]] for job_id in (nowhere, busy, closed)}
    assert found == {
        nowhere: ["NO_SUCH_ADDRESS"],
        busy: ["COURIER_BUSY"],
        closed: ["CONNECTION_REFUSED"],
    }


def test_shared_client(started: Started):
    """The invoice is made by a follow-up job; the export ends when it is cancelled; the shop is closed at the end."""
    product = started("shared_client")
    with Clients(product) as sickbay:
        order, export = sickbay.submit("order", {"id": 7, "customer": "ada"}), sickbay.submit("export", {"pages": 10_000})
        sickbay.wait(order, "SUCCEEDED")
        invoice = sickbay.job(order)["result"]["invoice"]
        sickbay.wait(invoice, "SUCCEEDED")
        assert sickbay.job(invoice)["result"] == "invoice of order 7 for ada"
        sickbay.wait(export, "RUNNING")
        sickbay.api.post(f"/jobs/{export}/cancel").raise_for_status()
        sickbay.wait(export, "CANCELLED")
        assert "STOPPED: after" in sickbay.job(export)["history"][-1]["message"]
    product.terminate()
    assert product.out.wait_for(lambda line: line == "the shop is closed\n")


def test_scheduled(started: Started):
    """The interval comes by itself; the report, which is for the night, when somebody asks for it."""
    product = started("scheduled")
    assert product.out.wait_for(lambda line: line == "polled what is new\n")
    with Clients(product) as sickbay:
        names = {one["scheduleId"] for one in sickbay.plane.get("/schedules").json()["schedules"]}
        assert names == {"poll", "poll-everything", "report"}
        sickbay.plane.post("/schedules/report/trigger").raise_for_status()
    assert product.out.wait_for(lambda line: line.startswith("the report of 2"))


def test_own_observer(started: Started):
    """It hears of a slow run and of a failure, in the process that it observes."""
    product = started("own_observer", OBSERVERS="own_observer:SlowJobs")
    with Clients(product) as sickbay:
        sickbay.wait(sickbay.submit("report", {"seconds": 1.1}), "SUCCEEDED")
        sickbay.submit("report", {"breaks": True})
    assert product.out.wait_for(lambda line: line.startswith("slow: report took 1."))
    assert product.out.wait_for(lambda line: line == "report is RETRYING: NETWORK_ERROR\n")


def test_typed_payload(started: Started):
    """The same file is the handler and its client."""
    product = started("typed_payload")
    with Clients(product) as sickbay:
        assert sickbay.api.get("/types/invoice").json()["validatedOnSubmit"] is True
    assert _run("typed_payload", product) == [
        "the total: 6.50",
        "rejected: ('payload.lines[0].price', 'it is missing')",
    ]
    assert product.out.wait_for(lambda line: line == "ada owes 6.50 (invoice)\n")


def test_client(started: Started):
    """A program of its own, which finds the services by its environment."""
    assert _run("client", started("first_handler")) == [
        "one job: SUCCEEDED",
        "a result: {'words': 6}",
        "many jobs: 2500 accepted",
        "an error: JOB_NOT_FOUND",
        "another: InvalidRequest, INVALID_JOB_TYPE",
        "from an event loop: SUCCEEDED",
    ]


def test_outbox(started: Started):
    """One job of three orders: the others were rolled back."""
    product = started("first_handler")
    assert _run("outbox", product) == [
        "rolled back: Bob has not paid",
        "refused: INVALID_JOB_TYPE",
        "relayed: 1",
        "the job of the order: SUCCEEDED",
    ]
    assert product.out.wait_for(lambda line: line == "Hello, Ada!\n")


def _run(name: str, product: Product) -> list[str]:
    """What the program prints."""
    addresses = {"SICKBAY_JOBAPI": "Job API", "SICKBAY_CONTROL_PLANE": "Control plane"}
    environment = os.environ | {name: f"localhost:{product.ports[service][1]}" for name, service in addresses.items()}
    ran = subprocess.run([sys.executable, EXAMPLES / f"{name}.py"], env=environment, capture_output=True, text=True, check=False)
    assert ran.stderr == ""
    return ran.stdout.splitlines()


@pytest.fixture(params=["endpoint.py", "endpoint.mjs"])
def endpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, str, subprocess.Popen[str]]]:
    """The endpoint of the example on a free port, and a folder with the settings file for it."""
    program = "node" if request.param.endswith(".mjs") else sys.executable
    if shutil.which(program) is None:
        pytest.skip("there is no Node here")
    command, env = [program, str(EXAMPLES / "http_handler" / request.param)], os.environ | {"BILLING_SECRET": SECRET, "PORT": "0"}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline().removeprefix("listening on port ").strip()
            settings = (EXAMPLES / "http_handler" / "sickbay.toml").read_text("utf-8")
            (tmp_path / "sickbay.toml").write_text(settings.replace(":8000", f":{port}"))
            yield tmp_path, f"http://127.0.0.1:{port}/", process
        finally:
            process.terminate()


def test_http_handler(endpoint: tuple[Path, str, subprocess.Popen[str]], start: Callable[..., Product]):
    """The answer is the result; what the endpoint calls the job's own fault is; who does not know the secret is not believed."""
    folder, url, process = endpoint
    with Clients(
        start(folder, QUICK | {"BILLING_SECRET": SECRET, "SICKBAY_CONFIG": "sickbay.toml", "MAX_RETRIES": "0"}).ready()
    ) as sickbay:
        paid, free = sickbay.submit("invoice", {"customer": "ada", "cents": 500}), sickbay.submit("invoice", {"customer": "bob"})
        sickbay.wait(paid, "SUCCEEDED")
        assert sickbay.job(paid)["result"] == {"number": 1}
        sickbay.wait(free, "QUARANTINED")
        assert [error["code"] for error in sickbay.job(free)["errors"]] == ["NO_AMOUNT"]
    assert process.stdout is not None
    assert process.stdout.readline() == "invoice 1 for ada, run 1\n"
    forged = httpx.post(url, content=b'{"customer": "eve", "cents": 1}', headers={"webhook-signature": "v1,AAAA", "webhook-timestamp": "1"})
    assert (forged.status_code, forged.json()["title"]) == (401, "not signed with BILLING_SECRET")
