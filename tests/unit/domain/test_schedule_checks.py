"""Every mistake in a schedule gets one sentence that says what to write instead, and shows the next five times where they can be read."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sickbay.domain.cron import ALIASES, is_cron
from sickbay.domain.cron_advice import mistake_in
from sickbay.domain.errors import ErrorReason, InvalidArgument
from sickbay.domain.schedule import MAX_CATCH_UP_MS, MAX_JITTER_MS, ScheduleSpec, Timing
from sickbay.domain.schedule_checks import MAX_EVERY_MS, check_spec
from sickbay.domain.schedule_times import LATEST_MS, count_between, describe, next_time, times_between
from tests.support.cron_expressions import FIVE, SIX

NOW = int(datetime(2026, 11, 30, 10, tzinfo=UTC).timestamp() * 1_000)
DAY = 86_400_000
DAILY = (
    '; the next times of "0 3 * * *" are Tue 2026-12-01 03:00 UTC, Wed 2026-12-02 03:00 UTC, Thu 2026-12-03 03:00 UTC, '
    "Fri 2026-12-04 03:00 UTC, Sat 2026-12-05 03:00 UTC"
)
BERLIN = DAILY.replace("UTC", "CET")
COMMAND = "has a command at its end; what runs is the job type; write only its times"
FIVE_FIELDS = 'write five fields (minute, hour, day of month, month, day of week), for example "0 3 * * *" for every day at 03:00'


def sentence(timing, **policies):
    """What is wrong."""
    with pytest.raises(InvalidArgument) as caught:
        check_spec(ScheduleSpec("report", timing, **policies), NOW)
    assert caught.value.reason is ErrorReason.INVALID_SCHEDULE
    return str(caught.value)


def refusal(timing, now):
    """The error, None if there is none."""
    try:
        check_spec(ScheduleSpec("report", timing), now)
    except InvalidArgument as error:
        return error
    return None


def check(timing, **policies):
    check_spec(ScheduleSpec("report", timing, **policies), NOW)


@pytest.mark.parametrize(
    "cron",
    [
        *("0 3 * * *", " 0  3 * * * ", "*/5 * * * * *", "@daily", "@Hourly", "0 3 * * mon-fri", "0 3 * jan *", "0 3 L * *", "0 3 LW * *"),
        *("0 3 * * 5L", "0 3 * * FRI#2", "0 3 * * 0", "0 3 * * 7", "0 3 * JUL *", "5/20 * * * *", "0 3 29 2 *", "0 3 29 2 */7"),
        *("0 3 13 * FRI", "0,30 8-18/2 * * *"),
    ],
)
def test_a_good_expression_is_accepted(cron):
    """In any zone, and it has words."""
    for zone in ("UTC", "Europe/Berlin", "EST5EDT", "Etc/GMT-2", "CET"):
        check(Timing(cron, timezone=zone))
        assert "; next: " in describe(Timing(cron, timezone=zone), NOW)


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("0 25 * * *", 'in "0 25 * * *" 25 is not an hour; the hour is 0 to 23, for example "0 3 * * *"' + DAILY),
        ("0 3 * *", f'"0 3 * *" has 4 fields; {FIVE_FIELDS}'),
        ("daily", f'"daily" has 1 field; {FIVE_FIELDS}'),
        ("   ", f"the cron expression is empty; {FIVE_FIELDS}"),
        ("x" * 300, "the cron expression is longer than 256 characters; use ranges and steps, for example 0-30/2"),
        ("0 3 * * *\n0 4 * * *", f"has a line break or another control character; a schedule has one expression; {FIVE_FIELDS}"),
        ("@reboot", "@reboot is not a time; submit the job where your program starts, or write when it is to run, for example"),
        ("0 3 * * * /usr/bin/backup --all", f'{COMMAND}, for example "0 3 * * *"' + DAILY),
        ("0 3 * * * root /usr/bin/backup", f'{COMMAND}, for example "0 3 * * *"' + DAILY),
        ("0 3 * * * run", f'{COMMAND}, for example "0 3 * * *"' + DAILY),
        ("@daily /bin/true", f'{COMMAND}, for example "@daily"'),
        ("0 0 3 * * * echo hello", f'{COMMAND}, for example "0 0 3 * * *"'),
        ("CRON_TZ=Europe/Berlin 0 3 * * *", "the time zone has a field of its own; set the time zone of the schedule to Europe/Berlin"),
        ("TZ=Europe/Berlin 0 3 * * *", BERLIN),
        ("03:00", '"03:00" is a time of day; write it as minute and hour, for example "0 3 * * *"' + DAILY),
        ("cron(0 3 * * ? *)", "is in the format of Amazon EventBridge; " + FIVE_FIELDS),
        ("@dayly", 'is unknown; use one of @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly, for example "@daily"'),
        ("0 0 12 * * ?", 'because in Quartz 1 is Sunday and here it is Monday, for example "0 0 12 * * *"'),
        ("0 15 10 ? * MON-FRI 2027", 'for example "0 15 10 * * MON-FRI"'),
        ("0 0 3 * * * 2027", 'a year; leave it out, and set an end if it is to run in one year only, for example "0 0 3 * * *"'),
        ("60 * * * *", '60 is not a minute; the minute is 0 to 59, for example "0 * * * *"'),
        ("0 24 * * *", '24 is not an hour; the hour is 0 to 23, for example "0 0 * * *"'),
        ("0 3 0 * *", '0 is not a day of the month; the day of the month is 1 to 31, for example "0 3 1 * *"'),
        ("0 3 * 13 *", "13 is not a month; the month is 1 to 12"),
        ("0 3 * * 8", "8 is not a day of the week; the day of the week is 0 to 7"),
        ("60 0 3 * * *", "60 is not a second; the second is 0 to 59"),
        ("0 3 * * monday", 'MONDAY is not a day of the week; write MON, for example "0 3 * * MON"'),
        ("0 3 * january *", 'JANUARY is not a month; write JAN, for example "0 3 * JAN *"'),
        ("0 3 * * FOO", '"FOO" is not a day of the week; the day of the week is 0 to 7, or SUN to SAT'),
        ("*/90 * * * *", "*/90 is only a minute 0; a step begins anew with each hour; for other spans leave out the expression"),
        ("0 5/30 * * *", "5/30 is only an hour 5; a step begins anew with each day"),
        ("*/0 * * * *", '*/0 has a step of 0; write a step of 1 or more, for example "* * * * *"'),
        ("*/x * * * *", '*/X has no number after /; write */2 for every second one, for example "*/2 * * * *"'),
        ("5-5/10 * * * *", "5-5/10 is a range of one number with a step"),
        ("0 22-4 * * *", 'the range 22-4 goes backwards; write 22-23,0-4, for example "0 22-23,0-4 * * *"'),
        ("0 23-0 * * *", "write 23,0, for example"),
        ("0 3 * * FRI-MON", 'the range FRI-MON goes backwards; write 5-7,1, for example "0 3 * * 5-7,1"'),
        ("0 3 * * SAT-SUN", "write 6-7, for example"),
        ("0 3 * NOV-FEB *", "write 11-12,1-2, for example"),
        ("-5 * * * *", "the range -5 has no start; write two numbers, such as 1-5"),
        ("5- * * * *", "the range 5- has no end; write two numbers, such as 1-5"),
        ("0 3,, * * *", "there is a comma too many where the hour is; write numbers with one comma in between, such as 1,2"),
        ("0 3 15W * *", "15W (the nearest weekday) is not supported; write a day, or LW for the last weekday of the month"),
        ("0 3 L-3 * *", "L-3 (days before the last one) is not supported; write a day, or L for the last day of the month"),
        ("0 3 L/2 * *", "L/2 has a step; L is one day; leave out the step"),
        ("0 3 * * L", 'L has no day before it; write 5L for the last Friday of a month, for example "0 3 * * 5L"'),
        ("0 3 * * FRIL", "FRIL has no number from 0 to 7 before L; write 5L for the last FRI of a month, for example"),
        ("0 L * * *", "L is not an hour; write it as the day of the month: L is the last one"),
        ("0 3 * * 5#6", '5#6 has no number from 1 to 5 after #; write 5#1 for the first one of a month, for example "0 3 * * 5#1"'),
        ("0 3 5#2 * *", "5#2 stands where the day of the month is; write it as the last field, the day of the week"),
        ("H 3 * * *", "H is Jenkins' spread; write a number as the minute, and set a jitter"),
        ("0 3 31 2 *", 'the month 2 has no day 31; write a day that it has, or L for its last one, for example "0 3 L 2 *"'),
        ("0 3 31 APR,jun *", "the month APR,jun has no day 31"),
        ("0 3 */15 * 1#2", 'never runs in UTC: no day and time match all of its fields; write for example "0 3 * * *"'),
        ("٣ 3 * * *", '"٣" is not a minute'),
    ],
)  # fmt: skip
def test_a_wrong_expression_is_explained(cron, words):
    """For people who come from crontab, Quartz, Jenkins, Go and Amazon; with the times of what is proposed."""
    found = sentence(Timing(cron))
    assert words in found
    assert "\n" not in found
    if proposal := re.search(r'for example "([^"]+)"', found):
        check(Timing(proposal[1]))


@pytest.mark.parametrize(
    ("cron", "seconds", "first"), [("@every 5m", "300s", "10:05"), ("@every 1h30m", "5400s", "10:30"), ("@EVERY 90s", "90s", "10:01:30")]
)
def test_an_interval_of_go_is_one_of_ours(cron, seconds, first):
    """With its next times."""
    found = sentence(Timing(cron))
    assert f'is an interval; leave out the expression, and set the interval to "{seconds}"; the next times every ' in found
    assert f" are Mon 2026-11-30 {first} UTC, " in found
    assert 'set the interval, for example to "300s"' in sentence(Timing("@every now and then"))


@pytest.mark.parametrize(
    ("zone", "words"),
    [
        ("Europe/berlin", 'the time zone "Europe/berlin" is unknown (did you mean Europe/Berlin?)' + BERLIN),
        ("berlin", "(did you mean Europe/Berlin?)" + BERLIN),
        ("Europe/Berlim", "(did you mean Europe/Berlin?)" + BERLIN),
        ("America/New York", "(did you mean America/New_York?)"),
        ("CEST", "(did you mean Europe/Berlin?)"),
        ("PST", "(did you mean America/Los_Angeles?)"),
        ("utc", "(did you mean UTC?)" + DAILY),
        ("UTC+2", "(did you mean Etc/GMT-2, which is UTC+2?)"),
        ("-05:00", "(did you mean Etc/GMT+5, which is UTC-5?)"),
        ("GMT+99", "use a name of the IANA time zone database, for example Europe/Berlin, or UTC" + DAILY),
        ("CET+1", 'the time zone "CET+1" is unknown; use a name of the IANA time zone database, for example Europe/Berlin, or UTC' + DAILY),
        ("+5:30", "use a name of the IANA time zone database"),
        ("", "the time zone is empty; use a name"),
        ("Europe", "use a name of the IANA time zone database"),
        ("localtime", "use a name of the IANA time zone database"),
        ("right/Europe/Berlin", "is unknown"),
        ("/etc/passwd", "use a name of the IANA time zone database"),
        ("../UTC", "is unknown"),
        ("Europe/Berlin\0", "is unknown"),
        ("x" * 500, "is unknown"),
    ],
)  # fmt: skip
def test_an_unknown_time_zone_is_explained(zone, words):
    """By the zone that was probably meant; names that mean this machine's zone, or count leap seconds, are none."""
    assert words in sentence(Timing("0 3 * * *", timezone=zone))


def test_either_an_expression_or_an_interval():
    """Not both, and not neither."""
    assert sentence(Timing()) == (
        'it is not said when the schedule runs; set a cron expression, for example "0 3 * * *" for every day at 03:00, '
        'or an interval, for example "300s"'
    )
    both = "a cron expression and an interval are two ways to say when it runs; leave out one of them"
    assert sentence(Timing("0 3 * * *", every_ms=5_000)) == both + DAILY
    for every_ms in (1, 999, -5, MAX_EVERY_MS + 1):
        assert 'the interval must be one second to ten years, for example "300s"' in sentence(Timing(every_ms=every_ms))
    for every_ms in (1_000, 1_500, MAX_EVERY_MS):
        check(Timing(every_ms=every_ms))


def test_it_must_run_between_its_start_and_its_end():
    """The sentence says which of them is wrong."""
    daily = {"cron": "0 3 * * *"}
    first = NOW + 17 * 3_600_000
    assert sentence(Timing(**daily, end_at=first)) == (
        "its end (Tue 2026-12-01 03:00 UTC) is not after its first time; set a later end or none" + DAILY
    )
    check(Timing(**daily, end_at=first + 1))
    assert "its end (Mon 2026-11-30 09:59:59 UTC) is in the past; set a later end or none" + DAILY in sentence(
        Timing(**daily, end_at=NOW - 1_000)
    )
    backwards = sentence(Timing(**daily, start_at=NOW + 2 * DAY, end_at=NOW + DAY))
    assert "its end (Tue 2026-12-01 10:00 UTC) is not after its start (Wed 2026-12-02 10:00 UTC)" in backwards
    assert 'the next times of "0 3 * * *" are Thu 2026-12-03 03:00 UTC' in backwards
    for wrong in ({"start_at": -1}, {"start_at": LATEST_MS}):
        assert "the start must be in the years 1970 to 9998, for example 2027-01-01T00:00:00Z" in sentence(Timing(**daily, **wrong))
    assert "the end must be in the years 1970 to 9998" in sentence(Timing(**daily, end_at=LATEST_MS))
    assert "the end must be in the years 1970 to 9998" in sentence(Timing(**daily, end_at=-1))


def test_jitter_is_shorter_than_the_time_from_run_to_run():
    """So that the jobs keep their order; whatever the date is."""
    check(Timing("*/5 * * * *", jitter_ms=299_999))
    assert 'the jitter must be shorter than the time from run to run ("300s"), for example "150s"; the next times of' in sentence(
        Timing("*/5 * * * *", jitter_ms=300_000)
    )
    check(Timing("0 3 * * *", jitter_ms=MAX_JITTER_MS - 1))
    check(Timing("0 3 * * 1", jitter_ms=MAX_JITTER_MS))
    check(Timing("0 3 29 2 *", jitter_ms=MAX_JITTER_MS))
    assert '("60s")' in sentence(Timing("0,59 * * * *", jitter_ms=60_000))
    assert '("3600s")' in sentence(Timing("0 0,23 * * *", jitter_ms=3_600_000))
    assert '("10s"), for example "5s"; the next times every 10 seconds are ' in sentence(Timing(every_ms=10_000, jitter_ms=10_000))
    for jitter_ms in (-1, MAX_JITTER_MS + 1):
        assert sentence(Timing("0 3 * * *", jitter_ms=jitter_ms)) == 'the jitter must be 0 to one day, for example "60s"' + DAILY


def test_policies_have_bounds():
    """The sentence shows the times all the same."""
    timing = Timing("0 3 * * *")
    for catch_up_ms in (-1, MAX_CATCH_UP_MS + 1):
        assert (
            sentence(timing, catch_up_ms=catch_up_ms) == 'the catch-up window must be 0 to 366 days, for example "86400s" for one' + DAILY
        )
    for description in ("a\nb", "x" * 501, "a\x00"):
        assert "the description must be one line of at most 500 characters" in sentence(timing, description=description)
    check(timing, description="Größe: 5 €", catch_up_ms=0)


TEXTS = (
    st.text("0123456789*/-,#LWLHJANMONFRI ?@:=", max_size=30)
    | st.lists(st.text("0123456789*/-,#LW", min_size=1, max_size=5), min_size=5, max_size=7).map(" ".join)
    | st.text(max_size=30)
    | st.sampled_from(sorted(ALIASES))
)


@given(TEXTS)
@example("0 3 * * 1#2/3")
@example("0 3 * * 5L/2")
@example("0 3 L,5/2 * *")
@example("0 3 * * MON-FRI/2")
@example("*/٣ * * * *")
@example("0 3 * * 5#٣")
@example("0 3 ٣W * *")
@example("@every 99999999999999999999d")
@example("TZ= 0 3 * * *")
@example("TZ=\ud800 0 3 * * *".encode("utf-8", "replace").decode())
def test_any_text_is_accepted_or_explained(text):
    """Never another error, always a sentence; and what is accepted has times and words."""
    timing = Timing(text)
    if error := refusal(timing, NOW):
        assert error.reason is ErrorReason.INVALID_SCHEDULE
        assert str(error).isprintable() or not text.isprintable()
        assert len(str(error)) < 1_000
    else:
        assert next_time(timing, NOW)
        assert describe(timing, NOW)


@given(FIVE | SIX)
def test_good_expressions_have_no_mistake(expression):
    """Those that mean something by construction are refused only if no month of theirs has such a day, or no day matches."""
    found = mistake_in(expression.text)
    assert (found is None) == is_cron(expression.text)
    assert found is None or "has no day" in found.what


@given(FIVE, st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe"]), st.integers(NOW, NOW + 400 * DAY))
def test_what_is_accepted_runs(expression, zone, now):
    """Within fifty years."""
    timing = Timing(expression.text, timezone=zone)
    if error := refusal(timing, now):
        assert "has no day" in str(error) or "never runs" in str(error)
        assert not is_cron(expression.text) or not count_between(timing, now, now + 50 * 365 * DAY)
    else:
        first = next_time(timing, now - 1)
        assert times_between(timing, now, first + 1, 5) == [first]
        assert first - now < timedelta(days=366 * 41) // timedelta(milliseconds=1)
