"""What is said of a job: exact sentences for what people ask about, and something for whatever else there may be."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sickbay.domain.breaker import BreakerKey, BreakerState
from sickbay.domain.explain_job import Case, explain_job
from sickbay.domain.explanation import MAX_QUOTED_CHARS, JobReason, JobStep, quoted
from sickbay.domain.failure import Failure
from sickbay.domain.job import Job, JobRecord, JobState, Reason, StateChange
from sickbay.domain.rate_limit import Frequency, Rate
from sickbay.domain.retry import RetryPolicy
from tests.support.explained import OPEN, OPENED, RECOVERING, T0, THEN, VERDICT, breaker, snapshots

FAILED = Failure(T0 - 3_000, 0, 0, "NETWORK_ERROR", "connection reset by peer.")
LOOK = "sickbay explain --type email"
NEXT_PROBE = "The next probe is in 42 s after a cooldown of 1 m: the oldest parked job, or the next new one."
PARKED = "The job was parked 3 s ago, because the circuit of email was open; it is kept and runs by itself later."
OVERDUE = (
    "That is longer than 30 s: its handler has a timeout of its own, or its worker has died or hangs; then another worker takes it over."
)
NOT_AGAIN = "It does not run again by itself, and is kept until a person has resubmitted or discarded it."
DUE = replace(OPEN, probe_at=T0 - 1, cooldown_elapsed=True)
CLOSED = breaker("CLOSED")


def case(state, seen=CLOSED, *, reason=None, started_at=None, actor="", at=T0 - 3_000, **job):
    record = JobRecord(Job("job-1", "email", **job), JobState(state), at, started_at, reason=reason)
    history = [StateChange(1, JobState.QUEUED, 0, 0, actor="nobody"), StateChange(2, JobState(state), 0, 0, actor=actor)]
    return Case(record, history, BreakerKey("email"), seen, RetryPolicy(max_retries=3, delay_ms=5_000), 30_000, T0)


ONCE = {"attempt": 1, "failures": (FAILED,)}


@pytest.mark.parametrize(
    "row",
    [
        (
            case("QUEUED"),
            "WAITING_FOR_WORKER",
            "RUN",
            None,
            ["The job was accepted 3 s ago and waits for a worker.", "Nothing holds it back: it runs as soon as a worker is free."],
            [],
        ),
        (
            case("QUEUED", None, at=T0 - 60_000),
            "WAITING_FOR_WORKER",
            "RUN",
            None,
            [
                "The job was accepted 1 m ago and waits for a worker.",
                "Nothing holds it back: it runs as soon as a worker is free.",
                "It has waited for long: check that workers run, have a handler for email, and keep up.",
            ],
            ["sickbay health", "sickbay metrics"],
        ),
        (
            case("QUEUED", OPEN, generation=1, actor="healer"),
            "CIRCUIT_OPEN",
            "PARK",
            None,
            [
                "The job was brought back by healer 3 s ago and waits for a worker.",
                OPENED,
                NEXT_PROBE,
                VERDICT,
                "The worker that takes this job parks it, and it runs when the circuit has closed.",
            ],
            [LOOK],
        ),
        (
            case("QUEUED", DUE),
            "CIRCUIT_OPEN",
            "PROBE",
            T0 - 1,
            [
                "The job was accepted 3 s ago and waits for a worker.",
                OPENED,
                "A probe is due: the oldest parked job is sent as the probe, or the next new one is.",
                VERDICT,
                "This job may be the probe; otherwise it is parked, and runs when the circuit has closed.",
            ],
            [LOOK],
        ),
        (
            case("QUEUED", breaker("CLOSED", recovering=True, rate=12.5)),
            "CIRCUIT_RECOVERING",
            "RUN",
            None,
            ["The job was accepted 3 s ago and waits for a worker.", *RECOVERING],
            [],
        ),
        (
            case("QUEUED", breaker("HALF_OPEN", probe_job_id="job-1")),
            "RUNNING",
            "RUN_ENDS",
            None,
            ["The job runs as the probe of its circuit: if it succeeds, the circuit closes and parked jobs come back."],
            [],
        ),
        (
            case("RUNNING", started_at=T0 - 4_000, actor="worker-1", **ONCE),
            "RUNNING",
            "RUN_ENDS",
            T0 + 26_000,
            [
                "Run 2 began 4 s ago on worker-1.",
                "It may take 30 s, unless its handler has a timeout of its own; then it fails with HANDLER_TIMEOUT.",
            ],
            [],
        ),
        (
            case("RUNNING", breaker("HALF_OPEN", probe_job_id="job-1"), started_at=T0 - 40_000),
            "RUNNING",
            "RUN_ENDS",
            T0 - 10_000,
            [
                "Run 1 of at most 4 began 40 s ago.",
                "It is the probe of its circuit: if it succeeds, the circuit closes and parked jobs come back.",
                OVERDUE,
            ],
            [],
        ),
        (
            case("RETRYING", **ONCE),
            "RETRY_SCHEDULED",
            "RETRY",
            T0 + 2_000,
            [
                "Run 1 failed 3 s ago with NETWORK_ERROR: connection reset by peer.",
                "Run 2 is due in 2 s, or later if the failure asked for a longer wait.",
            ],
            [],
        ),
        (
            case("RETRYING", attempt=1, failures=(Failure(T0 - 3_000, 0, 0, "KEY_ERROR", "no name.", retry_at=T0 + 7_000),)),
            "RETRY_SCHEDULED",
            "RETRY",
            T0 + 7_000,
            ["Run 1 of at most 4 failed 3 s ago with KEY_ERROR: no name.", "Run 2 is due in 7 s."],
            [],
        ),
        (
            case(
                "RETRYING",
                attempt=3,
                failures=(
                    Failure(T0 - 9_000, 0, 0, "API_TIMEOUT", "", blameless=1),
                    Failure(T0 - 6_000, 0, 1, "API_TIMEOUT", "", blameless=2),
                    Failure(T0 - 3_000, 0, 2, "KEY_ERROR", "no name.", retry_at=T0 + 7_000, blameless=2),
                ),
            ),
            "RETRY_SCHEDULED",
            "RETRY",
            T0 + 7_000,
            ["Run 3 of at most 6 failed 3 s ago with KEY_ERROR: no name.", "Run 4 is due in 7 s."],
            [],
        ),
        (
            case("RETRYING", attempt=9, failures=(Failure(T0 - 3_000, 0, 8, "MINE", "", retry_at=T0 + 60_000, blameless=9),)),
            "RETRY_SCHEDULED",
            "RETRY",
            T0 + 60_000,
            [
                "Run 9 failed 3 s ago with MINE.",
                "Run 10 is due in 1 m.",
                "What it depends on failed, not the job itself: it is retried until it succeeds, and needs no person.",
            ],
            [],
        ),
        (
            case("RETRYING", OPEN, at=T0 - 9_000, **ONCE),
            "RETRY_SCHEDULED",
            "RETRY",
            T0 - 4_000,
            [
                "Run 1 failed 9 s ago with NETWORK_ERROR: connection reset by peer.",
                "Run 2 was due at 23:59:56 UTC: it waits for a worker, or the failure asked for a longer wait.",
                OPENED,
                NEXT_PROBE,
                VERDICT,
                "If it is still open when the job's turn comes, the job is parked.",
            ],
            [LOOK],
        ),
        (
            case("PARKED", None, failures=(FAILED,)),
            "CIRCUIT_OPEN",
            "RELEASE",
            None,
            [
                PARKED,
                "Its last run failed with NETWORK_ERROR: connection reset by peer.",
                "It is released when the circuit closes; this service does not know the circuit's present state.",
            ],
            [LOOK],
        ),
        (case("PARKED", OPEN), "CIRCUIT_OPEN", "PROBE", T0 + 42_000, [PARKED, OPENED, NEXT_PROBE, VERDICT], [LOOK, "sickbay probe email"]),
        (
            case("PARKED", breaker("HALF_OPEN", probe_job_id="job-9")),
            "PROBE_RUNNING",
            "PROBE_ENDS",
            None,
            [PARKED, OPENED, "Job job-9 runs as the probe now, and other jobs are parked.", VERDICT],
            [LOOK],
        ),
        (
            case("PARKED", breaker("FORCED_OPEN", forced_by="ada", forced_until=T0 + 60_000)),
            "CIRCUIT_FORCED_OPEN",
            "HOLD_ENDS",
            T0 + 60_000,
            [
                PARKED,
                "The circuit of email is held open by ada.",
                "The hold ends in 1 m, at 00:01:00 UTC, or earlier with `sickbay auto email`; " + THEN,
            ],
            ["sickbay auto email", LOOK],
        ),
        (
            case("PARKED", breaker("CLOSED", recovering=True, rate=12.5)),
            "CIRCUIT_RECOVERING",
            "RELEASE",
            None,
            [PARKED, *RECOVERING, "The oldest parked job comes first, and tenants take turns."],
            [],
        ),
        (
            case("PARKED", breaker("DISABLED", forced_by="ada")),
            "RELEASE_DUE",
            "RELEASE",
            None,
            [
                PARKED,
                "The breaker of email was disabled by ada.",
                "Every job runs until it is set to auto.",
                "The job is about to be released; if it is not, check that the control plane runs.",
            ],
            ["sickbay health"],
        ),
        (
            case("SUCCEEDED", started_at=T0 - 4_500, **ONCE),
            "SUCCEEDED",
            "NONE",
            None,
            ["The job succeeded 3 s ago, in run 2, which took 1 s."],
            [],
        ),
        (
            case("DISCARDED", actor="ada"),
            "DISCARDED",
            "NONE",
            None,
            ["The job was discarded 3 s ago by ada and does not run any more."],
            [],
        ),
        (case("CANCELLED"), "CANCELLED", "NONE", None, ["The job was cancelled 3 s ago and does not run any more."], []),
    ],
    ids=lambda row: row[0].record.state.value,
)
def test_each_situation_in_words(row):
    given, reason, step, next_at, sentences, commands = row
    explained = explain_job(given)
    assert list(explained.sentences) == sentences
    assert (explained.reason, explained.next_step, explained.next_at) == (JobReason(reason), JobStep(step), next_at)
    assert list(explained.commands) == commands


@pytest.mark.parametrize(
    ("reason", "why", "what_to_do", "again"),
    [
        (
            "RETRIES_EXHAUSTED",
            ": run 4, the last one allowed, failed with NETWORK_ERROR: connection reset by peer",
            "Correct the data (--edit) or the cause, then resubmit it: it gets all its retries again.",
            " --edit",
        ),
        (
            "UNDECODABLE",
            ": its message could not be read (NETWORK_ERROR: connection reset by peer)",
            "Its bytes are kept in the payload's contentBase64: resubmit it with a readable payload and its type, or discard it.",
            "",
        ),
        (
            "WORKER_LOST",
            ": several workers died while they ran it",
            "Find out what kills them (memory, native code, an exit in the handler) before you resubmit it.",
            "",
        ),
        ("BROKER", ": the broker took it out of its queue", "See the broker's log and its limits of the queue, then resubmit it.", ""),
        (
            "WORKER_FAULT",
            ": workers had an internal error while processing it (NETWORK_ERROR: connection reset by peer)",
            "Its errors say where, and so does the workers' log; when the fault is corrected, resubmit it.",
            "",
        ),
        (
            "",
            "; its last run failed with NETWORK_ERROR: connection reset by peer",
            "See its errors and its payload, then resubmit or discard it.",
            "",
        ),
    ],
)
def test_a_quarantined_job_says_what_a_person_can_do(reason, why, what_to_do, again):
    explained = explain_job(case("QUARANTINED", OPEN, reason=Reason(reason) if reason else None, attempt=3, failures=(FAILED,)))
    assert explained.sentences == (f"The job was quarantined 3 s ago{why}.", NOT_AGAIN, what_to_do)
    assert (explained.reason, explained.next_step) == (JobReason(reason or "SET_ASIDE"), JobStep.PERSON_DECIDES)
    show, resubmit, discard = explained.commands
    assert show == "sickbay quarantine show job-1"
    assert (resubmit, discard) == (f"sickbay quarantine resubmit job-1{again}", "sickbay quarantine discard job-1")


@pytest.mark.parametrize(
    ("state", "reason", "first", "quarantines"),
    [
        ("QUEUED", "WAITING_FOR_WORKER", "The job was accepted 3 s ago and waits for a worker.", True),
        ("RETRYING", "WAITING_FOR_WORKER", "Run 1 failed 3 s ago with NETWORK_ERROR: connection reset by peer.", True),
        ("PARKED", "COOLDOWN", "The job was parked 3 s ago", False),
    ],
)
def test_without_a_live_worker_nothing_happens_whatever_the_breaker_says(state, reason, first, quarantines):
    waiting = replace(case(state, OPEN, **(ONCE if state == "RETRYING" else {})), lacks_worker=True)
    explained = explain_job(waiting)
    assert explained.sentences[0].startswith(first)
    assert explained.sentences[1] == "No live worker handles email: nothing happens until one does."
    assert (len(explained.sentences) == 3) == quarantines
    assert (explained.next_step, explained.next_at, explained.commands) == (JobStep.WORKER_COMES, None, ("sickbay workers",))
    assert state == "PARKED" or explained.reason is JobReason(reason)


@pytest.mark.parametrize("state", ["RUNNING", "SUCCEEDED", "CANCELLED"])
def test_a_job_that_runs_or_has_ended_needs_no_other_worker(state):
    assert explain_job(replace(case(state), lacks_worker=True)) == explain_job(case(state))


def test_a_job_that_no_worker_handled_comes_back_by_itself():
    explained = explain_job(case("QUARANTINED", OPEN, reason=Reason.UNKNOWN_TYPE))
    assert explained.sentences == (
        "The job was quarantined 3 s ago: no live worker had a handler for email.",
        "It comes back by itself when a live worker handles email.",
        "Start workers that have a handler for email, or resubmit it with the right type (--job-type).",
    )
    assert (explained.reason, explained.next_step) == (JobReason.UNKNOWN_TYPE, JobStep.WORKER_COMES)
    assert "sickbay quarantine resubmit job-1 --job-type TYPE" in explained.commands


def test_messages_are_one_short_line():
    assert quoted("X", " a\nb\t\x1b[31mc. ") == "X: a b [31mc"
    assert quoted("", "") == ""
    assert quoted("X", "") == "X"
    assert len(quoted("", "a" * 5_000)) == MAX_QUOTED_CHARS


times = st.integers(-(2**53), 2**53)
failures = st.builds(Failure, at=times, generation=st.integers(0, 9), attempt=st.integers(0, 9), code=st.text(), message=st.text())
records = st.builds(
    JobRecord,
    job=st.builds(
        Job,
        job_id=st.text(),
        job_type=st.text(),
        attempt=st.integers(-1, 2**32),
        generation=st.integers(0, 2**32),
        failures=st.lists(failures, max_size=3).map(tuple),
        submitted_at=times,
    ),
    state=st.sampled_from(JobState),
    updated_at=times,
    started_at=st.none() | times,
    reason=st.none() | st.sampled_from(Reason),
)
changes = st.builds(
    StateChange, at=times, state=st.sampled_from(JobState), generation=st.integers(0, 9), attempt=st.integers(0, 9), actor=st.text()
)


cases = st.builds(
    Case,
    record=records,
    history=st.lists(changes, max_size=4),
    key=st.just(BreakerKey("email")),
    breaker=st.none() | snapshots,
    policy=st.builds(RetryPolicy, st.integers(0, 9), st.integers(0, 2**40)),
    timeout_ms=st.integers(0, 2**40),
    now=times,
)


@given(cases)
def test_every_job_has_an_explanation(case):
    explained, record = explain_job(case), case.record
    assert explained.sentences
    assert all(one and (one[0].isupper() or one[0].isdigit()) and one.endswith((".", ")")) for one in explained.sentences)
    assert (explained.next_step is JobStep.NONE) == record.state.is_final
    waits = explained.next_step in {JobStep.PERSON_DECIDES, JobStep.WORKER_COMES}
    assert waits == (record.state is JobState.QUARANTINED)
    assert bool(explained.commands) or explained.next_step is not JobStep.PERSON_DECIDES


@pytest.mark.parametrize("state", list(BreakerState))
def test_an_open_circuit_is_named_for_every_job_that_waits_for_it(state):
    for waiting in ("QUEUED", "RETRYING", "PARKED"):
        explained = explain_job(case(waiting, breaker(state.value), **ONCE))
        assert any("email" in one for one in explained.sentences) or not state.refuses


def in_line(before, rate="10/s", *, seen=CLOSED, reason=Reason.RATE_LIMITED):
    count, unit = rate.split("/")
    period_ms = {"s": 1_000, "m": 60_000, "h": 3_600_000}[unit]
    return replace(case("PARKED", seen, reason=reason), rate=Rate(Frequency(int(count), period_ms), 1), before=before)


def test_a_job_in_line_is_told_how_many_are_before_it_and_when_it_runs():
    told = explain_job(in_line(1_199))
    assert (told.reason, told.next_step, told.next_at) == (JobReason.RATE_LIMITED, JobStep.RELEASE, T0 + 120_000)
    assert told.sentences == (
        "The job was parked 3 s ago, because email jobs came faster than their rate allows; it is kept and runs by itself later.",
        "It waits for the rate of 10/s of its type: about 1,199 jobs are before it, so it runs in 2 m or later.",
    )
    assert "it is the next" in explain_job(in_line(0, "1/h")).sentences[1]


def test_whatever_it_was_parked_for_it_comes_back_at_the_rate_unless_the_circuit_is_open():
    back = explain_job(in_line(1, reason=Reason.CIRCUIT_OPEN))
    assert (back.reason, back.sentences[0]) == (JobReason.RATE_LIMITED, PARKED)
    assert explain_job(in_line(1, seen=OPEN)).reason is JobReason.CIRCUIT_OPEN
    assert explain_job(replace(in_line(1), rate=None)).reason is JobReason.RELEASE_DUE
