"""The traceback of a failed run: what it says, what it never says, and that nothing that is raised breaks it."""

from __future__ import annotations

import asyncio
import sys
import threading

import pytest
from hypothesis import HealthCheck, given, settings

from sickbay.domain.failure import MAX_TRACEBACK_BYTES
from sickbay.handlers.traceback_text import UNREADABLE, short_path, stack_of, traceback_of, waiting_of
from tests.support.nasty_values import SAMPLES, chain, deep_group, nasty_exceptions, ring

HERE = "tests/unit/handlers/test_traceback_text.py"
PAYLOAD = {"to": "hunter2@example.com"}


def raised(function):
    """What the function raises."""
    try:
        function()
    except BaseException as error:  # noqa: BLE001 - whatever it is
        return error
    raise AssertionError("nothing was raised")


def look_up(payload):
    secret = payload["to"]
    return payload["emial"], secret


def holds(text):
    """The law: text that every store can hold, and not too much of it."""
    assert type(text) is str
    assert 0 < len(text.encode()) <= MAX_TRACEBACK_BYTES
    assert "\x00" not in text
    return True


def test_it_names_file_line_function_and_code_but_no_value():
    """As Python prints it, with a path as one would import it."""
    text = traceback_of(raised(lambda: look_up(PAYLOAD)))
    first, *rest = text.splitlines()
    assert first == "Traceback (most recent call last):"
    number = look_up.__code__.co_firstlineno + 2
    assert rest[-3:] == [f'  File "{HERE}", line {number}, in look_up', '    return payload["emial"], secret', "KeyError: 'emial'"]
    assert "hunter2" not in text


def test_causes_come_first_as_python_has_it():
    """Both ways to be raised while another exception is handled; what `from None` hides stays hidden."""

    def caused_by(visible):
        try:
            look_up({})
        except KeyError as error:
            raise RuntimeError("outer") from error if visible else None

    caused = traceback_of(raised(lambda: caused_by(visible=True)))
    assert caused.index("KeyError: 'to'") < caused.index("direct cause of the following") < caused.index("RuntimeError: outer")
    hidden = traceback_of(raised(lambda: caused_by(visible=False)))
    assert "KeyError: 'to'" not in hidden

    def handled():
        try:
            look_up({})
        except KeyError:
            "".index("x")

    during = traceback_of(raised(handled))
    assert during.index("KeyError: 'to'") < during.index("During handling") < during.index("ValueError: substring not found")


def test_every_part_of_a_group_is_told():
    async def boom(number):
        raise ValueError(f"number {number}")

    async def body():
        async with asyncio.TaskGroup() as group:
            for number in range(8):
                group.create_task(boom(number))

    text = traceback_of(raised(lambda: asyncio.run(body())))
    assert "ExceptionGroup: unhandled errors in a TaskGroup (8 sub-exceptions)" in text
    assert all(f"ValueError: number {number}" in text for number in range(5))
    assert text.splitlines()[-1] == "  (3 more)"
    assert "in test_every_part_of_a_group_is_told.<locals>.boom" in text


def test_notes_are_told():
    error = ValueError("x")
    error.add_note("while row 7 was read")
    assert traceback_of(error).splitlines() == ["ValueError: x", "while row 7 was read"]


def test_a_recursion_is_told_in_few_lines():
    def down(depth):
        return down(depth - 1) if depth else look_up({})

    text = traceback_of(raised(lambda: down(200)))
    assert text.count("in test_a_recursion_is_told_in_few_lines.<locals>.down") == 1
    assert "(repeated 200 more times)" in text


def test_of_many_calls_the_innermost_are_told():
    """Calls of different lines, as a deep framework makes them."""
    scope = {}
    exec("\n".join([f"def f{n}():\n    f{n + 1}()" for n in range(60)] + ["def f60():\n    {}['x']"]), scope)  # noqa: S102 - makes functions
    text = traceback_of(raised(scope["f0"]))
    assert holds(text)
    assert text.splitlines()[1].endswith("outer calls)")
    assert '  File "<string>", line 122, in f60' in text


def test_a_long_chain_keeps_what_was_raised_and_what_came_first():
    text = traceback_of(chain(200))
    assert holds(text)
    assert "more exceptions in between" in text


def test_what_is_too_long_is_told_shorter():
    """Every exception stays, with fewer calls and words."""

    def nest(depth):
        try:
            nest(depth - 1) if depth else look_up({})
        except Exception as error:
            raise RuntimeError(f"{depth} " + "x" * 600) from error

    text = traceback_of(raised(lambda: nest(3)))
    assert holds(text)
    assert "RuntimeError: 3 x" in text
    assert "RuntimeError: 0 x" in text


def test_pydantic_quotes_no_payload():
    """Its messages have the values that were wrong; those are the payload."""
    pydantic = pytest.importorskip("pydantic")
    model = pydantic.create_model("Email", to=(int, ...), cc=(int, ...))
    values = {"to": "hunter2, input_type=x", "cc": ["hunter2" * 30]}
    text = traceback_of(raised(lambda: model(**values)))
    assert "hunter2" not in text
    assert "to\n  Input should be a valid integer" in text
    assert "input_type=str" in text


@pytest.mark.parametrize("name", SAMPLES)
def test_each_nasty_sample_has_a_text(name):
    """Whatever its code does when it is looked at."""
    assert holds(traceback_of(SAMPLES[name]()))


@settings(max_examples=300, suppress_health_check=list(HealthCheck), deadline=None)
@given(nasty_exceptions())
def test_whatever_is_raised_has_a_text_that_can_be_written(make_it):
    """Vices of all kinds, combined."""
    assert holds(traceback_of(make_it()))


@pytest.mark.parametrize("make_it", [ring, lambda: deep_group(500), lambda: chain(3_000)])
def test_rings_and_depths_end(make_it):
    assert holds(traceback_of(make_it()))


def test_odd_names_of_files_and_functions_can_be_written():
    """Generated code may be called anything."""
    scope = {}
    exec("def f():\n    {}['x']\n", scope)  # noqa: S102 - as above
    function = scope["f"]
    odd = "a\udcff\nb"
    function.__code__ = function.__code__.replace(co_filename=odd, co_name=odd, co_qualname=odd)
    text = traceback_of(raised(function))
    assert holds(text)
    assert 'File "a\\udcff\\nb", line 2, in a\\udcff\\nb' in text


def test_a_scope_that_lies_breaks_nothing():
    """The globals of a frame may be a dictionary of the user's own class."""

    class Scope(dict):
        def get(self, *_):
            raise KeyboardInterrupt

        __contains__ = __missing__ = get

    assert holds(traceback_of(raised(lambda: exec("{}['x']", Scope()))))  # noqa: S102 - as above


def test_paths_are_short(monkeypatch):
    """From the nearest importable folder; else the last three parts, so that no home folder is told."""
    monkeypatch.setattr(sys, "path", ["", "/", "/app", "/app/venv/lib/python3/site-packages", "/usr/lib/python3"])
    short_path.cache_clear()
    assert short_path("/app/my_handlers.py") == "my_handlers.py"
    assert short_path("/app/venv/lib/python3/site-packages/httpx/_client.py") == "httpx/_client.py"
    assert short_path("/home/ann/secret/project/src/mail/send.py") == ".../src/mail/send.py"
    assert short_path("<string>") == "<string>"
    assert short_path("handlers.py") == "handlers.py"
    short_path.cache_clear()


def test_where_a_thread_is():
    """The stack of another thread, with the code that it is in, and without the frames that start threads."""
    reached, release = threading.Event(), threading.Event()

    def handler_body():
        reached.set()
        release.wait()

    thread = threading.Thread(target=handler_body, daemon=True)
    thread.start()
    reached.wait()
    try:
        text = stack_of(sys._current_frames()[thread.ident], "Hung:")
    finally:
        release.set()
        thread.join()
    assert text.startswith(f'Hung:\n  File "{HERE}", line ')
    assert "handler_body" in text
    assert "release.wait()" in text


@pytest.mark.parametrize("nothing", [None, object(), 3])
def test_what_is_no_task_and_no_frame_has_only_the_headline(nothing):
    assert waiting_of(nothing, "Hung:") == "Hung:"
    assert stack_of(None, "Hung:") == "Hung:"


def test_what_cannot_be_read_is_said_so(monkeypatch):
    """The last resort."""
    monkeypatch.setattr("linecache.getline", lambda *_: 1 / 0)
    assert traceback_of(raised(lambda: look_up({}))) == UNREADABLE
