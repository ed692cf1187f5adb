"""What changes of a schedule, and what stays."""

from dataclasses import replace

import pytest

from sickbay.domain.errors import InvalidArgument
from sickbay.domain.schedule import MAX_BACKFILL, Overlap, Schedule, ScheduleKey, ScheduleSpec, ScheduleState, Timing
from sickbay.domain.schedule_changes import backfill_times, new_schedule, paused, resumed, with_spec

NOW = 1_700_000_000_000  # 2023-11-14T22:13:20Z
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
KEY = ScheduleKey("acme", "nightly")
HOURLY = ScheduleSpec("report", Timing(cron="0 * * * *"))
NEXT_HOUR = NOW - NOW % HOUR + HOUR
SCHEDULE = new_schedule(KEY, HOURLY, NOW)


def timed(**timing):
    return replace(HOURLY, timing=Timing(**timing))


def test_a_new_one_has_its_first_time():
    assert Schedule(KEY, HOURLY, created_at=NOW, updated_at=NOW, next_at=NEXT_HOUR) == SCHEDULE
    waiting = new_schedule(KEY, HOURLY, NOW, paused_by="ada")
    assert (waiting.state, waiting.next_at, waiting.paused_by) == (ScheduleState.PAUSED, 0, "ada")
    assert new_schedule(KEY, HOURLY, NOW, paused_by="").state is ScheduleState.PAUSED


def test_other_times_count_from_now_and_the_same_spec_changes_nothing():
    due = replace(SCHEDULE, next_at=NOW - 5 * HOUR, buffered_at=NOW - 6 * HOUR)
    assert with_spec(due, HOURLY, NOW) is due
    other = with_spec(due, timed(every_ms=MINUTE), NOW)
    assert (other.state, other.next_at, other.buffered_at) == (ScheduleState.ACTIVE, NOW - NOW % MINUTE + MINUTE, 0)


def test_what_is_due_stays_due_if_only_the_job_is_another():
    due = replace(SCHEDULE, next_at=NOW - 5 * HOUR, buffered_at=NOW - 6 * HOUR)
    other = with_spec(due, replace(HOURLY, job_type="other"), NOW)
    assert other == replace(due, spec=replace(HOURLY, job_type="other"))
    alone = with_spec(due, replace(HOURLY, overlap=Overlap.ALLOW), NOW)
    assert (alone.next_at, alone.buffered_at) == (due.next_at, 0), "nothing is to wait any more"


def test_a_paused_one_stays_paused_and_one_that_has_ended_runs_again():
    waiting = paused(SCHEDULE, "why", "ada")
    assert with_spec(waiting, timed(every_ms=MINUTE), NOW) == replace(waiting, spec=timed(every_ms=MINUTE))
    over = with_spec(SCHEDULE, timed(cron="0 * * * *", end_at=NOW), NOW)
    assert (over.state, over.next_at) == (ScheduleState.ENDED, 0)
    assert with_spec(over, HOURLY, NOW) == SCHEDULE
    still = with_spec(over, replace(over.spec, description="else"), NOW)
    assert still.state is ScheduleState.ENDED


def test_pausing_says_why_and_again_changes_the_note_alone():
    waiting = paused(replace(SCHEDULE, buffered_at=NOW), "why", "ada")
    assert waiting == replace(SCHEDULE, state=ScheduleState.PAUSED, pause_note="why", paused_by="ada", next_at=0)
    assert paused(waiting, "", "bob") is waiting
    assert paused(waiting, "else", "bob") == replace(waiting, pause_note="else")


def test_resuming_goes_on_from_now_and_what_was_not_paused_goes_on_as_it_is():
    waiting = replace(paused(SCHEDULE, "why", "ada"), buffered_at=NOW)
    assert resumed(waiting, NOW) == SCHEDULE
    assert resumed(waiting, NOW + 3 * HOUR).next_at == NEXT_HOUR + 3 * HOUR, "what it would have run is not made up for"
    due = replace(SCHEDULE, next_at=NOW - HOUR)
    assert resumed(due, NOW) is due
    ended = resumed(replace(waiting, spec=timed(cron="0 * * * *", end_at=NOW)), NOW)
    assert (ended.state, ended.next_at) == (ScheduleState.ENDED, 0)


def test_a_backfill_has_the_times_from_its_start_to_before_its_end():
    timing = Timing(cron="0 * * * *")
    assert backfill_times(timing, NEXT_HOUR, NEXT_HOUR + 2 * HOUR) == [NEXT_HOUR, NEXT_HOUR + HOUR]
    assert backfill_times(timing, NEXT_HOUR + 1, NEXT_HOUR + HOUR) == []
    assert len(backfill_times(timing, NEXT_HOUR, NEXT_HOUR + MAX_BACKFILL * HOUR)) == MAX_BACKFILL


@pytest.mark.parametrize("timing", [Timing(cron="*/5 * * * *"), Timing(every_ms=5 * MINUTE)])
def test_too_many_times_are_counted_and_split_where_the_first_call_ends(timing):
    start, end = NEXT_HOUR, NEXT_HOUR + 5 * DAY
    with pytest.raises(InvalidArgument) as caught:
        backfill_times(timing, start, end)
    words = str(caught.value)
    assert "there are 1,440 times from 2023-11-14T23:00:00Z to 2023-11-19T23:00:00Z, and at most 1,000 can be made up for" in words
    split = start + MAX_BACKFILL * 5 * MINUTE
    assert words.count("2023-11-18T10:20:00Z") == 2
    parts = backfill_times(timing, start, split) + backfill_times(timing, split, end)
    assert (len(parts), len(set(parts))) == (1_440, 1_440)
