"""REDACT is asked before a text is cut: a secret at the border is taken out whole, wherever it is told."""

from __future__ import annotations

import asyncio
import functools
import linecache
import re
import runpy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import SpanLimits
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from sickbay.domain.errors import JobError
from sickbay.domain.failure import MAX_MESSAGE_CHARS
from sickbay.domain.raised import BORDER_CHARS, MAX_READ_CHARS, short
from sickbay.handlers.call import error_text
from sickbay.handlers.classify import classify
from sickbay.handlers.registry import HandlerSpec
from sickbay.handlers.traceback_text import traceback_of
from sickbay.runtime.redaction import safe
from sickbay.telemetry.redacted_spans import RedactedExporter, unlimited_texts
from sickbay.telemetry.spans import Traces
from tests.unit.worker.test_runner import run, running

SECRET = "sk-" + "7" * 40
SPEC = HandlerSpec("email", print)
hide = safe(lambda text: re.sub(r"sk-[0-9]{40}", "***", text))


def at_border(limit, text=""):
    """A text in which the secret lies across the limit."""
    return text + "x" * (limit - len(text) - 20) + SECRET + " and more" * 100


def leaks(text):
    """Even half of it is too much."""
    return "777" in text


def raised(error, cause=None):
    try:
        raise error from cause
    except type(error) as caught:
        return caught


@pytest.mark.parametrize(
    "error",
    [
        ValueError(at_border(MAX_MESSAGE_CHARS)),
        JobError("X", at_border(MAX_MESSAGE_CHARS)),
        JobError("X", ValueError(at_border(MAX_MESSAGE_CHARS))),
        ExceptionGroup("several", [ValueError(at_border(MAX_MESSAGE_CHARS - len(" (and 1 more)"))), ValueError("x")]),
        raised(RuntimeError("outer"), JobError("X", at_border(MAX_MESSAGE_CHARS - len("outer (from JobError: X: )")))),
    ],
)
def test_no_half_of_a_secret_is_left_in_a_message(error):
    """However the exception came to the message."""
    assert leaks(classify(error, SPEC).message)
    assert not leaks(classify(error, SPEC, hide).message)


@given(st.integers(0, 600), st.sampled_from([0, 1_000, MAX_READ_CHARS]))
def test_wherever_the_secret_lies_no_half_of_it_is_told(before, shrunk):
    """Also where what stood before it was taken out and much of the rest comes into view."""
    text = "y" * shrunk + "x" * before + SECRET + "z" * MAX_READ_CHARS
    told = short(text, lambda told: hide(told).replace("y", ""))
    assert not leaks(told)
    assert len(told) <= MAX_MESSAGE_CHARS


def test_a_text_of_which_nothing_may_be_told_says_so():
    text = "y" * (MAX_READ_CHARS - BORDER_CHARS) + SECRET * 10_000
    assert short(text, lambda told: told.replace("y", "")) == f"(withheld: a text of {len(text)} characters)"


@pytest.mark.parametrize("limit", [500, 300, 200, 100, 60])
def test_no_half_of_a_secret_is_left_in_a_traceback(limit):
    """At none of the lengths to which what an exception says is cut; notes, too."""
    error = ValueError(at_border(limit))
    error.add_note(at_border(limit))
    for size in range(1, 6):
        error = raised(RuntimeError("x" * 80 * size), error)
    assert not leaks(traceback_of(error, hide))


def test_no_half_of_a_secret_is_left_of_a_line_of_code():
    """Lines are cut at 200 characters."""
    padding = "1+" * 85
    source = f"def f():\n    return {padding}len({SECRET!r} + 1)\n"
    linecache.cache["secretive.py"] = (len(source), None, source.splitlines(keepends=True), "secretive.py")
    scope = {}
    exec(compile(source, "secretive.py", "exec"), scope)  # noqa: S102 - a function with such a line
    with pytest.raises(TypeError) as caught:
        scope["f"]()
    assert leaks(traceback_of(caught.value))
    assert not leaks(traceback_of(caught.value, hide))


@pytest.mark.parametrize("is_async", [False, True])
async def test_what_a_run_comes_to_has_no_half_of_a_secret(is_async):
    """From handlers in threads and on the loop, and of what they return to be awaited."""

    def in_thread(job):
        raise ValueError(at_border(MAX_MESSAGE_CHARS))

    async def on_loop(job):
        in_thread(job)

    async with running(redact=hide) as runner:
        for handler in (on_loop if is_async else in_thread, functools.partial(on_loop)):
            outcome = await run(runner, handler)
            assert outcome.code == "VALUE_ERROR"
            assert "***" in outcome.message + outcome.traceback
            assert not leaks(outcome.message + outcome.traceback)


@pytest.mark.parametrize("is_async", [False, True])
async def test_where_a_hung_handler_was_tells_no_half_of_a_secret(is_async, tmp_path):
    """Its lines of code are told after a timeout."""
    path = tmp_path / "hung_and_secretive.py"
    path.write_text(
        f"import asyncio, threading\nheld = threading.Event()\ndef f(job):\n    {'1+' * 85}len({SECRET!r}); held.wait(5)\n"
        f"async def g(job):\n    {'1+' * 85}len({SECRET!r}); await asyncio.sleep(5)\n"
    )
    handlers = runpy.run_path(str(path))
    async with running(redact=hide) as runner:
        outcome = await run(runner, handlers["g" if is_async else "f"], timeout=0.05)
        handlers["held"].set()
        assert outcome.code == "HANDLER_TIMEOUT"
        assert "hung_and_secretive.py" in outcome.traceback
        assert not leaks(outcome.traceback)


def test_a_fault_of_the_worker_tells_no_half_of_a_secret():
    assert not leaks(error_text(raised(ValueError(at_border(400))), hide))
    for limit in range(380, 500, 10):
        assert not leaks(error_text(raised(ValueError(at_border(limit))), hide))


def test_spans_are_cut_after_secrets_were_taken_out(monkeypatch):
    """To the lengths that OpenTelemetry's variables say."""
    monkeypatch.setenv("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "100")
    memory = InMemorySpanExporter()
    traces = Traces(SimpleSpanProcessor(RedactedExporter(memory, hide, SpanLimits())), "i", unlimited_texts())
    with pytest.raises(ValueError, match="x"), traces.of("worker").tracer.start_as_current_span("send", attributes={"to": at_border(100)}):
        raise ValueError(at_border(100))
    (span,) = memory.get_finished_spans()
    texts = [*span.attributes.values(), *span.events[0].attributes.values()]
    assert max(map(len, texts)) == 100
    assert not leaks("".join(texts) + span.status.description)


async def test_it_is_asked_once_about_each_text_of_a_traceback():
    """However often a traceback is shortened until there is room for it."""
    asked = []
    error = ValueError("a")
    for letter in "bcdef":
        error = raised(ValueError(letter * 2_000), error)
    await asyncio.to_thread(traceback_of, error, lambda text: asked.append(text) or text)
    assert len(asked) == len(set(asked))
