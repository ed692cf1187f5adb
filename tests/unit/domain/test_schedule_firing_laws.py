"""Laws of what a schedule does when its time has come: random looks, outages, crashes, clocks that are set back, daylight saving.

The rules are written down a second time here, tick by tick (`ruled`), as slow and plain as can be: `decide` has to say the same.
"""

from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from sickbay.domain.schedule import Overlap, RunOutcome, ScheduleState, Situation, Trigger, WhileOpen
from sickbay.domain.schedule_firing import MOST_RUNS, advanced, decide, found_anew
from sickbay.domain.schedule_times import last_time, next_time, times_between
from tests.support.clock import START
from tests.support.schedules import schedule

SKIPPED, REFUSED, MISSED = RunOutcome.SKIPPED_OVERLAP, RunOutcome.SKIPPED_CIRCUIT_OPEN, RunOutcome.MISSED
MINUTE, HOUR = 60_000, 3_600_000
ALL = 10**6
FORWARD, BACK = (int(datetime.fromisoformat(at).timestamp() * 1_000) for at in ("2027-03-28T00:30:00+00:00", "2027-10-31T00:30:00+00:00"))

TIMINGS = st.sampled_from(
    [
        {"every_ms": 7_000},
        {"every_ms": 1_000, "end_at": START + 500_000},
        {"every_ms": 61_000, "start_at": START + 90_000, "end_at": START + HOUR},
        {"cron": "*/2 * * * *"},
        {"cron": "*/5 * * * * *", "end_at": START + 900_000},
        {"cron": "15,45 2 * * *", "timezone": "Europe/Berlin", "since": FORWARD},
        {"cron": "0 */20 1-3 * * *", "timezone": "Europe/Berlin", "since": FORWARD},
        {"cron": "*/7 2 * * *", "timezone": "Europe/Berlin", "since": BACK},
        {"cron": "0,30 1,2 * * *", "timezone": "Europe/Berlin", "since": BACK},
    ]
)
SPECS = st.fixed_dictionaries(
    {
        "overlap": st.sampled_from(list(Overlap)),
        "while_open": st.sampled_from(list(WhileOpen)),
        "jitter_ms": st.sampled_from([0, 900]),
        "catch_up_ms": st.sampled_from([0, 90_000, HOUR]),
    }
)


@dataclass(frozen=True)
class Look:
    """A control plane looks, about `ahead_ms` after the look before, and dies before its transaction is durable, or not.

    `just`: at that time, or as soon as the schedule is due, or when the latest tick until then came, a millisecond before it, or when it
    got as old as the window.
    """

    ahead_ms: int
    just: str
    is_running: bool
    is_open: bool
    dies: bool


LOOKS = st.lists(
    st.builds(
        Look,
        st.integers(1, 3_000) | st.integers(1, 400_000),
        st.sampled_from(["", "next", "tick", "before", "window"]),
        *[st.booleans()] * 3,
    ),
    min_size=1,
    max_size=20,
)


def made(spec, timing):
    """A schedule, and when it begins."""
    fields = dict(timing)
    since = fields.pop("since", START)
    timed = schedule(**spec, **fields)
    first = next_time(timed.spec.timing, since)
    return schedule(**spec, **fields, next_at=first), since


def moved(kept, now, look):
    """The time of a look."""
    then = now + look.ahead_ms
    if look.just == "next":
        return kept.next_at if kept.next_at > now else then
    tick = last_time(kept.spec.timing, now + 2, then + 1)
    if not tick or not look.just:
        return then
    return {"tick": tick, "before": tick - 1, "window": tick + kept.spec.catches_up_ms}[look.just]


@dataclass
class Ruled:
    """What becomes of each tick by the rules."""

    runs: list = field(default_factory=list)
    others: list = field(default_factory=list)
    next_at: int = 0
    buffered_at: int = 0


def ruled(kept, situation):
    """The rules, one tick at a time."""
    spec, now = kept.spec, situation.now
    told, is_running = Ruled(buffered_at=kept.buffered_at), situation.is_running
    is_refused = situation.is_open and spec.while_open is WhileOpen.SKIP
    if told.buffered_at and not is_running:
        if is_refused:
            told.others.append((told.buffered_at, REFUSED))
        else:
            told.runs.append(told.buffered_at)
            is_running = True
        told.buffered_at = 0
    before = len(told.runs)
    for tick in times_between(spec.timing, kept.next_at, now + 1, ALL) if kept.next_at else []:
        if now - tick > spec.catches_up_ms:
            told.others.append((tick, MISSED))
        elif is_refused:
            told.others.append((tick, REFUSED))
        elif spec.overlap is Overlap.ALLOW:
            if len(told.runs) - before == MOST_RUNS:
                told.next_at = tick
                return told
            told.runs.append(tick)
        elif not is_running:
            told.runs.append(tick)
            is_running = True
        elif spec.overlap is Overlap.BUFFER_ONE and not told.buffered_at:
            told.buffered_at = tick
        else:
            told.others.append((tick, SKIPPED))
    told.next_at = next_time(spec.timing, now) if kept.next_at else 0
    return told


def spans(others):
    """Consecutive ticks with one outcome, as entries: the last one, and how many."""
    for outcome, group in groupby(others, key=lambda other: other[1]):
        ticks = [tick for tick, _ in group]
        yield ticks[-1], outcome, len(ticks)


@given(SPECS, TIMINGS, LOOKS)
def test_each_decision_is_what_the_rules_say_of_each_tick(spec, timing, looks):
    """Tick by tick: which run, which wait, which are missed, refused and skipped, and where it goes on."""
    kept, now = made(spec, timing)
    for look in looks:
        now = moved(kept, now, look)
        situation = Situation(now, look.is_running, look.is_open)
        decision, told = decide(kept, situation), ruled(kept, situation)
        assert [run.tick_at for run in decision.runs] == told.runs
        refused_wait = [other for other in told.others[:1] if other[0] == kept.buffered_at != 0]
        assert [(run.tick_at, run.outcome, run.count) for run in decision.others] == [
            *spans(refused_wait),
            *spans(told.others[len(refused_wait) :]),
        ]
        assert decision.buffered_at == told.buffered_at
        if kept.next_at and kept.next_at <= now:
            assert decision.next_at == told.next_at
        else:
            assert decision.next_at == kept.next_at
        if not look.dies:
            kept = advanced(kept, decision, now, None)


@given(SPECS, TIMINGS, LOOKS)
def test_a_crash_changes_nothing_and_no_tick_has_two_outcomes(spec, timing, looks):
    """What was not durable is decided anew; entries never overlap, and together with what waits they are all ticks until now."""
    kept, since = made(spec, timing)
    now, ran, ended = since, [], []
    for look in looks:
        now = moved(kept, now, look)
        situation = Situation(now, look.is_running, look.is_open)
        decision = decide(kept, situation)
        assert decision == decide(kept, situation)
        if look.dies:
            continue
        ran += [run.tick_at for run in decision.runs]
        for run in decision.others:
            first = run.tick_at
            if run.count > 1:
                first = times_between(kept.spec.timing, kept.next_at, run.tick_at + 1, ALL)[-run.count]
            ended += times_between(kept.spec.timing, first, run.tick_at + 1, ALL)
        kept = advanced(kept, decision, now, None)
        waiting = [kept.buffered_at] if kept.buffered_at else []
        until = min(now + 1, kept.next_at or now + 1)
        assert sorted([*ran, *ended, *waiting]) == times_between(kept.spec.timing, since + 1, until, ALL)
    assert ran == sorted(set(ran))


@given(SPECS, TIMINGS, LOOKS)
def test_the_next_time_only_grows_and_is_a_time(spec, timing, looks):
    """It is after now unless the bound of a turn is reached; without one the schedule has ended, for good."""
    kept, now = made(spec, timing)
    for look in looks:
        now = moved(kept, now, look)
        decision = decide(kept, Situation(now, look.is_running, look.is_open))
        after = advanced(kept, decision, now, None)
        if kept.next_at and kept.next_at <= now:
            assert not after.next_at or after.next_at > kept.next_at
            assert not after.next_at or after.next_at > now or len(decision.runs) >= MOST_RUNS
        else:
            assert after.next_at == kept.next_at
        assert after.next_at == next_time(kept.spec.timing, after.next_at - 1) if after.next_at else after.state is ScheduleState.ENDED
        assert not kept.spec.timing.end_at or after.next_at < kept.spec.timing.end_at
        kept = after


@given(SPECS, TIMINGS, LOOKS)
def test_policies(spec, timing, looks):
    """The laws of SKIP, BUFFER_ONE and ALLOW, of the catch-up window, of open circuits and of jitter, each by itself."""
    kept, now = made(spec, timing)
    for look in looks:
        now = moved(kept, now, look)
        decision = decide(kept, Situation(now, look.is_running, look.is_open))
        fresh = [run for run in decision.runs if run.tick_at != kept.buffered_at]
        if kept.spec.overlap is not Overlap.ALLOW:
            assert len(decision.runs) <= (0 if look.is_running else 1)
        if kept.spec.overlap is not Overlap.BUFFER_ONE:
            assert not decision.buffered_at
        if kept.spec.overlap is Overlap.ALLOW:
            assert not [run for run in decision.others if run.outcome is SKIPPED]
        if kept.buffered_at and not look.is_running:
            assert decision.buffered_at != kept.buffered_at
        if decision.buffered_at:
            assert look.is_running or decision.runs
        if look.is_open and kept.spec.while_open is WhileOpen.SKIP:
            assert not decision.runs
        else:
            assert not [run for run in decision.others if run.outcome is REFUSED]
        assert all(now - run.tick_at <= kept.spec.catches_up_ms for run in fresh)
        assert all(now - run.tick_at > kept.spec.catches_up_ms for run in decision.others if run.outcome is MISSED)
        assert all(0 <= run.run_at - run.tick_at <= kept.spec.timing.jitter_ms for run in decision.runs)
        assert all((run.trigger, run.request_id, run.actor) == (Trigger.TICK, "", "") for run in decision.runs)
        assert all(run.trigger is Trigger.TICK and run.handled_at == now for run in decision.others)
        kept = advanced(kept, decision, now, None)


@given(TIMINGS, LOOKS)
def test_with_allow_it_does_not_matter_how_often_one_looks(timing, looks):
    """Within the catch-up window each tick runs, whatever else runs."""
    often, since = made({"overlap": Overlap.ALLOW, "catch_up_ms": 10 * HOUR}, timing)
    once, now, ran = often, since, []
    for look in looks:
        now += look.ahead_ms
        decision = decide(often, Situation(now, look.is_running))
        ran += [run.tick_at for run in decision.runs]
        often = advanced(often, decision, now, None)
    caught_up = []
    for kept, found in ((often, ran), (once, caught_up)):
        while 0 < kept.next_at <= now:
            decision = decide(kept, Situation(now))
            assert decision.next_at != kept.next_at
            found += [run.tick_at for run in decision.runs]
            kept = advanced(kept, decision, now, None)  # noqa: PLW2901 - it moves on
    assert ran == caught_up == times_between(once.spec.timing, since + 1, now + 1, ALL)


@given(SPECS, TIMINGS, LOOKS, st.integers(2_001, 400_000))
def test_a_clock_that_is_set_back_loses_no_tick(spec, timing, looks, back_ms):
    """Those after its new time are decided about once more, and the ledger has no second job for any; none before is forgotten."""
    kept, since = made(spec, timing)
    now, known = since, set()
    for index, look in enumerate(looks):
        now = moved(kept, now, look)
        if index == len(looks) // 2:
            now = max(since, now - back_ms)
            before, kept = kept, found_anew(kept, now)
            assert kept.next_at in {before.next_at, next_time(kept.spec.timing, now)}
            assert kept.next_at <= before.next_at
            assert not kept.next_at or kept.next_at <= (next_time(kept.spec.timing, now) or kept.next_at)
        decision = decide(kept, Situation(now, look.is_running, look.is_open))
        known |= {run.tick_at for run in decision.runs}
        for run in decision.others:
            known |= set(times_between(kept.spec.timing, kept.next_at or run.tick_at, run.tick_at + 1, ALL)[-run.count :])
            known |= {run.tick_at}
        kept = advanced(kept, decision, now, None)
    until = min(now + 1, kept.next_at or now + 1)
    assert set(times_between(kept.spec.timing, since + 1, until, ALL)) <= known | {kept.buffered_at}


@given(SPECS, st.integers(1, 10**9), st.integers(0, 10**8))
def test_a_next_time_that_is_no_time_any_more_makes_no_job(spec, off_ms, ahead_ms):
    """After a new edition of the time zone database: it goes on with the times that there are now."""
    kept, _ = made({**spec, "catch_up_ms": 366 * 24 * HOUR}, {"cron": "0 3 * * *", "timezone": "Europe/Berlin"})
    stale = schedule(**{**spec, "catch_up_ms": 366 * 24 * HOUR}, cron="0 3 * * *", timezone="Europe/Berlin", next_at=kept.next_at + off_ms)
    now = stale.next_at + ahead_ms
    decision = decide(stale, Situation(now))
    known = times_between(stale.spec.timing, stale.next_at, now + 1, ALL)
    assert {run.tick_at for run in decision.runs} <= set(known)
    assert decision.next_at > now or len(decision.runs) == MOST_RUNS
