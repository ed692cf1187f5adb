"""What a schedule does when its time has come: each policy, each bound."""

from dataclasses import replace
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sickbay.domain.schedule import (
    LEAST_CATCH_UP_MS,
    Decision,
    Overlap,
    RunOutcome,
    Schedule,
    ScheduleRun,
    ScheduleState,
    Situation,
    Trigger,
    WhileOpen,
    jitter_of,
    job_id_of,
)
from sickbay.domain.schedule_firing import MOST_RUNS, advanced, decide, found_anew, stopped
from sickbay.domain.schedule_times import count_between, next_time
from tests.support.clock import START
from tests.support.schedules import KEY, schedule

SKIPPED, REFUSED, MISSED = RunOutcome.SKIPPED_OVERLAP, RunOutcome.SKIPPED_CIRCUIT_OPEN, RunOutcome.MISSED
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000


def told(decision):
    """In seconds from START: the jobs, the other times with their counts, the next time, the waiting one."""
    after = [at and (at - START) / 1000 for at in (decision.next_at, decision.buffered_at)]
    runs = [(run.tick_at - START) / 1000 for run in decision.runs]
    return runs, [((run.tick_at - START) / 1000, run.outcome, run.count) for run in decision.others], *after


TABLE = {
    "too early": ("SKIP", 0.9, False, ([], [], 1, 0)),
    "to the millisecond": ("SKIP", 1, False, ([1], [], 2, 0)),
    "one is due": ("SKIP", 1.2, False, ([1], [], 2, 0)),
    "one is due, and the job before runs": ("SKIP", 1.2, True, ([], [(1, SKIPPED, 1)], 2, 0)),
    "several are due: the first runs, and holds the others up": ("SKIP", 4.5, False, ([1], [(4, SKIPPED, 3)], 5, 0)),
    "several are due, and the job before runs": ("SKIP", 4.5, True, ([], [(4, SKIPPED, 4)], 5, 0)),
    "one waits": ("BUFFER_ONE", 1.2, True, ([], [], 2, 1)),
    "one runs, one waits": ("BUFFER_ONE", 2.2, False, ([1], [], 3, 2)),
    "one runs, one waits, the others are skipped": ("BUFFER_ONE", 5.2, False, ([1], [(5, SKIPPED, 3)], 6, 2)),
    "one waits, the others are skipped": ("BUFFER_ONE", 5.2, True, ([], [(5, SKIPPED, 4)], 6, 1)),
    "all run": ("ALLOW", 3.2, True, ([1, 2, 3], [], 4, 0)),
}


@pytest.mark.parametrize(("overlap", "now", "is_running", "wanted"), TABLE.values(), ids=TABLE)
def test_what_becomes_of_times_that_have_come(overlap, now, is_running, wanted):
    assert told(decide(schedule(overlap=overlap), Situation(START + int(now * 1000), is_running))) == wanted


WAITING = {
    "it goes on waiting": ("BUFFER_ONE", 7.5, True, False, ([], [(7, SKIPPED, 1)], 8, 5)),
    "the job has ended": ("BUFFER_ONE", 6.5, False, False, ([5], [], 7, 0)),
    "the job has ended, and the next time has come: it waits now": ("BUFFER_ONE", 7.5, False, False, ([5], [], 8, 7)),
    "the policy is another one": ("SKIP", 7.5, False, False, ([5], [(7, SKIPPED, 1)], 8, 0)),
    "the circuit is open now": ("BUFFER_ONE", 6.5, False, True, ([], [(5, REFUSED, 1)], 7, 0)),
    "the circuit is open, and it goes on waiting": ("BUFFER_ONE", 7.5, True, True, ([], [(7, REFUSED, 1)], 8, 5)),
}


@pytest.mark.parametrize(("overlap", "now", "is_running", "is_open", "wanted"), WAITING.values(), ids=WAITING)
def test_a_time_that_waits_for_a_job_to_end(overlap, now, is_running, is_open, wanted):
    waits = schedule(overlap=overlap, while_open="SKIP", next_at=START + 7_000, buffered_at=START + 5_000)
    assert told(decide(waits, Situation(START + int(now * 1000), is_running, is_open))) == wanted


def test_of_a_schedule_that_has_ended_what_waits_still_runs():
    over = schedule(overlap="BUFFER_ONE", state=ScheduleState.ENDED, next_at=0, buffered_at=START + 5_000)
    assert told(decide(over, Situation(START + 9_000))) == ([5], [], 0, 0)
    assert told(decide(over, Situation(START + 9_000, is_running=True))) == ([], [], 0, 5)


@pytest.mark.parametrize("overlap", list(Overlap))
def test_while_the_circuit_is_open(overlap):
    """Skipped if it is to be, whatever runs; else it makes no difference."""
    for is_running in (False, True):
        is_open = Situation(START + 3_500, is_running, is_open=True)
        assert told(decide(schedule(overlap=overlap, while_open="SKIP"), is_open)) == ([], [(3, REFUSED, 3)], 4, 0)
        anyway = schedule(overlap=overlap, while_open="RUN")
        assert decide(anyway, is_open) == decide(anyway, replace(is_open, is_open=False))


@pytest.mark.parametrize(("catch_up_ms", "window_ms"), [(0, LEAST_CATCH_UP_MS), (1, LEAST_CATCH_UP_MS), (HOUR, HOUR), (DAY, DAY)])
def test_what_is_older_than_the_window_is_missed(catch_up_ms, window_ms):
    """A time just as old as the window is made up for."""
    every, now = 10_000, START + 2 * DAY
    late = schedule(every_ms=every, overlap="ALLOW", catch_up_ms=catch_up_ms, next_at=START + every)
    decision = decide(late, Situation(now))
    (missed,) = decision.others
    first = decision.runs[0].tick_at
    assert first == next_time(late.spec.timing, now - window_ms - 1) == missed.tick_at + every
    assert (missed.outcome, missed.trigger, missed.handled_at) == (MISSED, Trigger.TICK, now)
    assert missed.count == (missed.tick_at - START) // every


def test_nothing_is_missed_that_is_as_old_as_the_window():
    late = schedule(every_ms=MINUTE, start_at=START + MINUTE, catch_up_ms=0)
    assert told(decide(late, Situation(START + 2 * MINUTE)))[0] == [60]
    assert told(decide(late, Situation(START + 2 * MINUTE + 1)))[:2] == ([120], [(60, MISSED, 1)])


def test_an_outage_of_a_year_of_a_schedule_of_every_second_is_one_entry_and_costs_nothing():
    for fields in ({"every_ms": 1_000}, {"cron": "* * * * * *", "timezone": "Europe/Berlin"}):
        late = schedule(**fields, catch_up_ms=0)
        began = perf_counter()
        decision = decide(late, Situation(START + 365 * DAY))
        assert perf_counter() - began < 1
        missed, skipped = decision.others
        assert (missed.outcome, missed.count) == (MISSED, 365 * 86_400 - 61)
        assert (skipped.outcome, skipped.count) == (SKIPPED, 60)
        assert [run.tick_at for run in decision.runs] == [START + 365 * DAY - MINUTE]


def test_what_is_made_up_for_comes_in_bounded_turns_and_loses_nothing():
    late, now, found = schedule(overlap="ALLOW"), START + 1_000 * 250, []
    while late.next_at <= now:
        decision = decide(late, Situation(now, is_running=True))
        assert len(decision.runs) <= MOST_RUNS
        found += [run.tick_at for run in decision.runs]
        late = advanced(late, decision, now, None)
    assert found == [START + 1_000 * number for number in range(1, 251)]


def test_start_and_end():
    """Not before the one, not at or after the other; then it has ended."""
    bounded = schedule(start_at=START + 10_000, end_at=START + 12_000)
    assert bounded.next_at == START + 10_000
    decision = decide(bounded, Situation(START + 10_000))
    assert told(decision) == ([10], [], 11, 0)
    bounded = advanced(bounded, decision, START + 10_000, None)
    assert bounded.state is ScheduleState.ACTIVE
    decision = decide(bounded, Situation(START + 20_000))
    assert told(decision) == ([11], [], 0, 0)
    ended = advanced(bounded, decision, START + 20_000, None)
    assert (ended.state, ended.next_at, ended.revision, ended.updated_at) == (ScheduleState.ENDED, 0, bounded.revision + 1, START + 20_000)
    assert told(decide(ended, Situation(START + 90_000))) == ([], [], 0, 0)


def test_jitter_delays_the_job_and_not_the_time():
    late = schedule(every_ms=MINUTE, jitter_ms=30_000, overlap="ALLOW", next_at=START + MINUTE)
    runs = decide(late, Situation(START + 20 * MINUTE)).runs
    assert [run.run_at - run.tick_at for run in runs] == [jitter_of(KEY, run.tick_at, 30_000) for run in runs]
    assert len({run.run_at - run.tick_at for run in runs}) > 10
    assert all(0 <= run.run_at - run.tick_at <= 30_000 for run in runs)


def test_a_paused_one_does_nothing():
    for state in (ScheduleState.PAUSED, ScheduleState.ENDED):
        assert decide(schedule(state=state, next_at=0), Situation(START + DAY)) == Decision()


def test_a_schedule_that_stopped_by_itself_has_a_note_and_another_etag():
    before = schedule(overlap="BUFFER_ONE", buffered_at=START)
    after = stopped(before, START + 5, "job j is QUARANTINED")
    assert (after.state, after.pause_note, after.paused_by) == (ScheduleState.PAUSED, "job j is QUARANTINED", "")
    assert (after.next_at, after.buffered_at, after.updated_at) == (0, 0, START + 5)
    assert after.etag != before.etag
    assert advanced(before, Decision(pauses="job j is QUARANTINED"), START + 5, None) == after


def test_a_turn_is_no_revision():
    before = schedule()
    run = ScheduleRun(START + 1_000, Trigger.TICK, RunOutcome.SUBMITTED, "j")
    after = advanced(before, decide(before, Situation(START + 1_000)), START + 1_000, run)
    assert (after.etag, after.updated_at, after.last_run) == (before.etag, before.updated_at, run)


def test_after_the_clock_was_set_back_times_begin_with_the_first_from_there_on():
    ahead = schedule(next_at=START + DAY)
    assert found_anew(ahead, START + 500).next_at == START + 1_000
    behind = schedule(next_at=START - DAY)  # not all was made up for
    assert found_anew(behind, START + 500) == behind
    ended = schedule(state=ScheduleState.ENDED, next_at=0)
    assert found_anew(ended, START) == ended


TIMINGS = [
    {"every_ms": 7_000},
    {"every_ms": 1_000, "end_at": START + 500_000},
    {"cron": "*/2 * * * *"},
    {"cron": "*/5 * * * * *"},
]


@given(
    overlap=st.sampled_from(list(Overlap)),
    looks=st.lists(st.tuples(st.integers(1, 400_000), st.booleans(), st.booleans()), min_size=1, max_size=20),
    jitter_ms=st.sampled_from([0, 5_000]),
    catch_up_ms=st.sampled_from([0, HOUR]),
    fields=st.sampled_from(
        [{"every_ms": 7_000}, {"cron": "*/2 * * * *"}, {"cron": "*/5 * * * * *"}, {"every_ms": 1_000, "end_at": START + 500_000}]
    ),
)
def test_every_time_is_accounted_for_exactly_once(overlap, looks, jitter_ms, catch_up_ms, fields):
    """However late and irregular the looks, whatever runs: with a job, without, waiting, or still to come."""
    kept: Schedule = schedule(overlap=overlap, while_open=WhileOpen.SKIP, jitter_ms=jitter_ms, catch_up_ms=catch_up_ms, **fields)
    timing, now = kept.spec.timing, START
    with_job, without = [], 0
    for ahead, is_running, is_open in looks:
        now += ahead
        while True:
            decision = decide(kept, Situation(now, is_running, is_open))
            with_job += [run.tick_at for run in decision.runs]
            without += sum(run.count for run in decision.others)
            assert len(decision.runs) <= MOST_RUNS
            assert overlap is Overlap.ALLOW or len(decision.runs) <= 1
            assert not (is_running and overlap is not Overlap.ALLOW and decision.runs)
            assert not (is_open and decision.runs)
            kept = advanced(kept, decision, now, None)
            if not 0 < kept.next_at <= now:
                break
        waiting = 1 if kept.buffered_at else 0
        assert len(with_job) + without + waiting == count_between(timing, START + 1, now + 1)
        assert (kept.state is ScheduleState.ENDED) == (not kept.next_at) == (not next_time(timing, now))
        assert kept.next_at in {0, next_time(timing, now)}
    assert with_job == sorted(set(with_job))
    assert len({job_id_of(KEY, at) for at in with_job}) == len(with_job)
