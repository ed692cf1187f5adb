"""Output that holds nobody up: what is written, what is dropped, and what is told of that."""

import logging
import os
import queue
import threading

import pytest

from sickbay.system import output
from sickbay.system.output import MAX_WAITING, Writer


@pytest.fixture
def pipe():
    """A pipe, of which the test reads as much as it likes."""
    reading, writing = os.pipe()
    yield reading, writing
    for descriptor in (reading, writing):
        try:
            os.close(descriptor)
        except OSError:
            continue


def read_all(reading, writing, begin=b""):
    """Close the writing end, and read to the end."""
    os.close(writing)
    found = begin
    while piece := os.read(reading, 65_536):
        found += piece
    return found


def test_lines_come_out_whole_and_in_order(pipe):
    reading, writing = pipe
    writer = Writer(writing)
    for number in range(100):
        writer.write(b"%d\n" % number)
    writer.drain(10)
    assert read_all(reading, writing) == b"".join(b"%d\n" % number for number in range(100))
    assert writer.dropped == 0


def test_nobody_waits_for_a_pipe_that_nobody_reads(pipe):
    """What is beyond the bound is dropped and counted; when somebody reads, the rest comes, and one line tells of what is missing."""
    reading, writing = pipe
    writer = Writer(writing)
    told = queue.SimpleQueue()
    handler = logging.Handler()
    handler.emit = lambda record: told.put(record.getMessage())
    logging.getLogger("sickbay.system.output").addHandler(handler)
    for _ in range(3 * MAX_WAITING // 1_000):
        writer.write(b"x" * 999 + b"\n")
    assert writer.dropped > 1_000
    writer.drain(0.01)
    reader = threading.Thread(target=lambda: all(iter(lambda: os.read(reading, 65_536), b"")))
    reader.start()
    words = told.get(timeout=10)
    os.close(writing)
    reader.join()
    logging.getLogger("sickbay.system.output").removeHandler(handler)
    assert words.startswith(f"{writer.dropped} lines of output were dropped")


@pytest.mark.parametrize("place", ["full disk", "closed pipe"])
def test_what_cannot_be_written_is_counted(pipe, place):
    reading, writing = pipe
    if place == "full disk":
        os.dup2(os.open("/dev/full", os.O_WRONLY), writing)
    os.close(reading)
    writer = Writer(writing)
    writer.write(b"a line\n")
    writer.drain(10)
    assert writer.dropped == 1


def test_at_the_end_nobody_waits_either(pipe):
    """Without its thread it writes what there is room for, and no more."""
    reading, writing = pipe
    writer = Writer(writing)
    writer.write_directly()
    for _ in range(200):
        writer.write(b"x" * 999 + b"\n")
    assert writer.dropped > 0
    assert len(read_all(reading, writing)) >= 16_384


def test_a_stream_takes_any_text(pipe, monkeypatch):
    """Also a lone surrogate, of a file name that is not UTF-8; and it is as binary as the one it stands for."""
    reading, writing = pipe
    monkeypatch.setattr(output, "_writers", {})
    stream = output._stream("stdout", writing)
    stream.write("a\udce9\n")
    stream.buffer.write(b"b\n")
    assert stream.fileno() == writing
    assert not stream.isatty()
    output.flush_output(10)
    assert read_all(reading, writing) == b"a\\udce9\nb\n"


def test_nobody_can_close_a_stream_that_all_write_to(pipe, monkeypatch):
    """A handler that closes it, or leaves `with sys.stdout:`, would take every log line with it."""
    reading, writing = pipe
    monkeypatch.setattr(output, "_writers", {})
    stream = output._stream("stdout", writing)
    with stream:
        stream.write("a\n")
    stream.buffer.close()
    stream.close()
    stream.write("b\n")
    output.flush_output(10)
    assert not stream.closed
    assert read_all(reading, writing) == b"a\nb\n"


def test_streams_of_somebody_else_are_left_alone(monkeypatch):
    """Those of a test or of an embedding program."""
    monkeypatch.setattr(output, "_writers", {})
    output.guard_output()
    assert not output.is_guarded()
    assert output.dropped() == {}
