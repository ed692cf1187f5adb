"""Where a watch that was cut goes on."""

from dataclasses import replace

import pytest

from sickbay.contract import resume
from sickbay.contract.resume import Told
from sickbay.domain.breaker import BreakerKey, BreakerState, Snapshot
from sickbay.domain.job import Job, JobRecord, JobState, StateChange

EMAIL = Snapshot(BreakerKey("email"), BreakerState.CLOSED, 1, 1, 1_000)
SMS = Snapshot(BreakerKey("sms"), BreakerState.OPEN, 1, 4, 2_000)


@pytest.mark.parametrize("state", list(JobState))
def test_a_token_names_the_place_of_what_was_told(state):
    change = StateChange(1, state, 2, 3)
    record = JobRecord(Job("id", "email", b"", generation=2, attempt=3), state, 1)
    assert resume.after(resume.token(change)) == resume.place(change)
    assert resume.token_of(record) == resume.token(change)
    assert resume.place_of(record) == resume.place(change)


@pytest.mark.parametrize(
    "token", ["", "1", "0.0", "0.0.", "0.0.ASLEEP", "0.0.queued", "-1.0.QUEUED", "0.0.QUEUED\n", "9" * 99 + ".0.QUEUED", "é"]
)
def test_what_is_no_token_names_nothing(token):
    assert resume.after(token) is None


def test_equal_circuits_have_equal_tokens_in_whatever_order_they_were_told():
    assert Told([EMAIL, SMS]).token == Told([SMS, EMAIL]).token == Told([replace(SMS, rev=3), EMAIL, SMS]).token
    assert Told([EMAIL]).token == Told([replace(EMAIL, now=5, cooldown_elapsed=True, total_failures=3)]).token


@pytest.mark.parametrize(
    "other",
    [
        [],
        [EMAIL],
        [EMAIL, replace(SMS, rev=5)],
        [EMAIL, replace(SMS, state=BreakerState.CLOSED)],
        [EMAIL, replace(SMS, updated_at=2_001)],
        [EMAIL, replace(SMS, key=BreakerKey("sms", "other"))],
    ],
)
def test_a_change_changes_the_token(other):
    assert Told(other).token != Told([EMAIL, SMS]).token


def test_circuits_that_are_no_more_are_not_remembered():
    told = Told([EMAIL, SMS])
    told.keep({SMS.key})
    assert told.token == Told([SMS]).token
