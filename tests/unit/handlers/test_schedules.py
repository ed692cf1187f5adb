"""The options `schedule` and `timezone` of a handler."""

import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from pathlib import Path

import pytest
from pydantic import BaseModel

from sickbay import Job, Schedule, handler, job_type
from sickbay.domain.errors import SettingsError
from sickbay.domain.priority import Priority
from sickbay.domain.schedule import DEFAULT_CATCH_UP_MS, Overlap, ScheduleKey, ScheduleSpec, Timing, WhileOpen
from sickbay.handlers.loading import load_handlers
from sickbay.handlers.registry import HandlerMistake, marks_of


@job_type("mail")
@dataclass
class Mail:
    to: str


class Report(BaseModel):
    days: int = 1


def scheduled(schedule, timezone=None, function=None, name="report"):
    """The schedules of a handler with this option."""
    (spec,) = marks_of(handler(name, schedule=schedule, timezone=timezone)(function or partial(print)))
    return spec.schedules


def typed(payload_class):
    def send(payload: payload_class) -> None: ...

    return send


def test_an_expression_and_its_zone():
    (found,) = scheduled("0 3 * * *", "Europe/Berlin")
    assert found.key == ScheduleKey("default", "report")
    assert found.spec == ScheduleSpec("report", Timing("0 3 * * *", timezone="Europe/Berlin"), catch_up_ms=DEFAULT_CATCH_UP_MS)
    assert scheduled("@daily")[0].spec.timing == Timing("@daily", timezone="UTC")
    assert scheduled(timedelta(minutes=5))[0].spec.timing == Timing(every_ms=300_000, timezone="UTC")
    assert scheduled(None) == ()


def test_where_it_is_written_is_told():
    assert scheduled("@daily", function=typed(Report))[0].handler.endswith("test_schedules.typed.<locals>.send")
    assert scheduled("@daily")[0].handler == ""


def test_everything_that_can_be_said():
    when = datetime(2027, 1, 1, tzinfo=timezone(timedelta(hours=1)))
    (found,) = scheduled(
        Schedule(
            "0 3 * * *",
            timezone="Asia/Tokyo",
            payload={"to": "é"},
            priority="low",
            overlap="buffer_one",
            while_open="skip",
            catch_up_window=timedelta(0),
            pause_on_failure=True,
            jitter=1.5,
            start_time=when,
            end_time=when + timedelta(days=30),
            description="Every night.",
            tenant="acme",
            schedule_id="nightly",
        ),
        "Europe/Berlin",
    )
    start = round(when.timestamp() * 1000)
    assert found.key == ScheduleKey("acme", "nightly")
    assert found.spec == ScheduleSpec(
        "report",
        Timing("0 3 * * *", 0, "Asia/Tokyo", start, start + 30 * 86_400_000, 1_500),
        '{"to":"é"}'.encode(),
        Priority.LOW,
        Overlap.BUFFER_ONE,
        WhileOpen.SKIP,
        0,
        True,
        "Every night.",
    )
    (found,) = scheduled(Schedule(interval=90, priority=Priority.HIGH, overlap=Overlap.ALLOW))
    assert (found.spec.timing.every_ms, found.spec.priority, found.spec.overlap) == (90_000, Priority.HIGH, Overlap.ALLOW)


def test_a_handler_may_have_several():
    found = scheduled(["@daily", Schedule("@hourly", schedule_id="hourly"), Schedule("@daily", tenant="acme")], "Europe/Berlin")
    assert [one.key for one in found] == [("default", "report"), ("default", "hourly"), ("acme", "report")]
    assert {one.spec.timing.timezone for one in found} == {"Europe/Berlin"}


def test_a_payload_may_be_an_object_and_fits_the_type_of_the_handler():
    assert scheduled(Schedule("@daily", payload=Mail("ada@x")), name="mail", function=typed(Mail))[0].spec.payload_json == b'{"to":"ada@x"}'
    assert scheduled(Schedule("@daily", payload=Report(days=7)), function=typed(Report))[0].spec.payload_json == b'{"days":7}'
    assert scheduled("@daily", function=typed(Report))[0].spec.payload_json == b"{}"


def test_one_that_has_ended_does_not_hinder_a_worker_that_starts():
    """Code that started yesterday starts today."""
    ended = datetime(2020, 6, 1, tzinfo=UTC)
    assert scheduled(Schedule("@daily", end_time=ended))[0].spec.timing.end_at == 1_590_969_600_000
    over = Schedule("0 3 1 1 *", start_time=datetime(2020, 1, 1, tzinfo=UTC), end_time=datetime.now(UTC) + timedelta(seconds=5))
    assert scheduled(over)


DEEP: dict = {}
for _ in range(250):
    DEEP = {"a": DEEP}

NAMED = "the schedule 'report' of the handler of 'report'"


@pytest.mark.parametrize(
    ("schedule", "zone", "says"),
    [
        (None, "Europe/Berlin", "has a timezone but no schedule; add one, for example schedule='0 3 * * *'"),
        ("@daily", "", "timezone must be the name of a time zone, for example 'Europe/Berlin', not ''"),
        ("@daily", UTC, "timezone must be the name of a time zone"),
        ("@daily", "Europe/Berln", f'{NAMED}: the time zone "Europe/Berln" is unknown (did you mean Europe/Berlin?)'),
        ("0 25 * * *", None, f"{NAMED}: "),
        ("", None, "has neither cron nor interval; say when it runs by one"),
        ("0 3 30 2 *", None, "the month 2 has no day 30"),
        (5, None, "schedule must be a cron expression such as '0 3 * * *', a timedelta, a Schedule(...), or a list of these, not 5"),
        (["@daily", None], None, "or a list of these, not None"),
        ([], None, "the list of schedules of the handler of 'report' is empty; leave the option out"),
        (["@daily", "@hourly"], None, "two schedules of the handler of 'report' are called 'report'; give each a name of its own"),
        (timedelta(0), None, f"interval of {NAMED} must be from 1 to 315,619,200 seconds, not datetime.timedelta(0)"),
        (timedelta(days=4_000), None, "interval of"),
        (Schedule("@daily", interval=5), None, "has both cron and interval"),
        (Schedule(), None, "has neither cron nor interval"),
        (Schedule(5), None, "cron of the schedule 'report' of the handler of 'report' must be a text, not 5"),
        (
            Schedule(interval="5m"),
            None,
            "interval of the schedule 'report' of the handler of 'report' must be seconds or a timedelta, not '5m'",
        ),
        (Schedule(interval=True), None, "must be seconds or a timedelta, not True"),
        (Schedule(interval=float("nan")), None, "must be seconds or a timedelta, not nan"),
        (Schedule("@daily", jitter=-1), None, f"jitter of {NAMED} must be from 0 to 86,400 seconds, not -1"),
        (Schedule("@hourly", jitter=3600), None, "the jitter must be shorter than the time from run to run"),
        (Schedule("@daily", catch_up_window=timedelta(days=400)), None, "catch_up_window of"),
        (Schedule("@daily", overlap="WAIT"), None, f"overlap of {NAMED} must be one of SKIP, BUFFER_ONE, ALLOW, not 'WAIT'"),
        (Schedule("@daily", while_open=None), None, "while_open of"),
        (Schedule("@daily", priority=1), None, f"priority of {NAMED} must be one of HIGH, NORMAL, LOW, not 1"),
        (Schedule("@daily", pause_on_failure=1), None, "must be True or False, not 1"),
        (Schedule("@daily", start_time=datetime(2027, 1, 1)), None, "must be a datetime with a time zone"),  # noqa: DTZ001 - the mistake
        (Schedule("@daily", end_time="tomorrow"), None, "end_time of"),
        (
            Schedule("@daily", start_time=datetime(2027, 1, 2, tzinfo=UTC), end_time=datetime(2027, 1, 1, tzinfo=UTC)),
            None,
            "is not after its start",
        ),
        (Schedule("@daily", timezone=UTC), None, f"timezone of {NAMED} must be a text"),
        (Schedule("@daily", description="two\nlines"), None, f"description of {NAMED} must be one line of at most 500 characters"),
        (Schedule("@daily", description="x" * 501), None, "description of"),
        (Schedule("@daily", schedule_id="Nightly"), None, "schedule_id of the schedule 'Nightly' of the handler of 'report' must match"),
        (Schedule("@daily", schedule_id=5), None, "schedule_id of the schedule 5 of"),
        (Schedule("@daily", tenant=""), None, "tenant of"),
        (Schedule("@daily", payload=[]), None, "must be a dictionary or an object of the type of the handler's payload, not []"),
        (Schedule("@daily", payload={"a": {1, 2}}), None, "cannot be written as JSON"),
        (Schedule("@daily", payload={"a": float("nan")}), None, "cannot be written as JSON"),
        (Schedule("@daily", payload={"a": "\ud800"}), None, "cannot be written as JSON"),
        (Schedule("@daily", payload=DEEP), None, "is nested more than 200 levels deep"),
        (Schedule("@daily", payload={"a": "x" * 1_048_576}), None, "bytes of JSON, at most 1,048,576 are taken"),
        (Schedule("@daily", payload=Mail("ada@x")), None, "is one of the job type 'mail'; give it one of 'report'"),
    ],
)
def test_what_cannot_be_meant(schedule, zone, says):
    """It is said where the handler is defined, and what to write instead."""
    with pytest.raises(HandlerMistake) as caught:
        scheduled(schedule, zone)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("payload", "says"),
    [({}, "is no Mail: $.to: it is missing"), ({"to": 5}, "is no Mail: $.to: expected a string, got an integer")],
    ids=["missing", "of another type"],
)
def test_a_payload_that_its_handler_would_refuse(payload, says):
    """Also the empty one, which a schedule has if it says nothing."""
    with pytest.raises(HandlerMistake) as caught:
        scheduled(Schedule("@daily", payload=payload), name="mail", function=typed(Mail))
    assert says in str(caught.value)


MINE = """
from sickbay import Job, Schedule, handler

@handler("report", schedule={schedule})
def report(job: Job) -> None: ...

@handler("poll", schedule={other})
def poll(job: Job) -> None: ...
"""


def load(folder: Path, monkeypatch, **options):
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    name = f"mine_{len(sys.modules)}"
    (folder / f"{name}.py").write_text(MINE.format(**{"schedule": None, "other": None, **options}))
    return name, load_handlers(name)


def test_a_mistake_names_file_and_line(tmp_path, monkeypatch):
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, monkeypatch, schedule='"61 * * * *"')
    assert ".py:4: " in str(caught.value)
    assert NAMED in str(caught.value)


def test_two_handlers_may_not_have_schedules_of_one_name(tmp_path, monkeypatch):
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, monkeypatch, schedule='"@daily"', other='Schedule("@daily", schedule_id="report")')
    assert "two schedules are called 'report', at " in str(caught.value)
    assert ".py:4 and at " in str(caught.value)
    name, found = load(tmp_path, monkeypatch, schedule='"@daily"', other='"@daily"')
    assert found["poll"].schedules[0].handler == f"{name}.poll"


def test_a_program_without_schedules_needs_nothing_for_them():
    """Not even time: neither cronsim nor the database of time zones is imported."""
    script = "import sys, sickbay; {}; print(*sys.modules)"
    define = "sickbay.handler('a', schedule={})(lambda job: None)"
    plain, scheduled = (
        subprocess.run([sys.executable, "-c", script.format(define.format(one))], capture_output=True, text=True, check=True).stdout.split()
        for one in ("None", "'@daily'")
    )
    assert {"cronsim", "zoneinfo"}.isdisjoint(plain)
    assert "cronsim" in scheduled


def test_a_job_of_a_schedule_is_an_ordinary_one():
    """The decorated function is what it was."""

    def report(job: Job) -> str:
        return job.job_id

    assert handler("report", schedule="@daily")(report) is report
