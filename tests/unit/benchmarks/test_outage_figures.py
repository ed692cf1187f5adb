"""The figures are those of the records, each with an example that can be counted by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.outage.accounts import by_ledger, by_records
from benchmarks.outage.figures import Spread, drain, figures, most_in_a_second, spread
from benchmarks.outage.scenarios import Burst, Scenario, Times, scenarios
from benchmarks.outage.service import Condition
from benchmarks.outage.trace import Call, Ends, Start, StateSeen, Submit, Trace

OUTAGE = Scenario("test", "down for 10 s", Condition(20, "refusing"), 10, 20, {"email": 10, "sms": 1})


def healthy(kind, number, at, took=0.02):
    """A job that is submitted, runs and is served at once."""
    return Submit(at, kind, number, str(number)), Start(at + 0.01, kind, number), Call(at + 0.01, at + took, kind, number, "ok")


def outage():
    """Ten seconds of 10 jobs a second, ten of outage, then all that waited at 20 a second, while no fresh ones come."""
    trace = Trace("somebody", began=100.0, ill=110.0, back=120.0, healed=126.0, ended=130.0)
    for number in range(100):
        submit, start, call = healthy("email", number, 100 + number / 10)
        trace.submits.append(submit)
        trace.starts.append(start)
        trace.calls.append(call)
    for number in range(100, 200):
        trace.submits.append(Submit(100 + number / 10, "email", number, str(number)))
    trace.calls += [Call(110 + number / 10, 110 + number / 10, "email", 100 + number, "refused") for number in range(5)]
    trace.states += [StateSeen(100.0, "email", "CLOSED"), StateSeen(110.41, "email", "OPEN", "a")]
    trace.calls.append(Call(110.43, 110.43, "email", 105, "refused"))  # was under way when it opened
    for probe in range(3):
        trace.calls.append(Call(112.0 + 3 * probe, 112.0 + 3 * probe, "email", 106, "refused"))
        trace.states.append(StateSeen(112.01 + 3 * probe, "email", "OPEN", f"b{probe}"))
    trace.calls.append(Call(119.0, 119.0, "email", 107, "refused"))
    trace.states += [StateSeen(121.0, "email", "HALF_OPEN"), StateSeen(121.02, "email", "CLOSED")]
    for number in range(100, 200):
        at = 121.0 + (number - 100) / 20
        trace.starts.append(Start(at, "email", number))
        trace.calls.append(Call(at, at + 0.02, "email", number, "ok"))
    trace.ends = Ends(succeeded=200)
    return trace


def test_an_outage_is_told_in_numbers():
    told = figures(OUTAGE, outage(), 0.0)
    assert told.opened_s == pytest.approx(0.41)
    assert told.dead_calls == 10
    assert told.wasted == 1  # the call at 119.0 belongs to no probe
    assert told.closed_s == pytest.approx(1.02)
    assert told.healed_s == pytest.approx(6.0)
    assert (told.refused, told.reopened, told.duplicates) == (0.0, 0, 0)
    assert told.peak == pytest.approx(1.0)
    assert told.drain == pytest.approx(2.0, rel=0.05)  # 20 a second, where fresh ones would have left 10
    assert told.goodput == pytest.approx(0.8, abs=0.05)  # a second of five was lost
    assert figures(OUTAGE, outage(), 1.0).goodput == pytest.approx(1.0, abs=0.05)  # it is granted two cooldowns
    assert told.idle == Spread(pytest.approx(10), pytest.approx(10))
    assert told.watched_s == 10


def test_refusals_and_openings_after_the_return_are_counted():
    trace = outage()
    trace.calls += [Call(127.0, 127.0, "email", 1_000, "full"), Call(127.1, 127.2, "email", 199, "ok")]
    trace.states += [StateSeen(127.0, "email", "OPEN", "c"), StateSeen(128.0, "email", "HALF_OPEN"), StateSeen(128.1, "email", "OPEN", "d")]
    told = figures(OUTAGE, trace, 0.0)
    assert told.reopened == 1
    assert told.duplicates == 1
    assert told.refused == pytest.approx(1 / 102)


def test_what_never_healed_says_so():
    told = figures(OUTAGE, replace(outage(), healed=None, states=[]), 0.0)
    assert (told.healed_s, told.closed_s, told.opened_s, told.wasted) == (None, None, None, None)


def test_an_overload_is_measured_while_it_lasts():
    scenario = Scenario("test", "", Condition(5), 10, 20, {"email": 10}, during=True)
    trace = Trace("somebody", began=0.0, ill=10.0, back=20.0, healed=21.0, ended=25.0)
    for number in range(250):
        submit, start, call = healthy("email", number, number / 10)
        trace.submits.append(submit)
        trace.starts.append(start)
        trace.calls.append(call if number % 4 == 0 or not 100 <= number < 200 else call._replace(word="full"))
    told = figures(scenario, trace, 0.0)
    assert told.goodput == pytest.approx(0.5, abs=0.03)  # 25 of the 50 that it could serve
    assert told.refused == pytest.approx(0.75)
    assert told.peak == pytest.approx(2.0)
    assert told.drain is None


def test_most_in_a_second_is_of_any_second():
    assert most_in_a_second([]) == 0
    assert most_in_a_second([0.0, 0.9, 1.0, 1.1, 1.85, 3.0]) == 4


def test_the_drain_is_that_of_nineteen_in_twenty():
    submits = [Submit(number / 100, "email", number, "") for number in range(100)]
    served = {number: 11 + number / 10 for number in range(95)} | dict.fromkeys(range(95, 100), 500.0)
    assert drain(submits, served, 10.0, 1_000.0, 5.0) == pytest.approx(95 / 10.4 / 5, rel=0.01)
    assert drain(submits, {}, 10.0, 20.0, 5.0) == 0
    assert drain(submits[:10], served, 10.0, 20.0, 5.0) is None


def test_a_job_that_never_started_waited_until_the_end():
    submits = [Submit(float(number), "email", number, "") for number in range(2)]
    assert spread(submits, {0: 0.5}, (0.0, 5.0), 11.0) == Spread(10_000, 10_000)
    assert spread(submits, {}, (5.0, 6.0), 11.0) == Spread(None, None)


def test_a_scale_keeps_the_proportions():
    for scenario in scenarios().values():
        small = scenario.scaled(0.1)
        assert small.ill_s == pytest.approx(scenario.ill_s / 10)
        assert small.capacity == scenario.capacity
        assert all(burst.count >= 1 for burst in small.bursts)
    assert scenarios()["many"].scaled(0.1).bursts == (Burst("ill", "email", 1_000),)
    assert Times().scaled(0.1).cooldown_s == pytest.approx(0.3)


def test_every_scenario_has_room_to_heal_in():
    for scenario in scenarios().values():
        assert scenario.capacity > scenario.load
        assert set(scenario.rates) | {burst.kind for burst in scenario.bursts} <= {"email", "invoice", "sms", "report"}


def test_every_job_is_accounted_for():
    trace = Trace("somebody")
    states = ["SUCCEEDED", "SUCCEEDED", "QUARANTINED", "PARKED", "RETRYING", "QUEUED"]
    trace.submits = [Submit(0.0, "email", number, f"job-{number}") for number in range(7)]
    trace.submits += [Submit(0.0, "email", 7, ""), Submit(0.0, "sms", 8, "job-8")]
    trace.calls = [Call(1.0, 1.1, "email", 0, "ok"), Call(1.0, 1.1, "email", 1, "full")]
    trace.starts = [Start(1.0, "sms", 8), Start(1.0, "email", 1)]
    known = {f"job-{number}": state for number, state in enumerate(states)} | {"job-8": "SUCCEEDED"}
    assert by_ledger(trace, known) == Ends(succeeded=2, quarantined=1, parked=1, waiting=2, lost=2, refused=1)
    assert by_records(trace, dead=3) == Ends(succeeded=2, quarantined=3, waiting=4)
