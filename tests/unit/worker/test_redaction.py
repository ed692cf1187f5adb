"""REDACT: secrets leave the process in no message, traceback, log line or span, and a function that fails lets nothing through."""

from __future__ import annotations

import json
import logging

import pytest
import structlog
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from sickbay.domain.breaker import BreakerKey, Permit, PermitKind
from sickbay.domain.errors import SettingsError
from sickbay.domain.failure import MAX_MESSAGE_CHARS, MAX_TRACEBACK_BYTES
from sickbay.domain.job import Job
from sickbay.domain.outcome import Outcome, OutcomeKind
from sickbay.handlers.registry import HandlerSpec
from sickbay.runtime.redaction import load_redaction, redacted_outcome, safe
from sickbay.telemetry.logs import configure_logging
from sickbay.telemetry.redacted_spans import RedactedExporter
from tests.support.engine_bench import StubBreakers
from tests.support.nasty_values import Mystery, Panic, Text
from worker.runner import Runner

PERMIT = Permit(BreakerKey("email"), PermitKind.NORMAL, 1, "j")
MODULE = """
def hide(text):
    return text.replace("hunter2", "***")

async def late(text):
    return text

def fussy(text):
    raise ValueError(text)

def nothing(text):
    return None

def two(text, more):
    return text

number = 3
"""


@pytest.fixture(autouse=True)
def restored():
    """Logging as it was before."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def hide(text):
    return text.replace("hunter2", "***")


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of the user's, in the folder from which the process was started."""
    (tmp_path / "my_redaction.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_without_the_setting_there_is_none():
    assert load_redaction("") is None


@pytest.mark.usefixtures("module")
def test_the_named_function_is_asked():
    redact = load_redaction("my_redaction:hide")
    assert redact is not None
    assert redact("the key is hunter2") == "the key is ***"


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("my_redaction", "must be module:function"),
        (":hide", "must be module:function"),
        ("no_such_module:hide", "could not be imported"),
        ("my_redaction:nobody", "has no function 'nobody'"),
        ("my_redaction:number", "has no function 'number'"),
        ("my_redaction:fussy", "raised ValueError"),
        ("my_redaction:two", "takes one text"),
        ("my_redaction:nothing", "returns a text, not NoneType"),
        ("my_redaction:late", "must be a plain function"),
    ],
)
def test_what_cannot_work_ends_the_start_with_one_sentence(name, words):
    with pytest.raises(SettingsError, match="REDACT") as caught:
        load_redaction(name)
    assert words in str(caught.value)


def breaks_by(error):
    def function(text):
        raise error

    return function


@pytest.mark.parametrize(
    "function", [breaks_by(ValueError("hunter2")), breaks_by(KeyboardInterrupt()), breaks_by(SystemExit()), breaks_by(Panic())]
)
def test_a_function_that_fails_lets_nothing_through(function):
    """Whatever it raises: the text is replaced, and says whose fault that is."""
    text = safe(function)("the key is hunter2")
    assert text.startswith("(withheld: the function of REDACT failed: ")
    assert "hunter2" not in text


@pytest.mark.parametrize("answer", [lambda: None, lambda: 3, lambda: b"hunter2", Mystery])
def test_what_is_no_text_lets_nothing_through(answer):
    assert safe(lambda _: answer())("hunter2").startswith("(withheld")


def test_its_answers_are_text_that_can_be_written():
    assert safe(lambda _: Text("fine"))("x") == "fine"
    assert safe(lambda _: "a\udcff\0")("x") == "a\\udcff\\x00"
    assert len(safe(lambda _: "x" * 10**6)("x")) <= 100_000


def test_an_outcome_keeps_its_bounds():
    """A function may make a text longer."""
    found = redacted_outcome(Outcome(OutcomeKind.DATA, "X", "hunter2", 5, "hunter2"), safe(lambda text: text * 10_000))
    assert len(found.message) == MAX_MESSAGE_CHARS
    assert len(found.traceback.encode()) <= MAX_TRACEBACK_BYTES
    assert (found.kind, found.code, found.retry_after_ms) == (OutcomeKind.DATA, "X", 5)


async def test_everybody_hears_of_an_outcome_without_secrets():
    """Breaker, record, events and observers are told what the runner returns."""

    async def breaks(job):
        raise KeyError("no hunter2")

    runner = Runner(StubBreakers([]), timeout_s=5, concurrency=1, redact=safe(hide))
    outcome = await runner.run(HandlerSpec("email", breaks), Job("j", "email"), PERMIT)
    runner.close()
    assert "***" in outcome.message
    assert "hunter2" not in outcome.message + outcome.traceback


def logged(capsys):
    return capsys.readouterr().err


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_every_line_of_the_log_is_asked_about(capsys, log_format):
    """Events, arguments, extras, nested values and tracebacks, of the standard library's logging and of structlog."""
    configure_logging("INFO", log_format, safe(hide))
    log = logging.getLogger("my_handlers")
    log.info("key %s", "hunter2", extra={"deep": {"list": ["hunter2"]}, "thing": ValueError("hunter2"), "number": 3})
    structlog.get_logger("my_handlers").info("key", token="hunter2")
    try:
        "".index(["hunter2"])
    except TypeError as error:
        error.args = ("hunter2",)
        log.exception("failed")
    text = logged(capsys)
    assert text.count("***") >= 5
    assert "hunter2" not in text
    assert "TypeError" in text


def test_without_the_setting_lines_are_as_they_were(capsys):
    configure_logging("INFO", "json")
    logging.getLogger("my_handlers").info("key %s", "hunter2", extra={"n": [1, "a"]})
    line = json.loads(logged(capsys))
    assert (line["event"], line["n"]) == ("key hunter2", [1, "a"])


def test_a_function_that_fails_withholds_the_line_and_keeps_whose_it_is(capsys):
    """Also one that logs itself, which would never end."""

    def loud(text):
        logging.getLogger("loud").warning("redacting %s", text)
        raise ValueError(text)

    configure_logging("INFO", "json", safe(loud))
    logging.getLogger("my_handlers").info("key hunter2", extra={"job_id": "j-1"})
    lines = [json.loads(line) for line in logged(capsys).splitlines()]
    assert [line["logger"] for line in lines] == ["loud", "my_handlers"]
    assert all(line["event"].startswith("(withheld") for line in lines)
    assert lines[-1]["job_id"] == "j-1"


def test_spans_of_handlers_tell_no_secrets():
    """Exceptions that they record, attributes and statuses; ids and codes of ours stay as they are."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(RedactedExporter(memory, safe(hide), SpanLimits())))
    with (
        pytest.raises(ValueError, match="hunter2"),
        provider.get_tracer("t").start_as_current_span(
            "send", attributes={"key": "hunter2", "many": ["hunter2"], "n": 3, "sickbay.job.id": "hunter2"}
        ),
    ):
        raise ValueError("key hunter2")
    (span,) = memory.get_finished_spans()
    assert dict(span.attributes) == {"key": "***", "many": ("***",), "n": 3, "sickbay.job.id": "hunter2"}
    (event,) = span.events
    assert event.attributes["exception.message"] == "key ***"
    assert "key hunter2" not in str(dict(event.attributes)).replace('ValueError("key hunter2")', "")
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "ValueError: key ***")
    provider.shutdown()
