"""The figures of jobs that run later are those of what was seen, each with an example that can be counted by hand."""

from __future__ import annotations

import pytest

from benchmarks.scheduled_jobs.figures import Start, lateness, percentile, times, took_s
from benchmarks.scheduled_jobs.system import Batch


def due(number: int, late_us: int) -> Start:
    """A job that was due at a second, and began so much later."""
    return Start("due", number, 1_000, 1_000_000 + late_us)


def test_lateness_is_from_the_time_a_job_was_due_to_its_first_run():
    told = lateness([due(1, 5_000), due(0, 1_500), due(2, 250_000), due(1, 900_000)])
    assert (told.jobs, told.p50, told.p99, told.worst) == (3, 5.0, 250.0, 250.0)
    assert (told.early, told.again) == (0, 1)
    assert str(told) == "3 jobs: 5.0 ms p50, 250.0 ms p99, 250.0 ms at most, 1 AGAIN"


def test_a_job_that_began_before_its_time_is_told():
    told = lateness([due(0, -1), due(1, 1_000)])
    assert told.early == 1
    assert str(told).endswith(", 1 EARLY")


def test_nothing_seen_is_no_figure():
    with pytest.raises(ValueError, match="median"):
        lateness([])


def test_a_hundredth_of_the_values_lies_above_the_p99():
    assert percentile([float(number) for number in range(200)], 99) == 198.0


def test_a_burst_is_over_when_the_last_job_has_begun():
    assert took_s([due(0, 2_000_000), due(1, 500_000)], since=1_000_000) == pytest.approx(2.0)


def test_ratios_are_those_of_single_turns():
    assert times([2.0, 9.0, 4.0], [1.0, 3.0, 4.0]) == "2.00 times (1.00 to 3.00)"


def test_turns_that_are_missing_are_noticed():
    with pytest.raises(ValueError, match="argument"):
        times([1.0], [1.0, 2.0])


def test_lines_are_read_as_they_were_written_and_a_torn_one_is_left():
    starts = [due(0, 5), Start("burst", 7, 0, 12)]
    text = b"".join(start.line for start in starts).decode()
    assert Start.read(text) == starts
    assert Start.read(text + "burst 8 0 1") == starts


def test_a_batch_is_due_to_the_millisecond_or_at_once():
    asked = Batch("due", 1, {0: 1_700_000_000_123}).request(0)
    assert asked.run_time.ToMilliseconds() == 1_700_000_000_123
    assert not Batch("now", 1).request(0).HasField("run_time")
