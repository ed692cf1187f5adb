"""The figures of isolation are those of what was seen, each with an example that can be counted by hand."""

from __future__ import annotations

import pytest

from benchmarks.isolation.figures import Figures, figures, is_as_wanted, p99_bound, wanted
from benchmarks.isolation.rows import rows
from benchmarks.isolation.trace import Start, Starts, Submit, Trace, line

FLOOD = rows()["flood"]
LOW = rows()["low"]
IDLE = Figures(100, p50=5.0, p99=10.0, worst=12.0)


def flooded(wait_before: float, wait_after: float) -> Trace:
    """Ten jobs a second for four seconds; the flood is noticed after one."""
    trace = Trace(flooded=100.0, over=104.0, ended=110.0, through=True)
    for number in range(40):
        at = 100 + number / 10
        trace.submits.append(Submit(at, number))
        trace.starts.append(Start(at + (wait_before if number < 10 else wait_after), "sms", number))
    return trace


def test_the_first_second_counts_only_for_the_worst():
    told = figures(FLOOD, flooded(1.5, 0.02))
    assert told.jobs == 30
    assert (told.p50, told.p99) == (pytest.approx(20), pytest.approx(20))
    assert told.worst == pytest.approx(1_500)
    assert is_as_wanted(FLOOD, told, IDLE) is True


def test_a_job_that_never_started_has_waited_until_the_end_and_is_not_as_wanted():
    trace = flooded(0.01, 0.01)
    trace.starts.pop()
    told = figures(FLOOD, trace)
    assert told.never == 1
    assert told.worst == pytest.approx(1_000 * (110.0 - 103.9))
    assert is_as_wanted(FLOOD, told, IDLE) is False


def test_a_second_run_of_a_job_does_not_make_it_later():
    trace = flooded(0.01, 0.01)
    trace.starts.append(Start(109.0, "sms", 3))
    assert figures(FLOOD, trace).worst == pytest.approx(10)


def test_the_bound_is_that_of_the_same_system_when_idle():
    assert p99_bound(FLOOD, IDLE) == pytest.approx(270)
    assert wanted(FLOOD, IDLE) == "p99 <= 270, worst < 2000"
    assert p99_bound(rows()["high"], IDLE) == pytest.approx(20)
    assert p99_bound(FLOOD, None) is None
    assert is_as_wanted(FLOOD, figures(FLOOD, flooded(0.01, 0.01)), None) is None


def test_a_worst_wait_over_the_bound_is_not_as_wanted():
    assert is_as_wanted(FLOOD, figures(FLOOD, flooded(2.5, 0.01)), IDLE) is False


@pytest.mark.parametrize(("low", "verdict"), [(4, False), (5, True)])
def test_the_share_of_low_jobs_is_counted_while_the_load_was_full(low, verdict):
    trace = Trace(flooded=0.0, over=10.0)
    trace.starts = [Start(0.5, "export", 1)] * 50  # before the flood was noticed
    trace.starts += [Start(5.0, "export", 2)] * low + [Start(5.0, "email", 3)] * (100 - low)
    trace.starts += [Start(10.5, "export", 4)] * 50
    told = figures(LOW, trace)
    assert (told.jobs, told.share) == (100, low / 100)
    assert is_as_wanted(LOW, told, IDLE) is verdict


def test_a_small_scale_leaves_enough_to_be_seen():
    small = FLOOD.scaled(0.001)
    assert (small.floods[0].count, small.watch_s) == (50, 4.0)
    assert FLOOD.scaled(1.0) == FLOOD


def test_lines_of_handlers_are_read_as_the_file_grows(tmp_path):
    path = tmp_path / "starts"
    starts = Starts(path)
    starts.read()
    assert starts.seen == []
    whole = line(1.5, "sms", 7)
    path.write_bytes(whole + line(2.5, "email", 8)[:5])
    starts.read()
    assert starts.seen == [Start(1.5, "sms", 7)]
    path.write_bytes(whole + line(2.5, "email", 8))
    starts.read()
    assert starts.seen == [Start(1.5, "sms", 7), Start(2.5, "email", 8)]
    assert starts.numbers == {7, 8}
