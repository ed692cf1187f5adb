"""The demo's handlers run only where somebody asked for them, and `crash` only where nobody's real jobs are."""

from __future__ import annotations

import logging

import pytest

from sickbay import Job, JobError
from sickbay.domain.errors import MissingSetting
from sickbay.runtime.settings import Settings
from sickbay_cli.upchoice import choose_handlers, record_handlers
from worker import demo
from worker.app import MAX_SHOWN, report
from worker.choice import load_chosen, warn_if_demo

URL = "amqp://127.0.0.1"


@pytest.fixture
def may_crash(monkeypatch):
    """Whether `crash` is obeyed; as if nobody had been asked yet."""
    flag = demo.Event()
    monkeypatch.setattr(demo, "_may_crash", flag)
    return flag


@pytest.fixture
def own_handlers(tmp_path, monkeypatch):
    """A module of somebody's own that can be imported."""
    (tmp_path / "own_handlers.py").write_text("from sickbay import handler\n\n\n@handler('own')\nasync def own(job): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize("modules", ["", " ", ",", " , "])
def test_without_handlers_a_worker_says_what_to_set(modules):
    """One sentence with the variable, an example, and how to ask for the demo."""
    with pytest.raises(MissingSetting) as caught:
        load_chosen(modules)
    assert all(part in str(caught.value) for part in ("JOB_HANDLERS=my_handlers", "JOB_HANDLERS=worker.demo"))
    assert caught.value.exit_code == 2
    assert load_chosen(modules, has_others=True) == {}


def test_where_programs_bring_the_handlers_nobody_asks_for_modules_and_no_demo_runs(tmp_path):
    settings = Settings.read(work_stream="local", rabbitmq_url=URL)
    assert choose_handlers(settings, has_others=True) == ""
    (tmp_path / "handlers").write_text("own_handlers\n")
    record_handlers(Settings.read(work_stream="local"), tmp_path)
    assert choose_handlers(Settings.read(work_stream="local", job_handlers="own_handlers"), has_others=True) == "own_handlers"


@pytest.mark.parametrize(("modules", "lines"), [("worker.demo", 1), ("my_handlers, worker.demo", 1), ("my_handlers", 0)])
def test_the_demo_is_told_in_the_log(modules, lines, caplog):
    """Whoever reads the log of a process with the demo's handlers knows that nothing is sent."""
    with caplog.at_level(logging.WARNING):
        warn_if_demo(modules)
    assert caplog.text.count("only simulated") == lines


@pytest.mark.parametrize(
    ("modules", "has_own_queue", "obeyed"),
    [
        ("worker.demo", True, True),
        (" worker.demo ,", True, True),
        ("worker.demo", False, False),
        ("worker.demo,own_handlers", True, False),
        ("own_handlers,worker.demo", False, False),
    ],
)
@pytest.mark.usefixtures("own_handlers")
def test_crash_is_obeyed_only_where_the_demo_is_alone(modules, has_own_queue, obeyed, may_crash):
    """Beside other handlers, or on a queue that others may share, a payload kills nobody."""
    load_chosen(modules, has_own_queue=has_own_queue)
    assert may_crash.is_set() is obeyed


@pytest.mark.parametrize("wish", ['"crash"', '["crash"]'])
async def test_where_others_work_crash_is_a_data_error(wish, may_crash):
    with pytest.raises(JobError, match="VALIDATION_ERROR: crash works only where the demo runs alone"):
        await demo.send_email(Job("j", "email", b'{"simulate": %s}' % wish.encode()))


def test_up_without_handlers_is_the_demo(tmp_path):
    """Anywhere but where jobs may be real ones; it leaves no note."""
    assert choose_handlers(Settings()) == "worker.demo"
    for folder in (None, tmp_path, tmp_path / "new"):
        record_handlers(Settings(), folder)
    assert list(tmp_path.iterdir()) == []


def test_up_on_a_shared_rabbitmq_must_be_told():
    """The jobs there may be real ones."""
    with pytest.raises(MissingSetting, match=r"--handlers worker\.demo"):
        choose_handlers(Settings(rabbitmq_url=URL))
    assert choose_handlers(Settings(rabbitmq_url=URL, job_handlers="worker.demo")) == "worker.demo"


def test_up_does_not_simulate_the_jobs_of_other_handlers(tmp_path):
    """A forgotten `--handlers` does not "send" the emails that wait in the data folder; whoever asks for the demo gets it."""
    record_handlers(Settings(job_handlers="my_handlers"), tmp_path)
    with pytest.raises(MissingSetting, match="my_handlers"):
        record_handlers(Settings(), tmp_path)
    record_handlers(Settings(job_handlers="worker.demo"), tmp_path)
    with pytest.raises(MissingSetting, match="my_handlers"):
        record_handlers(Settings(), tmp_path)


def test_a_note_that_cannot_be_written_or_read_is_none(tmp_path):
    record_handlers(Settings(job_handlers="my_handlers"), tmp_path / "nowhere")
    (tmp_path / "handlers").write_bytes(b"\xff")
    record_handlers(Settings(), tmp_path)


@pytest.mark.parametrize(
    ("count", "words"),
    [(2, "this worker handles t00, t01, 7 jobs at a time"), (MAX_SHOWN + 5, "t19 and 5 more job types, 7 jobs at a time")],
)
def test_a_worker_says_what_it_handles(caplog, count, words):
    caplog.set_level(logging.INFO, "sickbay")
    report({f"t{number:02}": None for number in reversed(range(count))}, 7)
    (record,) = caplog.records
    assert record.getMessage().endswith(words)
