"""Files of schedules: what they say, what is wrong with them, and that what is exported says the same."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sickbay.jobs.v1.job_pb2 import PRIORITY_HIGH
from sickbay.schedules.v1.schedule_pb2 import OVERLAP_BUFFER_ONE, WHILE_OPEN_SKIP, Schedule, ScheduleSpec
from sickbay_cli.schedule_file import FileMistakes, parse_file
from sickbay_cli.schedule_text import canonical, differences, table
from tests.support.cli_services import schedule

WHOLE = """
[schedules.nightly]
type = "report"
cron = "0 3 * * *"
timezone = "Europe/Berlin"
payload = { of = "night", parts = [1, 2] }
priority = "high"
start = 2027-01-01T08:00:00+01:00
end = 2028-01-01 00:00:00Z
jitter = "90s"
overlap = "buffer_one"
catch_up = "1h30m"
pause_on_failure = true
while_open = "skip"
description = "every night"

[tenants.acme.schedules.nightly]
type = "ping"
every = "30s"
payload = '{"n": 1.0}'
"""


def test_a_whole_file():
    file = parse_file(WHOLE.encode(), "default")
    first, second = file.schedules
    assert (first.tenant, first.schedule_id, first.where) == ("default", "nightly", "schedules.nightly")
    assert (second.tenant, second.schedule_id, second.where) == ("acme", "nightly", "tenants.acme.schedules.nightly")
    assert file.tenants == ("default", "acme")
    spec = first.spec
    assert (spec.job_type, spec.cron, spec.timezone, spec.payload_json) == (
        "report",
        "0 3 * * *",
        "Europe/Berlin",
        '{"of":"night","parts":[1,2]}',
    )
    assert (spec.priority, spec.overlap, spec.while_open, spec.pause_on_failure) == (
        PRIORITY_HIGH,
        OVERLAP_BUFFER_ONE,
        WHILE_OPEN_SKIP,
        True,
    )
    assert (spec.start_time.ToJsonString(), spec.end_time.ToJsonString()) == ("2027-01-01T07:00:00Z", "2028-01-01T00:00:00Z")
    assert (spec.jitter.seconds, spec.catch_up_window.seconds, spec.description) == (90, 5400, "every night")
    assert (second.spec.interval.seconds, second.spec.payload_json) == (30, '{"n": 1.0}')


@pytest.mark.parametrize(
    ("text", "own", "tenants"),
    [
        ("", "default", ("default",)),
        ("[tenants.acme]", "default", ("acme",)),
        ("[schedules]\n[tenants.acme]", "b", ("b", "acme")),
    ],
)
def test_the_tenants_that_a_file_is_about(text: str, own: str, tenants: tuple[str, ...]):
    assert parse_file(text.encode(), own).tenants == tenants


MISTAKES = [
    ("x", "the file is not TOML: Expected '=' after a key in a key/value pair (at end of document)"),
    ("[schedule.a]", "line 1: schedule: unknown table; schedules are [schedules.NAME], or [tenants.TENANT.schedules.NAME]"),
    ("schedules = 1", "line 1: schedules: write a table for each schedule, as [schedules.NAME]"),
    ("[schedules]\na = 1", "line 2: schedules.a: write a table, [schedules.a], with keys such as type and cron"),
    ("[schedules.Nightly]", "did you mean nightly?"),
    ('[schedules.a.b]\ntype = "x"\ncron = "x"', 'write [schedules."a.b"]'),
    ("[tenants.acme]\nx = 1", "line 2: tenants.acme.x: unknown key; write [tenants.acme.schedules.NAME]"),
    ('[schedules.a]\ncron = "@daily"', 'line 1: schedules.a: the type of its jobs is missing; write type = "report"'),
    ('[schedules.a]\ntype = "x"', 'schedules.a: nothing says when it runs: write cron = "0 3 * * *", or every = "10m"'),
    ('[schedules.a]\ntype = "x"\ncron = "1"\nevery = "1m"', "two say when it runs, cron and every; keep one"),
    ('[schedules.a]\ntype = "x"\ncrn = "1"\ncron = "1"', "line 3: schedules.a.crn: unknown key; did you mean cron?"),
    ('[schedules.a]\ntype = "x"\nzzz = "1"\ncron = "1"', "line 3: schedules.a.zzz: unknown key; known are type, cron, every"),
    ('[schedules.a]\n\ntype = 1\ncron = "1"', "line 3: schedules.a.type: write a job type in quotes (it is 1)"),
    ('[schedules.a]\ntype = "x"\nevery = 10', 'line 3: schedules.a.every: write a duration like "30s", "10m", "1h30m" or "1d" (it is 10)'),
    ('[schedules.a]\ntype = "x"\nevery = "10"', "schedules.a.every: write a duration like"),
    (
        '[schedules.a]\ntype = "x"\nevery = "1m"\nstart = 2027-01-01T08:00:00',
        "schedules.a.start: write a time with its offset, such as 2027-01-01T08:00:00+01:00, without quotes (it is '2027-01-01T08:00:00')",
    ),
    ('[schedules.a]\ntype = "x"\nevery = "1m"\nstart = "2027-01-01T08:00:00Z"', "schedules.a.start: write a time with its offset"),
    ('[schedules.a]\ntype = "x"\nevery = "1m"\nstart = 1969-01-01T08:00:00Z', "in the years 1970 to 9999"),
    ('[schedules.a]\ntype = "x"\nevery = "1m"\noverlap = "no"', 'schedules.a.overlap: write one of "skip", "buffer_one", "allow" (it is'),
    (
        '[schedules.a]\ntype = "x"\nevery = "1m"\npause_on_failure = "yes"',
        "a.pause_on_failure: write true or false (it is 'yes')",
    ),
    ('[schedules.a]\ntype = "x"\nevery = "1m"\npayload = "[]"', "schedules.a.payload: a payload must be a JSON object"),
    ('[schedules.a]\ntype = "x"\nevery = "1m"\npayload = [1]', "schedules.a.payload: write a table"),
    ('[schedules.a]\ntype = "x"\nevery = "1m"\npayload = { at = 2027-01-01 }', "schedules.a.payload: JSON has no dates"),
    ('[schedules.a]\ntype = "x"\nevery = "1m"\npayload = { at = nan }', "no infinite numbers"),
    ('[schedules.a]\ntype = "x"\nevery = "1m"\n[schedules.a.payload]\nat = nan', "line 4: schedules.a.payload: JSON has"),
]


@pytest.mark.parametrize(("text", "words"), MISTAKES, ids=[str(number) for number in range(len(MISTAKES))])
def test_a_mistake_says_where_it_is_and_what_to_write(text: str, words: str):
    with pytest.raises(FileMistakes) as raised:
        parse_file(text.encode(), "default")
    (mistake,) = raised.value.mistakes
    assert words in mistake


def test_all_mistakes_are_told():
    with pytest.raises(FileMistakes) as raised:
        parse_file(b"[schedules.a]\njitter = 1\nend = 2\n[schedules.b]\n", "default")
    assert len(raised.value.mistakes) == 6
    with pytest.raises(FileMistakes, match="not UTF-8 at byte 1"):
        parse_file(b"#\xff", "default")


def test_an_export_has_what_is_not_the_default():
    assert (
        table(schedule(payload="{}"), "default") == '[schedules.nightly]\ntype = "report"\ncron = "0 3 * * *"\ntimezone = "Europe/Berlin"\n'
    )
    of_acme = schedule("a.b", payload='{"n": 1}')
    of_acme.tenant = "acme"
    assert table(of_acme, "default").startswith('[tenants.acme.schedules."a.b"]\n')
    assert table(of_acme, "acme").startswith('[schedules."a.b"]\n')
    of_acme.spec.start_time.FromJsonString("2027-07-01T06:00:00Z")
    assert "start = 2027-07-01T08:00:00+02:00\n" in table(of_acme, "acme")


@pytest.mark.parametrize(
    ("payload", "line"),
    [
        ('{"to": "ada", "n": [1, true, {}]}', 'payload = { to = "ada", n = [1, true, {}] }'),
        ('{"a": null}', """payload = '{"a": null}'"""),
        ('{"n": 1.10}', """payload = '{"n": 1.10}'"""),
        ('{"n": 12345678901234567890}', """payload = '{"n": 12345678901234567890}'"""),
        ('{"it\'s": null}', 'payload = "{\\"it\'s\\": null}"'),
    ],
)
def test_a_payload_is_a_table_if_that_says_the_same(payload: str, line: str):
    assert line in table(schedule(payload=payload), "default").splitlines()


def test_what_differs():
    old = schedule(payload='{"a": 1, "b": 2}').spec
    new = ScheduleSpec()
    new.CopyFrom(old)
    new.payload_json = '{"b":2,"a":1}'
    assert differences(old, new) == []
    new.payload_json = '{"b":2,"a":1.0}'
    new.cron = "@daily"
    new.ClearField("timezone")
    for spec in (old, new):
        spec.start_time.FromMilliseconds(0)
    assert differences(old, new) == [
        ("cron", '"0 3 * * *"', '"@daily"'),
        ("timezone", '"Europe/Berlin"', ""),
        ("payload", "{ a = 1, b = 2 }", "{ b = 2, a = 1.0 }"),
    ]
    assert [key for key, _, _ in differences(old, new, with_payload=False)] == ["cron", "timezone"]


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(payload=st.dictionaries(TEXT, JSON, max_size=4), text=TEXT, start=st.integers(0, 253_402_300_799_999), jitter=st.integers(0, 10**10))
def test_what_is_exported_says_the_same(payload: dict[str, object], text: str, start: int, jitter: int):
    """Whatever is in it: a file that was exported changes nothing when it is applied."""
    one: Schedule = schedule(payload=json.dumps(payload, ensure_ascii=False), description=text, cron=text or "x")
    one.spec.start_time.FromMilliseconds(start)
    one.spec.jitter.FromMilliseconds(jitter)
    (read,) = parse_file(table(one, "default").encode(), "default").schedules
    assert differences(one.spec, read.spec) == []
    assert canonical(read.spec.payload_json or "{}") == canonical(one.spec.payload_json)
    assert (read.spec.start_time, read.spec.jitter) == (one.spec.start_time, one.spec.jitter)
    assert (read.spec.description, read.spec.cron) == (one.spec.description, one.spec.cron)
