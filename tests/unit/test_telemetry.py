"""Log lines: for people on a terminal, for machines elsewhere, and never the values of local variables."""

import json
import logging

import pytest

from sickbay.telemetry import configure_logging


@pytest.fixture(autouse=True)
def restored():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


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
    logging.getLogger("uvicorn.error").info("chatter")
    logging.getLogger("alembic.runtime").warning("this matters")
    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == ["this matters"]
