"""Looking at breakers without asking a server and without changing them."""

from random import Random

from sickbay.adapters.breaker_view import DocumentView
from sickbay.adapters.embedded.breakers import EmbeddedBreakers
from sickbay.breaker.machine import new_document
from sickbay.domain.breaker import Action, BreakerConfig, BreakerKey, BreakerState, Command
from sickbay.domain.outcome import Outcome, OutcomeKind
from tests.support.clock import ManualClock

EMAIL = BreakerKey("email")
CONFIG = BreakerConfig(failure_threshold=2)


def open_breakers():
    clock = ManualClock()
    return EmbeddedBreakers(CONFIG, clock, Random(1)), clock


async def fail(breakers, times=2):
    for number in range(times):
        permit = await breakers.admit(EMAIL, f"job-{number}")
        await breakers.settle(permit, Outcome(OutcomeKind.SYSTEMIC, "API_TIMEOUT", "no answer"))


async def test_an_unseen_breaker_is_closed_and_stays_unseen():
    breakers, _ = open_breakers()
    view = breakers.view()
    assert view.unless_closed(EMAIL) is None
    assert view.get(EMAIL).state is BreakerState.CLOSED
    assert await breakers.keys() == []


async def test_an_open_breaker_is_shown_as_it_is_now():
    breakers, clock = open_breakers()
    view = breakers.view()
    await fail(breakers, 1)
    assert view.unless_closed(EMAIL) is None
    assert view.get(EMAIL).failures_in_row == 1
    await fail(breakers)
    seen = view.unless_closed(EMAIL)
    assert (seen.state, seen.reason_code, seen.cooldown_elapsed, seen.now) == (BreakerState.OPEN, "API_TIMEOUT", False, clock.now)
    clock.now = seen.probe_at
    assert view.unless_closed(EMAIL).cooldown_elapsed
    assert view.get(EMAIL) == view.unless_closed(EMAIL)


async def test_what_is_due_by_time_alone_is_shown_and_not_stored():
    breakers, clock = open_breakers()
    view = breakers.view()
    held = await breakers.command(EMAIL, Command(Action.FORCE_OPEN, 1_000, "ada"))
    clock.now += 1_000
    seen = view.unless_closed(EMAIL)
    assert (seen.state, seen.cooldown_elapsed) == (BreakerState.OPEN, True)
    assert breakers._documents[EMAIL].rev == held.rev


def test_while_the_store_is_away_the_last_state_counts():
    """And nothing is known of a breaker that was never read."""
    away, found = True, None
    view = DocumentView(lambda _: found, lambda _: CONFIG, lambda: 5, is_outdated=lambda: away)
    assert view.get(EMAIL) is None
    assert view.unless_closed(EMAIL) is None
    found = new_document(EMAIL, 3)
    assert view.get(EMAIL).degraded
    away = False
    assert not view.get(EMAIL).degraded
