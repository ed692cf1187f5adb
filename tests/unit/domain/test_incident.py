"""One incident for each outage, whatever order and however often control planes tell of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sickbay.domain.breaker import Action, BreakerKey, BreakerState
from sickbay.domain.incident import (
    KEPT_FIRST,
    MAX_ENTRIES,
    REOPEN_WINDOW_MS,
    Change,
    EntryKind,
    Incident,
    acknowledge,
    advance,
    change_between,
    is_outage,
    vanish,
)
from tests.support.incident_snapshots import TIMEOUT, Patient, degraded


class Record:
    """The incidents of one breaker as a store keeps them."""

    def __init__(self, window_ms=REOPEN_WINDOW_MS):
        self.incidents: list[Incident] = []
        self.changes: list[Change] = []
        self.window_ms = window_ms

    @property
    def latest(self):
        return self.incidents[-1] if self.incidents else None

    def take(self, *snapshots):
        for snapshot in snapshots:
            self.put(advance(self.latest, snapshot, self.window_ms))
        return self.latest

    def put(self, after):
        before = self.latest
        if after is None or after is before:
            return
        if not after.number:
            after = replace(after, number=len(self.incidents) + 1)
            self.incidents.append(after)
        else:
            self.incidents[-1] = after
        if change := change_between(before, after):
            self.changes.append(change)


def kinds(incident):
    return [entry.kind.value for entry in incident.timeline]


def test_an_outage_from_its_opening_to_its_closing():
    patient, record = Patient(), Record()
    opened = patient.trip()
    incident = record.take(*patient.seen)
    assert incident.is_open
    assert (incident.opened_at, incident.recovery_ms) == (opened.opened_at, None)
    assert (incident.cause.code, incident.cause.message, incident.cause.count) == ("API_TIMEOUT", "no answer in 30 s", 3)
    failed = patient.probe(TIMEOUT)
    closed = patient.probe()
    incident = record.take(*patient.seen)
    assert kinds(incident) == ["OPENED", "PROBE_FAILED", "CLOSED"]
    assert [entry.at for entry in incident.timeline] == [opened.opened_at, failed.updated_at, closed.updated_at]
    assert [entry.job_id for entry in incident.timeline] == ["", "job-3", "job-4"]
    assert (incident.wasted_runs, incident.recovery_ms) == (1, closed.updated_at - opened.opened_at)
    assert record.changes == [Change.OPENED, Change.CLOSED]


def test_a_flapping_dependency_makes_one_incident():
    patient, record = Patient(), Record()
    for _ in range(3):
        patient.trip()
        patient.probe(TIMEOUT)
        patient.probe()
    record.take(*patient.seen)
    (incident,) = record.incidents
    assert (incident.reopenings, incident.wasted_runs, incident.is_open) == (2, 3, False)
    assert kinds(incident) == ["OPENED", "PROBE_FAILED", "CLOSED", *["REOPENED", "PROBE_FAILED", "CLOSED"] * 2]


def test_an_opening_after_the_window_is_a_new_incident():
    patient, record = Patient(), Record()
    patient.trip()
    patient.probe()
    patient.wait(REOPEN_WINDOW_MS + 1_000)
    patient.trip()
    record.take(*patient.seen)
    assert [incident.is_open for incident in record.incidents] == [False, True]
    assert [incident.wasted_runs for incident in record.incidents] == [0, 0]


def test_a_breaker_that_a_person_holds_open_is_no_incident():
    """Not even after the hold, until a probe shows that something is broken."""
    patient, record = Patient(), Record()
    patient.force_open()
    patient.command(Action.AUTO)
    assert record.take(*patient.seen) is None
    patient.probe(TIMEOUT)
    incident = record.take(*patient.seen)
    assert incident.cause.code == "API_TIMEOUT"


def test_a_hold_during_an_incident_is_in_its_timeline():
    patient, record = Patient(), Record()
    patient.trip()
    patient.force_open()
    patient.force_open(why="they still move")
    patient.command(Action.AUTO)
    patient.probe()
    incident = record.take(*patient.seen)
    assert kinds(incident) == ["OPENED", "FORCED_OPEN", "HOLD_ENDED", "CLOSED"]
    assert (incident.timeline[1].actor, incident.timeline[1].message) == ("ada", "they move")
    assert len(record.incidents) == 1


@pytest.mark.parametrize("ramp", [True, False])
def test_a_reset_closes_it(ramp):
    patient, record = Patient(config=replace(Patient().config, ramp=ramp)), Record()
    patient.trip()
    patient.command(Action.RESET)
    assert kinds(record.take(*patient.seen)) == ["OPENED", "RESET"]


def test_switching_the_breaker_off_closes_it():
    patient, record = Patient(), Record()
    patient.trip()
    patient.command(Action.DISABLE, by="ada", why="counts wrongly")
    incident = record.take(*patient.seen)
    assert (kinds(incident), incident.timeline[-1].actor) == (["OPENED", "SWITCHED_OFF"], "ada")
    assert incident.timeline[-1].message == "DISABLED: counts wrongly"


def test_one_who_was_away_finds_out_from_the_last_snapshot():
    """Nobody told that probes failed, nor that the breaker closed: times and counts are right all the same."""
    patient, record = Patient(), Record()
    opened = patient.trip()
    record.take(opened)
    patient.probe(TIMEOUT)
    patient.probe(TIMEOUT)
    closed = patient.probe()
    patient.wait(3_600_000)
    incident = record.take(patient.snapshot())
    assert (incident.closed_at, incident.wasted_runs) == (closed.updated_at, 0 if patient.doc.trips == 0 else 2)
    assert incident.timeline[-1].kind is EntryKind.CLOSED


def test_a_closing_that_nobody_saw_is_a_reopening():
    patient, record = Patient(), Record()
    record.take(patient.trip())
    patient.probe()
    patient.wait(1_000)
    again = patient.trip()
    incident = record.take(again)
    assert (incident.reopenings, incident.outage_at, len(record.incidents)) == (1, again.opened_at, 1)


def test_a_local_view_proves_nothing():
    patient, record = Patient(), Record()
    assert record.take(degraded(patient.trip())) is None


def test_a_breaker_that_is_gone_is_closed():
    patient, record = Patient(), Record()
    incident = record.take(patient.trip())
    record.put(vanish(incident, incident.opened_at + 7_000))
    assert (record.latest.recovery_ms, record.changes) == (7_000, [Change.OPENED, Change.CLOSED])
    assert vanish(record.latest, incident.opened_at + 9_000) is record.latest


def test_an_acknowledgement_is_kept_and_may_be_repeated():
    patient, record = Patient(), Record()
    before = record.take(patient.trip())
    noted = acknowledge(before, "ada", "calling them", before.opened_at + 50)
    assert (noted.acknowledged.actor, noted.acknowledged.note, kinds(noted)[-1]) == ("ada", "calling them", "ACKNOWLEDGED")
    assert acknowledge(noted, "ada", "calling them", before.opened_at + 60) is noted
    assert acknowledge(noted, "bob", "me too", before.opened_at + 60).acknowledged.actor == "bob"
    assert change_between(before, noted) is None


def test_a_long_timeline_keeps_its_beginning_and_its_end():
    patient, record = Patient(), Record()
    patient.trip()
    for _ in range(MAX_ENTRIES + 30):
        patient.probe(TIMEOUT)
    patient.probe()
    incident = record.take(*patient.seen)
    assert (len(incident.timeline), incident.omitted, incident.wasted_runs) == (MAX_ENTRIES, 32, MAX_ENTRIES + 30)
    assert (incident.timeline[0].kind, incident.timeline[-1].kind) == (EntryKind.OPENED, EntryKind.CLOSED)
    assert len({entry.at for entry in incident.timeline[:KEPT_FIRST]}) == KEPT_FIRST


STEPS = ["fail", "heal", "hold", "auto", "reset", "disable", "pause", "long pause"]
steps = st.lists(st.sampled_from(STEPS), min_size=1, max_size=25)
wild_steps = st.lists(st.sampled_from([*STEPS, "clock back"]), min_size=1, max_size=25)


def lived(steps):
    """A breaker's life: what it showed at every step."""
    patient = Patient()
    for step in steps:
        state = patient.doc.state
        if step == "pause":
            patient.wait(20_000)
        elif step == "clock back":
            patient.wait(-30_000)
        elif step == "long pause":
            patient.wait(REOPEN_WINDOW_MS + 60_000)
        elif step in {"fail", "heal"} and state is BreakerState.OPEN:
            patient.probe(TIMEOUT) if step == "fail" else patient.probe()
        elif step == "fail" and state is BreakerState.CLOSED:
            patient.trip()
        elif step == "hold":
            patient.force_open()
        elif step in {"auto", "reset", "disable"}:
            patient.command({"auto": Action.AUTO, "reset": Action.RESET, "disable": Action.DISABLE}[step], by="ada")
    return patient


def outages(shown):
    """How many incidents there must be: an outage that begins within the window after the last one belongs to it."""
    number, open_, closed_at = 0, False, None
    for one in shown:
        if open_ and not one.state.refuses:
            open_, closed_at = False, one.updated_at
        elif not open_ and is_outage(one):
            open_ = True
            number += closed_at is None or one.opened_at - closed_at > REOPEN_WINDOW_MS
    return number


@given(steps, st.data())
def test_late_and_repeated_news_change_nothing(steps, data):
    """Of several observers one is attentive; the others tell, at any moment, anything that has happened up to then."""
    patient = lived(steps)
    alone, together = Record(), Record()
    alone.take(*patient.seen)
    for number, shown in enumerate(patient.seen):
        together.take(shown)
        late = data.draw(st.lists(st.integers(0, number), max_size=3))
        together.take(*(patient.seen[index] for index in late))
    assert together.incidents == alone.incidents
    assert len(together.incidents) == outages(patient.seen)
    assert together.changes.count(Change.OPENED) == len(together.incidents)
    openings = together.changes.count(Change.OPENED) + together.changes.count(Change.REOPENED)
    assert openings - together.changes.count(Change.CLOSED) == sum(incident.is_open for incident in together.incidents) <= 1


@given(wild_steps, st.data())
def test_whatever_was_missed_the_end_is_right(steps, data):
    """Observers miss any of the changes, and tell the rest in any order: the last snapshot says whether an incident is open."""
    patient, record = lived(steps), Record()
    told = data.draw(st.lists(st.sampled_from(patient.seen), max_size=20)) if patient.seen else []
    record.take(*told, patient.snapshot())
    open_ = [incident for incident in record.incidents if incident.is_open]
    assert len(open_) <= 1
    assert not record.incidents or all(not incident.is_open for incident in record.incidents[:-1])
    now = patient.snapshot()
    assert bool(open_) == (is_outage(now) or (now.state.refuses and bool(open_)))
    for incident in record.incidents:
        assert incident.key == BreakerKey("email")
        assert incident.recovery_ms is None or incident.recovery_ms >= 0
        assert incident.wasted_runs >= 0
