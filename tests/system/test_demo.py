"""The demo as documented: 20 emails open the circuit, and a reset closes it; and it runs only where somebody asked for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.clients import Clients
from tests.support.fake_dependency import Clinic
from tests.support.fleet import Fleet
from tests.support.isolated_servers import Corner
from tests.support.process import Process
from tests.support.system_under_test import Product


def test_the_documented_loop_opens_the_email_circuit(tmp_path: Path, start: Callable[..., Product]):
    with Clients(start(tmp_path, {}).ready()) as sickbay:
        sickbay.wait(sickbay.submit("email", {"id": 0, "simulate": "ok"}), "SUCCEEDED")
        with sickbay.watching("email") as breaker:
            for number in range(1, 21):
                sickbay.submit("email", {"id": number})
            opened = breaker.until("OPEN")
            assert (opened.reason_code, opened.reason_count, opened.cooldown.seconds) == ("API_TIMEOUT", 5, 60)
        reset = sickbay.plane.post("/breakers/email/reset")
        assert reset.json() == {"message": "Circuit breaker for 'email' has been reset", "jobType": "email"}
        assert sickbay.breaker("email")["state"] == "CLOSED"


def test_banner_and_log_say_that_it_is_the_demo(tmp_path: Path, start: Callable[..., Product]):
    """Nobody takes the SUCCEEDED of a simulated email for a sent one."""
    product = start(tmp_path, {"LOG_FORMAT": "json"}).ready()
    assert "This is the demo: jobs of email, sms and webhook are only simulated, nothing is sent." in product.out.text
    assert product.logged("only simulated, nothing is sent")


def test_with_other_handlers_nobody_speaks_of_the_demo(own_clinic: Clinic, start: Callable[..., Product]):
    product = start(own_clinic.folder).ready()
    assert "demo" not in product.out.text + product.err.text


@pytest.mark.parametrize("words", [["worker"], ["sickbay_cli", "worker"]])
@pytest.mark.parametrize("env", [{}, {"JOB_HANDLERS": ""}, {"JOB_HANDLERS": " "}])
def test_a_worker_without_handlers_says_what_to_set_and_ends(words: list[str], env: dict[str, str], tmp_path: Path):
    """It takes no job: exit code 2 and one sentence with an example, and with how to ask for the demo."""
    process = Process(words, tmp_path, {"RABBITMQ_URL": "amqp://127.0.0.1:1", "REDIS_URL": "redis://127.0.0.1:1"} | env)
    assert process.wait() == 2
    (line,) = process.err.text.splitlines()
    assert all(part in line for part in ("JOB_HANDLERS is not set", "JOB_HANDLERS=my_handlers", "JOB_HANDLERS=worker.demo"))


@pytest.mark.parametrize(
    ("env", "part"), [({}, "belong to the handlers clinic_handlers"), ({"RABBITMQ_URL": "amqp://127.0.0.1:1"}, "RABBITMQ_URL")]
)
def test_up_does_not_simulate_real_jobs(env: dict[str, str], part: str, own_clinic: Clinic, start: Callable[..., Product]):
    """A forgotten --handlers "sends" neither the jobs of the data folder nor those of a RabbitMQ that others use."""
    start(own_clinic.folder).ready().stop()
    forgetful = Product(own_clinic.folder, env)
    assert forgetful.wait() == 2
    (line,) = forgetful.err.text.splitlines()
    assert all(words in line for words in (part, "--handlers worker.demo"))


@pytest.mark.servers
def test_in_a_fleet_no_payload_crashes_a_worker(tmp_path: Path, corner: Corner):
    """The demo that was asked for by its name runs, says so, and takes `crash` for bad data, since others may work on the same queue."""
    env = dict(corner.env) | {"JOB_HANDLERS": "worker.demo", "MAX_RETRIES": "0"}
    with Fleet(tmp_path, env) as fleet, Clients(fleet.launch_all(workers=1).ready()) as sickbay:
        assert fleet.workers[0].logged("only simulated, nothing is sent")
        crash, fine = sickbay.submit("email", {"simulate": "crash"}), sickbay.submit("email", {"simulate": "ok"})
        sickbay.wait(crash, "QUARANTINED")
        sickbay.wait(fine, "SUCCEEDED")
        assert [error["code"] for error in sickbay.case(crash)["errors"]] == ["VALIDATION_ERROR"]
        assert fleet.workers[0].process.poll() is None
