"""What a frame of `sickbay top` shows, from two readings."""

from __future__ import annotations

from typing import Any

import pytest

from sickbay.breakers.v1.breaker_pb2 import Breaker
from sickbay.breakers.v1.breaker_service_pb2 import GetMetricsResponse
from sickbay.breakers.v1.incident_pb2 import Incident
from sickbay_cli.top.frame import RECENT_MS, Frame, Parked, PlaneReading, Rates, Reading, frame
from sickbay_cli.top.memory import MAX_CHANGES, WINDOW_MS, ChangeLog, History

NOW = 1_700_000_000_000


def breaker(job_type: str, state: str = "CLOSED", *, opened: int = 0, changed: int = NOW, **fields: Any) -> Breaker:
    made = Breaker(job_type=job_type, tenant="default", state=Breaker.State.Value(f"STATE_{state}"), **fields)
    made.update_time.FromMilliseconds(changed)
    if opened:
        made.open_time.FromMilliseconds(opened)
    return made


def reading(at: int, *breakers: Breaker, parked: dict[str, Parked] | None = None, **numbers: Any) -> PlaneReading:
    metrics = GetMetricsResponse(**numbers)
    metrics.time.FromMilliseconds(at)
    return PlaneReading(at, breakers, metrics, {(name, "default"): some for name, some in (parked or {}).items()})


def framed(before: PlaneReading | None, last: PlaneReading | None, problem: str = "") -> Frame:
    log = ChangeLog()
    for one in last.breakers if last else ():
        log.add(one)
    return frame(Reading((), last, problem), before, last, log.latest, NOW + 2_000)


def test_rates_are_the_differences_of_two_readings():
    before = reading(NOW, jobs_by_state={"QUEUED": 5, "SUCCEEDED": 100, "PARKED": 50, "RETRYING": 1}, failures_by_job_type={"email": 3})
    last = reading(
        NOW + 2_000,
        jobs_by_state={"QUEUED": 7, "SUCCEEDED": 140, "PARKED": 30, "QUARANTINED": 1},
        failures_by_job_type={"email": 5, "a": 2},
    )
    assert framed(before, last).rates == Rates(submitted=11, succeeded=20, failed=2, retrying=-0.5, parked=-10, quarantined=0.5)


def test_there_are_no_rates_without_two_readings_or_when_the_ledger_has_forgotten_jobs():
    last = reading(NOW, jobs_by_state={"SUCCEEDED": 10})
    assert framed(None, last).rates == Rates()
    assert framed(last, last).rates == Rates()
    forgot = framed(reading(NOW - 1_000, jobs_by_state={"SUCCEEDED": 50}), last).rates
    assert (forgot.submitted, forgot.succeeded) == (None, None)
    assert framed(PlaneReading(NOW - 1_000, ()), last).rates == Rates()


def test_the_most_urgent_breakers_come_first():
    before = reading(NOW - 1_000, breaker("busy", total_failures=1), breaker("calm", total_failures=9))
    last = reading(
        NOW,
        breaker("busy", total_failures=4),
        breaker("calm", total_failures=9),
        breaker("disabled", "DISABLED"),
        breaker("few", "OPEN"),
        breaker("many", "HALF_OPEN"),
        breaker("slow", recovering=True, admitted_per_second=3),
        parked={"few": Parked(2, NOW), "many": Parked(20, NOW)},
    )
    shown = framed(before, last)
    assert [row.breaker.job_type for row in shown.breakers] == ["many", "few", "slow", "disabled", "busy", "calm"]
    assert [row.parked for row in shown.breakers[1:3]] == [Parked(2, NOW), None]


def test_since_when_a_breaker_is_in_its_state():
    last = reading(
        NOW,
        breaker("open", "OPEN", opened=NOW - 9_000),
        breaker("off", "DISABLED", changed=NOW - 5_000),
        breaker("slow", recovering=True, changed=NOW - 1),
        breaker("usual"),
    )
    assert {row.breaker.job_type: row.since for row in framed(None, last).breakers} == {
        "open": NOW - 9_000,
        "off": NOW - 5_000,
        "slow": 0,
        "usual": 0,
    }


def test_queues_and_their_trend():
    before, last = (
        reading(NOW, queue_depths={"jobs.main": 10}),
        reading(NOW + 4_000, queue_depths={"jobs.main": 2, "jobs.retry": 1}, queue_consumers={"jobs.main": 4}),
    )
    assert [(row.name, row.depth, row.trend, row.consumers) for row in framed(before, last).queues] == [
        ("jobs.main", 2, -2.0, 4),
        ("jobs.retry", 1, None, None),
    ]
    assert [row.trend for row in framed(None, last).queues] == [None, None]


def test_releases_are_the_breakers_that_let_jobs_run_while_others_wait():
    breakers = [breaker("email", recovering=True, admitted_per_second=50), breaker("sms", "OPEN"), breaker("done")]
    before = reading(NOW - 2_000, *breakers, parked={"email": Parked(100, NOW), "sms": Parked(1, NOW)})
    last = reading(NOW, *breakers, parked={"email": Parked(40, NOW), "sms": Parked(1, NOW), "done": Parked(0, 0)})
    (row,) = framed(before, last).releases
    assert (row.breaker.job_type, row.waiting, row.released, row.limit) == ("email", 40, 30.0, 50)
    assert framed(None, last).releases[0].released is None
    more = reading(NOW, *breakers, parked={"email": Parked(140, NOW)})
    assert framed(before, more).releases[0].released == 0, "more were parked than released"


def test_incidents_are_the_open_ones_and_those_of_the_last_day():
    def incident(number: int, opened: int, closed: int = 0) -> Incident:
        made = Incident(incident_id=str(number), open=not closed)
        made.open_time.FromMilliseconds(opened)
        if closed:
            made.close_time.FromMilliseconds(closed)
        return made

    open_ones = [incident(1, NOW - 2 * RECENT_MS), incident(4, NOW)]
    closed = [incident(2, NOW - 2 * RECENT_MS, NOW - RECENT_MS - 1), incident(3, NOW - RECENT_MS, NOW - 1_000)]
    last = PlaneReading(NOW, (), incidents=[*open_ones, *open_ones, *closed])
    assert [one.incident_id for one in framed(None, last).incidents] == ["4", "1", "3"]


def test_without_numbers_there_are_still_breakers():
    shown = framed(None, PlaneReading(NOW, [breaker("email", "OPEN")]), "RabbitMQ is unavailable")
    assert (len(shown.breakers), shown.jobs, shown.queues, shown.problem) == (1, {}, (), "RabbitMQ is unavailable")
    nothing = framed(None, None, "gone")
    assert (nothing.as_of, nothing.breakers, nothing.problem) == (0, (), "gone")


def test_a_history_compares_the_readings_of_the_last_seconds():
    history = History()
    assert (history.before, history.last) == (None, None)
    first = reading(NOW)
    history.add(first)
    assert (history.before, history.last) == (None, first)
    others = [reading(NOW + second * 1_000) for second in range(1, 9)]
    for other in others:
        history.add(other)
    assert history.last is others[-1]
    assert history.before is not None
    assert history.before.time == others[-1].time - WINDOW_MS
    late = reading(NOW + 600_000)
    history.add(late)
    assert (history.before, history.last) == (others[-1], late), "after a long silence, the mean over all of it"


def test_the_log_has_changes_of_the_state_once_each_newest_first():
    log = ChangeLog()
    steps = [
        breaker("email", "CLOSED", rev=1),
        breaker("email", "CLOSED", rev=2, failures_in_row=3),
        breaker("email", "OPEN", rev=3, changed=NOW + 1),
        breaker("email", "OPEN", rev=3, changed=NOW + 1),
        breaker("email", "CLOSED", rev=2),
        breaker("email", "HALF_OPEN", rev=4, changed=NOW + 2),
    ]
    for step in steps:
        log.add(step)
    log.add(breaker("sms", "FORCED_OPEN", opened=NOW - 60_000, rev=7))
    assert [(one.time - NOW, one.breaker.job_type, one.breaker.state) for one in log.latest] == [
        (2, "email", Breaker.STATE_HALF_OPEN),
        (1, "email", Breaker.STATE_OPEN),
        (-60_000, "sms", Breaker.STATE_FORCED_OPEN),
    ]


def test_the_log_is_bounded_and_forgets_breakers_that_are_gone():
    log = ChangeLog()
    for number in range(MAX_CHANGES + 5):
        log.add(breaker(f"t{number}", "OPEN", rev=1))
    assert len(log.latest) == MAX_CHANGES
    log.retain([])
    log.add(breaker("t1", "OPEN", rev=1, opened=NOW + 5))
    assert log.latest[0].time == NOW, "one list may be older"
    log.retain([])
    log.add(breaker("t1", "OPEN", rev=1, opened=NOW + 9))
    assert log.latest[0].time == NOW + 9, "it is new again"


@pytest.mark.parametrize("state", ["OPEN", "CLOSED"])
def test_breakers_of_the_same_urgency_are_in_the_order_of_their_names(state: str):
    last = reading(NOW, *(breaker(name, state) for name in ("c", "a", "b")))
    assert [row.breaker.job_type for row in framed(None, last).breakers] == ["a", "b", "c"]
