"""What is said of a breaker: exact sentences for each state, and something for whatever else there may be."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sickbay.domain.breaker import BreakerKey, Snapshot
from sickbay.domain.explain_breaker import DEGRADED, explain_breaker
from sickbay.domain.explanation import BreakerReason, BreakerStep
from tests.support.explained import OPEN, OPENED, RECOVERING, T0, THEN, VERDICT, breaker, snapshots


@pytest.mark.parametrize(
    "row",
    [
        (breaker("CLOSED"), "HEALTHY", "NONE", None, ["The circuit of email is closed: its jobs run."], []),
        (
            breaker("CLOSED", failures_in_row=3, failures_in_row_code="API_TIMEOUT"),
            "FAILING",
            "MAY_OPEN",
            None,
            ["The circuit of email is closed: its jobs run.", "3 jobs have failed in a row with API_TIMEOUT; if more do, it opens."],
            [],
        ),
        (
            breaker("CLOSED", recent_runs=1_250, recent_failure_rate=0.25),
            "FAILING",
            "MAY_OPEN",
            None,
            [
                "The circuit of email is closed: its jobs run.",
                "25 % of the 1,250 recent runs failed or were slow; if it becomes more, the circuit may open.",
            ],
            [],
        ),
        (
            breaker("CLOSED", recovering=True, rate=12.5),
            "RECOVERING",
            "RELEASE",
            None,
            RECOVERING,
            [],
        ),
        (
            OPEN,
            "COOLDOWN",
            "PROBE",
            T0 + 42_000,
            [OPENED, "The next probe is in 42 s after a cooldown of 1 m: the oldest parked job, or the next new one.", VERDICT],
            ["sickbay probe email", "sickbay reset email"],
        ),
        (
            replace(OPEN, probe_at=T0 - 1, cooldown_elapsed=True),
            "PROBE_DUE",
            "PROBE",
            T0 - 1,
            [OPENED, "A probe is due: the oldest parked job is sent as the probe, or the next new one is.", VERDICT],
            ["sickbay reset email"],
        ),
        (
            replace(OPEN, probe_at=T0 - 1, cooldown_elapsed=True, degraded=True),
            "PROBE_DUE",
            "PROBE",
            T0 - 1,
            [OPENED, "A probe is due: it is sent when the store is back.", VERDICT, DEGRADED],
            ["sickbay reset email"],
        ),
        (
            breaker("HALF_OPEN", probe_job_id="job-9"),
            "PROBE_RUNNING",
            "PROBE_ENDS",
            None,
            [OPENED, "Job job-9 runs as the probe now, and other jobs are parked.", VERDICT],
            ["sickbay reset email"],
        ),
        (
            breaker("HALF_OPEN", probe_job_id="job-9", probe_at=T0 + 2_000),
            "PROBE_RUNNING",
            "PROBE_ENDS",
            None,
            [
                OPENED,
                "Job job-9 runs as the probe now, and other jobs are parked.",
                "If it has not ended in 2 s, it is taken to hang, and another job becomes the probe.",
                VERDICT,
            ],
            ["sickbay reset email"],
        ),
        (
            breaker("HALF_OPEN", probe_job_id="job-9", probe_at=T0, hanging_probes=3),
            "PROBE_RUNNING",
            "PROBE_ENDS",
            None,
            [
                OPENED,
                "Job job-9 runs as the probe now, and other jobs are parked.",
                "It takes too long; another job becomes the probe when one of those that run has ended.",
                "3 earlier probes have not ended yet, and the success of one still counts.",
                VERDICT,
            ],
            ["sickbay reset email"],
        ),
        (
            replace(OPEN, probe_at=T0 - 1, cooldown_elapsed=True, hanging_probes=1),
            "PROBE_DUE",
            "PROBE",
            T0 - 1,
            [
                OPENED,
                "A probe is due: the oldest parked job is sent as the probe, or the next new one is.",
                "1 earlier probe has not ended yet, and its success still counts.",
                VERDICT,
            ],
            ["sickbay reset email"],
        ),
        (
            breaker("FORCED_OPEN", forced_by="ada", forced_why="the mail server moves"),
            "FORCED_OPEN",
            "HOLD_ENDS",
            None,
            [
                "The circuit of email is held open by ada (the mail server moves).",
                "It stays open until somebody ends the hold (`sickbay auto email`); then a probe decides whether it closes.",
            ],
            ["sickbay auto email"],
        ),
        (
            breaker("FORCED_OPEN", key=BreakerKey("email", "acme"), forced_until=T0 + 600_000),
            "FORCED_OPEN",
            "HOLD_ENDS",
            T0 + 600_000,
            [
                "The circuit of email (tenant acme) is held open by an admin.",
                "The hold ends in 10 m, at 00:10:00 UTC, or earlier with `sickbay auto email --tenant acme`; " + THEN,
            ],
            ["sickbay auto email --tenant acme"],
        ),
        (
            breaker("DISABLED", forced_by="ada", forced_why="ticket 123"),
            "DISABLED",
            "PERSON_DECIDES",
            None,
            ["The breaker of email was disabled by ada (ticket 123).", "Every job runs until it is set to auto."],
            ["sickbay auto email"],
        ),
        (
            breaker("METRICS_ONLY", would_have_tripped=1),
            "METRICS_ONLY",
            "PERSON_DECIDES",
            None,
            [
                "The breaker of email was switched to metrics only by an admin.",
                "Every job runs until it is set to auto.",
                "It would have opened 1 time so far.",
            ],
            ["sickbay auto email"],
        ),
    ],
    ids=lambda row: row[0].state.value,
)
def test_each_situation_in_words(row):
    seen, reason, step, next_at, sentences, commands = row
    explained = explain_breaker(seen, 0)
    assert list(explained.sentences) == sentences
    assert (explained.reason, explained.next_step, explained.next_at) == (BreakerReason(reason), BreakerStep(step), next_at)
    assert list(explained.commands) == commands
    assert explained.since == (seen.opened_at if seen.state.refuses else seen.updated_at)


@pytest.mark.parametrize(
    ("seen", "parked", "sentence"),
    [
        (OPEN, 1, "1 job is parked and waits until the circuit closes."),
        (OPEN, 1_234, "1,234 jobs are parked and wait until the circuit closes."),
        (breaker("CLOSED"), 1, "1 job is parked and is being released, oldest first, tenants in turn."),
        (breaker("CLOSED", recovering=True), 20, "20 jobs are parked and are being released, oldest first, tenants in turn."),
    ],
)
def test_parked_jobs_are_counted(seen, parked, sentence):
    assert explain_breaker(seen, parked).sentences[-1] == sentence


@given(snapshots, st.integers(0, 2**40))
def test_every_breaker_has_an_explanation(seen: Snapshot, parked: int):
    explained = explain_breaker(seen, parked)
    assert explained.sentences
    assert all(one and (one[0].isupper() or one[0].isdigit()) and one.endswith((".", ")")) for one in explained.sentences)
    assert explained.next_at is None or explained.next_step in {BreakerStep.PROBE, BreakerStep.HOLD_ENDS}


def test_the_breaker_of_a_dependency_names_it_and_its_types():
    key = BreakerKey("dependency:mail")
    explained = explain_breaker(replace(OPEN, key=key), 0, ["email", "sms", "welcome"])
    assert explained.sentences[0].startswith("The circuit of the dependency mail has been open since")
    assert explained.sentences[-1] == "email, sms and welcome share this circuit, because of the dependency mail."
    assert explained.commands == ("sickbay probe dependency:mail", "sickbay reset dependency:mail")
    alone = explain_breaker(breaker("CLOSED", key), 0, ["email"])
    assert alone.sentences[-1] == "Only email uses this circuit, because of the dependency mail."


def test_a_share_of_bad_runs_is_a_cause_of_its_own():
    opened = breaker("OPEN", by_rate=True, reason_code="SLOW_CALLS", reason_count=12, reason_message="a run took 6000 ms", probe_at=T0)
    cause = "because of 12 recent runs that failed or were slow, the last with SLOW_CALLS: a run took 6000 ms."
    assert explain_breaker(opened, 0).sentences[0].endswith(cause)
