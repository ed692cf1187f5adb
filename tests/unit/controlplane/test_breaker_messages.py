"""Messages of breakers that are listed again and again."""

from dataclasses import replace

from controlplane.breaker_messages import BreakerMessages
from sickbay.contract import responses
from sickbay.domain.breaker import BreakerKey, BreakerScope, BreakerState, DependencyRule, Snapshot

OPEN = Snapshot(BreakerKey("email"), BreakerState.OPEN, 1, 2, 3, trips=1, opened_at=4, probe_at=5, now=6)


def test_a_breaker_that_has_not_changed_has_the_same_message():
    """Also as another snapshot: an OPEN one is made anew at each look, with the time of it."""
    messages = BreakerMessages()
    [first] = messages.of([OPEN])
    assert first == responses.breaker(OPEN)
    assert messages.of([OPEN, replace(OPEN, now=7)]) == [first, first]
    assert messages.of([replace(OPEN, now=8)])[0] is first


def test_a_breaker_that_has_changed_has_another():
    messages = BreakerMessages()
    for changed in (OPEN, replace(OPEN, cooldown_elapsed=True), replace(OPEN, degraded=True), OPEN):
        assert messages.of([changed]) == [responses.breaker(changed)]


def test_a_shared_breaker_names_the_types_that_share_it_now():
    dependencies = {"email": "smtp"}
    messages = BreakerMessages(DependencyRule(BreakerScope.TYPE, lambda: dependencies))
    shared = replace(OPEN, key=BreakerKey("dependency:smtp"))
    assert [list(one.job_types) for one in messages.of([shared])] == [["email"]]
    dependencies["sms"] = "smtp"
    assert [list(one.job_types) for one in messages.of([shared])] == [["email", "sms"]]
