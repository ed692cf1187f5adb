"""Why a job has not run yet that is to run later: when it is due, or that it is late and what to check."""

from dataclasses import replace

import pytest

from sickbay.domain.explain_scheduled import LATE_MS, explain_scheduled
from sickbay.domain.explanation import JobReason, JobStep
from sickbay.domain.job import Job, JobRecord, JobState
from tests.support.clock import START

HOUR = 3_600_000
JOB = Job("j", "report", submitted_at=START, run_at=START + HOUR)
RECORD = JobRecord(JOB, JobState.SCHEDULED, START)


def test_it_is_said_when_a_job_is_due():
    told = explain_scheduled(RECORD, START + 60_000)
    assert (told.reason, told.since, told.next_step, told.next_at) == (JobReason.SCHEDULED, START, JobStep.DUE, START + HOUR)
    assert told.sentences[0] == "The job was accepted 1 m ago, to run later: it is due in 59 m."
    assert told.sentences[1].startswith("Then, at ")
    assert told.sentences[1].endswith(" UTC, it is queued like any other job.")
    assert told.commands == ()


def test_it_is_said_whose_job_it_is():
    told = explain_scheduled(replace(RECORD, job=replace(JOB, schedule_id="nightly")), START)
    assert told.sentences[0] == "The job was accepted just now by the schedule nightly, to run later: it is due in 1 h."


@pytest.mark.parametrize("late_ms", [0, LATE_MS])
def test_a_job_that_is_due_is_not_late_for_a_while(late_ms):
    told = explain_scheduled(RECORD, START + HOUR + late_ms)
    assert "it is due now" in told.sentences[0]
    assert told.commands == ()


def test_a_job_that_is_late_says_what_to_check():
    told = explain_scheduled(RECORD, START + HOUR + LATE_MS + 1)
    assert told.sentences == (
        "The job was accepted 1 h ago, to run later: it was due 10 s ago.",
        "It is late: check that the control plane runs, and reaches the ledger and the broker.",
    )
    assert told.commands == ("sickbay health",)
