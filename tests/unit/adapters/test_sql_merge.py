"""The order of truth, folding of batches, what watchers are told, and the shapes of messages."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sickbay.adapters.sql.fingerprint import fingerprint, normalise
from sickbay.adapters.sql.merge import changes_from, fold, leaves_happy_path
from sickbay.domain.job import Job, JobEvent, JobState
from sickbay.domain.truth import truth
from tests.support.ledger_lives import lives

JOB = Job("j1", "email", submitted_at=5)


def event(state, generation=0, attempt=0, at=10, **fields):
    return JobEvent(replace(JOB, generation=generation, attempt=attempt), state, at, **fields)


def test_the_order_of_truth():
    """From the oldest to the latest; within a generation successes are level, whatever their attempt, and so are those called off."""
    order = [
        (JobState.QUEUED, 0, 0),
        (JobState.RUNNING, 0, 0),
        (JobState.PARKED, 0, 0),
        (JobState.RETRYING, 0, 1),
        (JobState.CANCELLED, 0, 0),
        (JobState.SUCCEEDED, 0, 0),
        (JobState.QUEUED, 1, 0),
        (JobState.SUCCEEDED, 1, 0),
    ]
    keys = [truth(*place) for place in order]
    assert keys == sorted(set(keys))
    assert truth(JobState.SUCCEEDED, 0, 0) == truth(JobState.SUCCEEDED, 0, 3)
    assert truth(JobState.CANCELLED, 0, 0) == truth(JobState.DISCARDED, 0, 3)


@pytest.mark.parametrize(
    ("seen", "leaves"),
    [
        (event(JobState.QUEUED), False),
        (event(JobState.QUEUED, generation=1), True),
        (event(JobState.RUNNING), False),
        (event(JobState.SUCCEEDED), False),
        (event(JobState.RETRYING), True),
        (event(JobState.PARKED), True),
        (event(JobState.CANCELLED), True),
    ],
)
def test_what_history_must_write_down(seen, leaves):
    assert leaves_happy_path(seen) is leaves
    assert bool(fold([seen]).changes) is leaves


def test_fold_keeps_second_successes_apart():
    first, second = event(JobState.SUCCEEDED, run="a"), event(JobState.SUCCEEDED, run="b", attempt=2)
    folded = fold([first, event(JobState.QUEUED), second])
    assert (folded.latest, folded.losers) == ({"j1": first}, [second])


def test_fold_sets_dropped_copies_aside():
    dropped = event(JobState.QUEUED, generation=9, duplicate=True)
    folded = fold([dropped])
    assert (folded.latest, folded.changes, folded.dropped) == ({}, [], [dropped])


def test_fold_completes_an_event_from_another():
    bare = replace(event(JobState.SUCCEEDED), job=Job("j1", "", tenant="", submitted_at=0))
    for events in ([bare, event(JobState.QUEUED)], [event(JobState.QUEUED), bare]):
        assert fold(events).latest["j1"] == replace(bare, job=JOB)


@given(life=lives(), data=st.data())
def test_fold_ends_where_the_life_ended(life, data):
    shuffled = data.draw(st.permutations(life + life))
    last = life[-1]
    assert fold(shuffled).latest["j1"] == replace(last, job=replace(last.job, run_at=life[0].job.run_at))


@given(life=lives())
def test_watchers_are_told_every_state_and_each_run_once(life):
    news = list(changes_from(None, life + life))
    assert [change.state for _, change in news if change.state is not JobState.RUNNING] == [
        seen.state for seen in life if seen.state is not JobState.RUNNING
    ]
    runs = [(change.generation, change.attempt) for _, change in news if change.state is JobState.RUNNING]
    assert len(runs) == len(set(runs))
    assert len(runs) == len({seen.started_at for seen in life if seen.started_at})
    assert [record.updated_at for record, _ in news] == [change.at for _, change in news]


@pytest.mark.parametrize(
    ("message", "shape"),
    [
        ("", ""),
        ("no answer", "no answer"),
        ("no answer in 30 s", "no answer in # s"),
        ("took 12.5ms of 30_000", "took #ms of #_#"),
        ("user 1234567 and user 123456789", "user # and user #"),
        ("order 0193e5c8-7b1a-7cc2-98a1-0123456789ab is gone", "order # is gone"),
        ("at 0x7f3a and 5f3c9a1be0", "at # and #"),
        ("defaced facade", "defaced facade"),
        ("10.0.0.7:5432 refused at 12:30:05", "# refused at #"),
        ("no table 'a b' in \"c\" or `d`", 'no table "" in "" or ""'),
        ("can't reach what won't answer", "can't reach what won't answer"),
        ("  spread\n over\tlines ", "spread over lines"),
        ("smtp2 down", "smtp# down"),
    ],
)
def test_the_shape_of_a_message(message, shape):
    assert normalise(message) == shape


def test_fingerprints_follow_the_shape():
    assert fingerprint("user 7 not found") == fingerprint("user 1234567 not found")
    assert fingerprint("user 7 not found") != fingerprint("order 7 not found")
    assert len(fingerprint("half a pair \ud800")) == 12


def test_watchers_are_told_the_time_of_a_job_for_later_to_its_end():
    """Only its first event has it."""
    later = replace(JOB, run_at=50, schedule_id="nightly", tick_at=40)
    events = [JobEvent(later, JobState.SCHEDULED, 5), event(JobState.QUEUED, 1), event(JobState.SUCCEEDED, 1, at=60, started_at=55)]
    told = [record for record, _ in changes_from(None, events)]
    assert [record.state for record in told] == [JobState.SCHEDULED, JobState.QUEUED, JobState.RUNNING, JobState.SUCCEEDED]
    assert {(record.job.run_at, record.job.schedule_id, record.job.tick_at) for record in told} == {(50, "nightly", 40)}
