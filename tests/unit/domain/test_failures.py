"""What is remembered of failed runs: ten of them, and as many tracebacks as there is room for, on every way a job goes."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sickbay.adapters.sql.rows import failures_of
from sickbay.contract import responses
from sickbay.domain.breaker import BreakerState
from sickbay.domain.failure import (
    MAX_FAILURES,
    MAX_TRACEBACK_BYTES,
    MAX_TRACEBACKS_BYTES,
    Failure,
    first_and_newest,
    last_bytes,
)
from sickbay.domain.job import Job, JobEvent, JobRecord, JobState, StateChange
from sickbay.domain.outcome import Outcome, OutcomeKind
from sickbay.domain.retry import RetryPolicy, after_fault, after_run
from sickbay.messages.codec import decode_events, decode_job, encode_event, encode_job
from sickbay.messages.undecodable import undecodable_job
from sickbay.server.rest.views import job_view

TRACEBACK = "Traceback (most recent call last):\n  File \"my_handlers.py\", line 7, in send\nKeyError: 'emial'"
JOB = Job("j-1", "email", b"{}", submitted_at=1)
texts = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=MAX_TRACEBACK_BYTES // 4)


def failure(attempt=0, traceback=TRACEBACK, code="KEY_ERROR", generation=0):
    return Failure(10, generation, attempt, code, "'emial'", traceback)


@given(st.lists(st.integers(0, MAX_TRACEBACK_BYTES), max_size=25))
def test_the_newest_tracebacks_stay_within_their_room(sizes):
    """Each whole or not at all, the newest first; messages and rows stay small however often a job fails."""
    job = JOB
    for number, size in enumerate(sizes):
        job = job.failed(failure(number, "x" * size))
    kept = [len(one.traceback) for one in job.failures]
    told = list(first_and_newest(sizes))
    assert sum(kept) <= MAX_TRACEBACKS_BYTES
    assert len(kept) == len(told)
    assert all(have in {0, size} for have, size in zip(kept, told, strict=True))
    assert not told or kept[-1] == told[-1]
    assert [one.attempt for one in job.failures] == list(first_and_newest(range(len(sizes))))
    assert len(told) == min(len(sizes), MAX_FAILURES)


@given(st.text(), st.integers(3, 50))
def test_a_text_is_cut_at_its_beginning_and_between_characters(text, most):
    cut = last_bytes(text, most)
    data = cut.encode()
    assert len(data) <= most or cut == text
    assert text.endswith(cut.removeprefix("...")) or cut == text


@pytest.mark.parametrize("kind", [OutcomeKind.DATA, OutcomeKind.SYSTEMIC])
@pytest.mark.parametrize("breaker", [BreakerState.CLOSED, BreakerState.OPEN])
@pytest.mark.parametrize("attempt", [0, 3])
def test_every_way_after_a_failed_run_remembers_where(kind, breaker, attempt):
    outcome = Outcome(kind, "X", "no", None, TRACEBACK)
    route = after_run(Job("j", "email", attempt=attempt), outcome, breaker, RetryPolicy(), 10)
    (failed,) = route.job.failures
    assert replace(failed, retry_at=0, blameless=0) == Failure(10, 0, attempt, "X", "no", TRACEBACK)


def test_a_fault_of_the_worker_remembers_where():
    assert after_fault(JOB, "broke", RetryPolicy(), 10, TRACEBACK).job.failures[-1].traceback == TRACEBACK
    assert undecodable_job(b"", "m", "broke", 10, TRACEBACK).failures[-1].traceback == TRACEBACK


@given(st.lists(texts, max_size=2))
def test_messages_keep_tracebacks(tracebacks):
    """Jobs and events, whatever the text."""
    job = Job("j-1", "email", b"{}", failures=tuple(failure(n, text) for n, text in enumerate(tracebacks)), submitted_at=1)
    assert decode_job(encode_job(job), "m", 1) == job
    event = JobEvent(job, JobState.QUARANTINED, 10)
    assert decode_events(encode_event(event)) == [event]


def test_messages_of_before_are_read_and_without_a_traceback_nothing_is_added():
    """A job in flight during an upgrade, in both directions."""
    old = {"jobType": "email", "payload": {}, "errors": [{"time": 5, "attempt": 0, "code": "X", "message": "m"}]}
    job = decode_job(json.dumps(old).encode(), "m", 1)
    assert job.failures == (Failure(5, 0, 0, "X", "m"),)
    assert json.loads(encode_job(job))["errors"] == [{"time": 5, "attempt": 0, "code": "X", "message": "m", "generation": 0}]


def test_messages_say_when_a_job_runs_again_and_what_did_not_count():
    """A program of before does not know these fields, and ignores them."""
    job = Job("j-1", "email", b"{}", failures=(replace(failure(), retry_at=7_000, blameless=2),), attempt=2, submitted_at=1)
    assert decode_job(encode_job(job), "m", 1) == job
    (error,) = json.loads(encode_job(job))["errors"]
    assert (error["retryAt"], error["blameless"]) == (7_000, 2)


def test_foreign_messages_bring_no_more_than_there_is_room_for():
    """Somebody else's program may have written anything there."""
    errors = [{"time": 5, "attempt": n, "code": "X", "traceback": "\u00e9" * 50_000} for n in range(12)]
    job = decode_job(json.dumps({"jobType": "email", "payload": {}, "errors": errors}).encode(), "m", 1)
    assert sum(len(one.traceback.encode()) for one in job.failures) <= MAX_TRACEBACKS_BYTES
    assert job.failures[-1].traceback.startswith("...")


HISTORY = [
    StateChange(1, JobState.QUEUED, 0, 0),
    StateChange(9, JobState.RUNNING, 0, 0, actor="w"),
    StateChange(10, JobState.RETRYING, 0, 1, "KEY_ERROR", "'emial'", "w"),
    StateChange(20, JobState.PARKED, 0, 1, "CIRCUIT_OPEN", "", "w"),
    StateChange(30, JobState.QUARANTINED, 1, 1, "VALUE_ERROR", "", "w"),
]


def test_a_single_job_is_shown_with_its_tracebacks_in_errors_and_history():
    """The line of the history to which a failed run led has its traceback; the others have none."""
    failures = (failure(), failure(1, "the other", "VALUE_ERROR", 1))
    record = JobRecord(Job("j-1", "email", failures=failures, submitted_at=1), JobState.QUARANTINED, 30)
    view = job_view(responses.job(record, HISTORY))
    assert [error["traceback"] for error in view["errors"]] == [TRACEBACK, "the other"]
    assert [step.get("traceback") for step in view["history"]] == [None, None, TRACEBACK, None, "the other"]


def test_lists_leave_tracebacks_out():
    record = JobRecord(Job("j-1", "email", failures=(failure(),), submitted_at=1), JobState.RETRYING, 30)
    (error,) = job_view(responses.job(record))["errors"]
    assert error.keys() == {"time", "attempt", "generation", "code", "message"}
    (error,) = job_view(responses.quarantined(record).job)["errors"]
    assert "traceback" not in error


def test_rows_of_before_are_read_and_rows_of_now_are_read_by_the_program_of_before():
    """Both programs run while the ledger is upgraded: the newer field is optional to one and unknown to the other."""
    old = b'[{"at":5,"generation":0,"attempt":0,"code":"X","message":"m"}]'
    assert failures_of(old) == (Failure(5, 0, 0, "X", "m"),)
    now = msgspec.json.encode((replace(failure(), retry_at=9, blameless=1),))
    assert failures_of(now)[0].retry_at == 9
    assert msgspec.json.decode(now, type=tuple[Before, ...]) == (Before(10, 0, 0, "KEY_ERROR", "'emial'"),)


@dataclass(frozen=True)
class Before:
    """A Failure of the last release."""

    at: int
    generation: int
    attempt: int
    code: str
    message: str
