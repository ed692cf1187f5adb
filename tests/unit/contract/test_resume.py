"""Where a watch that was cut goes on."""

from dataclasses import replace

import pytest

from sickbay.contract import resume
from sickbay.contract.resume import SentBreakers
from sickbay.domain.breaker import BreakerKey, BreakerState, Snapshot
from sickbay.domain.job import Job, JobRecord, JobState, StateChange

EMAIL = Snapshot(BreakerKey("email"), BreakerState.CLOSED, 1, 1, 1_000)
SMS = Snapshot(BreakerKey("sms"), BreakerState.OPEN, 1, 4, 2_000)


@pytest.mark.parametrize("state", list(JobState))
def test_a_token_names_the_place_of_what_was_told(state):
    change = StateChange(1, state, 2, 3)
    record = JobRecord(Job("id", "email", b"", generation=2, attempt=3), state, 1)
    assert resume.parse_token(resume.token(change)) == resume.position(change)
    assert resume.token_of(record) == resume.token(change)
    assert resume.position_of(record) == resume.position(change)


@pytest.mark.parametrize(
    "token", ["", "1", "0.0", "0.0.", "0.0.ASLEEP", "0.0.queued", "-1.0.QUEUED", "0.0.QUEUED\n", "9" * 99 + ".0.QUEUED", "é"]
)
def test_what_is_no_token_names_nothing(token):
    assert resume.parse_token(token) is None


def test_equal_circuits_have_equal_tokens_in_whatever_order_they_were_told():
    assert SentBreakers([EMAIL, SMS]).token == SentBreakers([SMS, EMAIL]).token == SentBreakers([replace(SMS, rev=3), EMAIL, SMS]).token
    assert SentBreakers([EMAIL]).token == SentBreakers([replace(EMAIL, now=5, cooldown_elapsed=True, total_failures=3)]).token


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
    assert SentBreakers(other).token != SentBreakers([EMAIL, SMS]).token


def test_circuits_that_are_no_more_are_not_remembered():
    told = SentBreakers([EMAIL, SMS])
    told.retain({SMS.key})
    assert told.token == SentBreakers([SMS]).token
