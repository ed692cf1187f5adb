"""Log lines: for people on a terminal, for machines elsewhere, and never the values of local variables."""

import json
import logging
from dataclasses import replace

import pytest
import structlog
from grpc._cython.cygrpc import ExecuteBatchError

from sickbay.domain.failure import Failure
from sickbay.domain.job import Job, JobEvent, JobState, Reason
from sickbay.handlers.registry import HandlerSpec
from sickbay.telemetry.joblog import JobLog
from sickbay.telemetry.logs import configure_logging
from tests.support.engine_bench import open_bench


@pytest.fixture(autouse=True)
def restored():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    for name in ("worker.engine", "sickbay.jobs", "alembic"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    structlog.reset_defaults()


def raise_with_secret():
    password = "hunter2"
    raise ValueError(f"of length {len(password)}")


def test_json_lines_carry_tracebacks_without_values(capsys):
    configure_logging("INFO", "json")
    try:
        raise_with_secret()
    except ValueError:
        logging.getLogger("sickbay").exception("it %s", "broke")
    (line,) = capsys.readouterr().err.splitlines()
    told = json.loads(line)
    assert (told["event"], told["level"], told["logger"]) == ("it broke", "error", "sickbay")
    assert told["exception"][0]["exc_type"] == "ValueError"
    assert "hunter2" not in line


def test_a_terminal_gets_plain_lines(capsys):
    configure_logging("INFO", "console")
    logging.getLogger("sickbay").info("hello")
    logging.getLogger("sickbay").debug("not this")
    try:
        raise_with_secret()
    except ValueError:
        logging.getLogger("sickbay").exception("it broke")
    told = capsys.readouterr().err
    assert "hello" in told
    assert "not this" not in told
    assert "ValueError: of length 7" in told
    assert "hunter2" not in told.replace('password = "hunter2"', "")


def test_libraries_are_quiet(capsys):
    configure_logging("INFO", "json")
    logging.getLogger("alembic.runtime").info("chatter")
    logging.getLogger("alembic.runtime").warning("this matters")
    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == ["this matters"]


def lines(capsys):
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_client_that_went_away_is_no_error(capsys):
    configure_logging("INFO", "json")
    log = logging.getLogger("grpc._cython.cygrpc")
    for error in (ExecuteBatchError("Failed to send the status"), ValueError("of ours")):
        try:
            raise error
        except (ExecuteBatchError, ValueError):
            log.exception("raised by servicer method")
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["exception"][0]["exc_type"] == "ValueError"


def test_modules_have_levels_of_their_own(capsys):
    configure_logging("WARNING,worker.engine=DEBUG,alembic=INFO", "json")
    logging.getLogger("worker.engine").debug("told")
    logging.getLogger("worker.app").info("not told")
    logging.getLogger("alembic.runtime").info("wanted")
    assert [line["event"] for line in lines(capsys)] == ["told", "wanted"]


JOB = Job("j-1", "email", b'{"secret": "hunter2"}', attempt=1, submitted_at=1)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (
            JobEvent(JOB, JobState.RETRYING, 30, started_at=10, code="API_TIMEOUT", message="hunter2"),
            {"event": "job failed and will run again", "attempt": 0, "code": "API_TIMEOUT", "run_ms": 20},
        ),
        (
            JobEvent(JOB, JobState.PARKED, 30, reason=Reason.CIRCUIT_OPEN, code="CIRCUIT_OPEN"),
            {"event": "job parked", "attempt": 1, "reason": "CIRCUIT_OPEN"},
        ),
        (
            JobEvent(JOB, JobState.QUARANTINED, 30, started_at=29, reason=Reason.RETRIES_EXHAUSTED, code="X", message="hunter2"),
            {"event": "job quarantined", "attempt": 1, "reason": "RETRIES_EXHAUSTED", "code": "X"},
        ),
        (JobEvent(JOB, JobState.QUEUED, 30, duplicate=True), {"event": "outdated copy of a job dropped", "attempt": 1}),
    ],
)
def test_one_line_for_each_outcome_with_the_job_and_without_its_content(capsys, event, expected):
    configure_logging("INFO", "json")
    JobLog().settled(event)
    ((line,), text) = lines_and_text(capsys)
    assert line.items() >= (expected | {"job_id": "j-1", "job_type": "email", "generation": 0, "level": "info"}).items()
    assert "hunter2" not in text


FAILED = replace(JOB, failures=(Failure(20, 0, 0, "KEY_ERROR", "'emial'", "Traceback:\n  File x"),))


@pytest.mark.parametrize("state", [JobState.RETRYING, JobState.PARKED, JobState.QUARANTINED])
def test_a_failed_run_is_told_with_its_message_and_its_traceback(capsys, state):
    """Once per attempt, so that nobody has to ask the ledger why."""
    configure_logging("INFO", "json")
    JobLog().settled(JobEvent(FAILED, state, 30, started_at=10, code="KEY_ERROR", message="'emial'"))
    (line,) = lines(capsys)
    assert (line["error"], line["traceback"]) == ("'emial'", "Traceback:\n  File x")


def test_a_job_that_waits_says_for_how_long(capsys):
    configure_logging("INFO", "json")
    waiting = replace(JOB, failures=(Failure(20, 0, 0, "API_TIMEOUT", "no answer", retry_at=9_020),))
    JobLog().settled(JobEvent(waiting, JobState.RETRYING, 30, started_at=10, code="API_TIMEOUT"))
    JobLog().settled(JobEvent(waiting, JobState.PARKED, 30, started_at=10, code="API_TIMEOUT"))
    assert [line.get("retry_in_ms") for line in lines(capsys)] == [8_990, None]


def test_a_job_that_was_parked_without_a_run_is_told_without_an_old_failure(capsys):
    configure_logging("INFO", "json")
    JobLog().settled(JobEvent(FAILED, JobState.PARKED, 30, reason=Reason.CIRCUIT_OPEN, code="CIRCUIT_OPEN"))
    (line,) = lines(capsys)
    assert not {"error", "traceback"} & line.keys()


def test_on_a_terminal_the_traceback_stands_below_its_line(capsys):
    configure_logging("INFO", "console")
    JobLog().settled(JobEvent(FAILED, JobState.RETRYING, 30, started_at=10, code="KEY_ERROR"))
    text = capsys.readouterr().err
    assert "\n  Traceback:\n    File x" in text
    assert text.count("Traceback") == 1


def lines_and_text(capsys):
    text = capsys.readouterr().err
    return [json.loads(line) for line in text.splitlines()], text


def test_successes_are_told_only_to_those_who_ask(capsys):
    succeeded = JobEvent(JOB, JobState.SUCCEEDED, 30, started_at=10)
    configure_logging("INFO", "json")
    JobLog().settled(succeeded)
    configure_logging("INFO,sickbay.jobs=DEBUG", "json")
    JobLog().settled(succeeded)
    assert [(line["event"], line["job_id"]) for line in lines(capsys)] == [("job succeeded", "j-1")]


@pytest.mark.parametrize("in_thread", [False, True])
async def test_a_handlers_own_lines_name_its_job(capsys, in_thread):
    configure_logging("INFO", "json")

    def speak(job):
        logging.getLogger("my_handlers").info("calling %s", "smtp", extra={"host": "mail"})
        structlog.get_logger("my_handlers").info("called", tries=2)

    async def speak_on_the_loop(job):
        speak(job)

    async with open_bench(HandlerSpec("email", speak if in_thread else speak_on_the_loop)) as bench:
        await bench.run_one(JOB)
    logging.getLogger("my_handlers").info("idle")
    first, second, idle = [line for line in lines(capsys) if line["logger"] == "my_handlers"]
    who = {"job_id": "j-1", "job_type": "email", "attempt": 1, "generation": 0}
    assert first.items() >= (who | {"event": "calling smtp", "host": "mail"}).items()
    assert second.items() >= (who | {"event": "called", "tries": 2}).items()
    assert "job_id" not in idle
