"""`--reload`: a change of the handlers' source is in force for the jobs that begin after it, and nothing else notices."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.clients import Clients
from tests.support.fleet import Fleet
from tests.support.isolated_servers import Corner
from tests.support.process import Process
from tests.support.system_under_test import Product
from tests.support.waiting import until

ENV = {"JOB_HANDLERS": "", "RETRY_DELAY_MS": "100", "LOG_FORMAT": "json"}
OPTIONS = ["--handlers", "mine", "--reload"]
MINE = """
import pathlib
import time
import util
from sickbay import Job, handler

@handler("word")
def word(job: Job) -> str:
    if "until" in job.payload:
        while not pathlib.Path(job.payload["until"]).exists():
            time.sleep(0.01)
    return util.WORD
"""
MORE = """
@handler("more", timeout=30)
async def more(job: Job) -> str:
    return "more"
"""

TYPED = """
from dataclasses import dataclass
from sickbay import handler

@dataclass
class Mail:
    {field}: str

@handler("mail", validate="submit")
def mail(mail: Mail) -> str:
    return mail.{field}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MINE)
    word(tmp_path, "one")
    return tmp_path


def word(folder: Path, text: str) -> None:
    """Change the module that the handlers' module imports."""
    (folder / "util.py").write_text(f"WORD = {text!r}\n")


def result(sickbay: Clients, job_type: str) -> object:
    job_id = sickbay.submit(job_type)
    sickbay.wait(job_id, "SUCCEEDED")
    return sickbay.job(job_id)["result"]


def test_a_running_job_ends_with_its_code_and_the_next_one_has_the_new(folder: Path, start: Callable[..., Product]):
    product = start(folder, ENV, OPTIONS).ready()
    with Clients(product) as sickbay:
        slow = sickbay.submit("word", {"until": "go"})
        sickbay.wait(slow, "RUNNING")
        word(folder, "two")
        assert product.logged("reloaded mine, since util.py changed: 1 handler; 1 job still runs with the code of before")
        assert result(sickbay, "word") == "two"
        assert sickbay.job(slow)["state"] == "RUNNING"
        (folder / "go").touch()
        sickbay.wait(slow, "SUCCEEDED")
        assert sickbay.job(slow)["result"] == "one"
        word(folder, "six")
        assert product.logged('since util.py changed: 1 handler"')
        assert result(sickbay, "word") == "six"
    product.stop()


def test_a_mistake_leaves_the_handlers_of_before_until_it_is_mended(folder: Path, start: Callable[..., Product]):
    product = start(folder, ENV, OPTIONS).ready()
    with Clients(product) as sickbay:
        (folder / "util.py").write_text("WORD = (\n")
        assert product.logged("not reloaded, the handlers of before go on: JOB_HANDLERS: util.py:1: module 'mine' failed while")
        assert result(sickbay, "word") == "one"
        (folder / "new.py").write_text("WORD = 'two'\n")
        (folder / "new.py").rename(folder / "util.py")  # as editors do
        assert product.logged("reloaded mine, since")
        assert result(sickbay, "word") == "two"


def test_types_come_and_go(folder: Path, start: Callable[..., Product]):
    """A job that was too early comes back by itself, and the others know of the new type."""
    product = start(folder, ENV, OPTIONS).ready()
    with Clients(product) as sickbay:
        early = sickbay.submit("more")
        sickbay.wait(early, "QUARANTINED")
        (folder / "mine.py").write_text(MINE + MORE)
        assert product.logged("since mine.py changed: 2 handlers (new: more)")
        sickbay.wait(early, "SUCCEEDED")
        until(lambda: sickbay.plane.get("/workers").json()["workers"][0]["jobTypes"] == ["more", "word"])
        (folder / "mine.py").write_text(MINE.replace('"word"', '"text"'))
        assert product.logged("since mine.py changed: 1 handler (new: text; gone: more, word)")
        assert result(sickbay, "text") == "one"
        late = sickbay.submit("word")
        sickbay.wait(late, "QUARANTINED")
        assert sickbay.case(late)["reason"] == "UNKNOWN_TYPE"


def test_a_class_of_payloads_changes_with_its_handler(folder: Path, start: Callable[..., Product]):
    """Also for the Job API, which checks them."""
    (folder / "mine.py").write_text(TYPED.format(field="to"))
    product = start(folder, ENV, OPTIONS).ready()
    with Clients(product) as sickbay:
        sickbay.wait(sickbay.submit("mail", {"to": "Ada"}), "SUCCEEDED")
        (folder / "mine.py").write_text(TYPED.format(field="address"))
        assert product.logged("since mine.py changed: 1 handler")
        until(lambda: sickbay.api.post("/jobs", json={"jobType": "mail", "payload": {"to": "Ada"}}).status_code == 400)
        job_id = sickbay.submit("mail", {"address": "Ada"})
        sickbay.wait(job_id, "SUCCEEDED")
        assert sickbay.job(job_id)["result"] == "Ada"


def test_a_kill_in_the_middle_of_a_reload_loses_nothing(folder: Path, start: Callable[..., Product]):
    """While the new module is being imported, jobs of before run on; after the kill all run."""
    product = start(folder, ENV, OPTIONS).ready()
    with Clients(product) as sickbay:
        running = sickbay.submit("word", {"until": "go"})
        sickbay.wait(running, "RUNNING")
        hangs = "import pathlib, time\npathlib.Path('importing').touch()\nwhile not pathlib.Path('go').exists(): time.sleep(0.01)\n"
        (folder / "util.py").write_text(hangs + "WORD = 'two'\n")
        until((folder / "importing").exists)
        jobs = [running, *sickbay.submit_all("word", *[{"n": number} for number in range(20)])]
        sickbay.wait(jobs[-1], "SUCCEEDED")
        jobs += sickbay.submit_all("word", *[{"n": number} for number in range(20)])
        product.kill()
    (folder / "go").touch()
    with Clients(start(folder, ENV, OPTIONS).ready()) as sickbay:
        sickbay.wait_until_known(*jobs)
        sickbay.wait_all(jobs, "SUCCEEDED")
        assert sickbay.job(running)["result"] == "two"


def test_it_stops_at_once_although_a_module_hangs(folder: Path, start: Callable[..., Product]):
    product = start(folder, ENV, OPTIONS).ready()
    (folder / "util.py").write_text("import pathlib, time\npathlib.Path('importing').touch()\ntime.sleep(1_000)\n")
    until((folder / "importing").exists)
    began = time.monotonic()
    product.stop()
    assert time.monotonic() - began < 15


@pytest.mark.servers
def test_a_worker_of_a_fleet(folder: Path, corner: Corner):
    env = {"PORT": "0", "GRPC_PORT": "0", "BIND_HOST": "127.0.0.1"} | ENV | dict(corner.env)
    with Fleet(folder, corner.env) as fleet, Clients(fleet.launch_all(workers=1, JOB_HANDLERS="mine").ready()) as sickbay:
        fleet.retire(fleet.workers[0])
        worker = Process(["sickbay_cli", "worker", *OPTIONS], folder, env)
        try:
            assert worker.logged("--reload watches")
            assert result(sickbay, "word") == "one"
            word(folder, "two")
            assert worker.logged("reloaded mine, since util.py changed: 1 handler")
            assert result(sickbay, "word") == "two"
        finally:
            worker.stop()


def test_the_demo_cannot_be_reloaded(folder: Path):
    """It is not the user's."""
    ran = Process(["sickbay_cli", "up", "--ephemeral", "--reload"], folder, ENV)
    assert ran.wait() == 2
    assert ran.err.text == "Error: --reload needs handlers of yours: add --handlers my_handlers\n"
