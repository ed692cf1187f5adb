"""The stretches of local time are those of the zones, and no zone changes too often for them to be found."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from importlib import resources
from itertools import pairwise
from struct import calcsize, unpack_from
from zoneinfo import ZoneInfo, available_timezones

from hypothesis import given
from hypothesis import strategies as st

from sickbay.domain.zone_offsets import DAY, EPOCH, LAST_YEAR, start_of, stretches

ZONES = sorted(available_timezones() - {"localtime", "Factory"})
YEAR_2100 = 4_102_444_800
NEVER_SO_SOON = 3 * DAY


def offset(zone, at):
    return int((EPOCH + timedelta(seconds=at)).astimezone(ZoneInfo(zone)).utcoffset().total_seconds())


@given(st.sampled_from(ZONES), st.integers(0, YEAR_2100))
def test_the_stretch_of_an_instant_has_its_offset(zone, at):
    """And its ends are where that changes, or a year ends."""
    first, second = next(pairwise(stretches(zone, at)))
    assert first.start <= at < first.end == second.start
    assert offset(zone, at) == first.offset == offset(zone, first.start) == offset(zone, first.end - 1)
    is_new_year = (EPOCH + timedelta(seconds=first.end)).strftime("%m%d%H%M%S") == "0101000000"
    assert is_new_year or offset(zone, first.end) != first.offset


def test_they_end_with_the_calendar():
    """No year after has all of its local times."""
    last = list(stretches("Pacific/Kiritimati", start_of(LAST_YEAR) + 5))
    assert [stretch.end for stretch in last] == [start_of(LAST_YEAR + 1)]


def test_no_zone_changes_twice_within_three_days():
    """The search for changes looks every three days: a new edition of the database could need another step."""
    close = []
    for zone in ZONES:
        changes = [at for at in changes_of(zone) if at >= 0]
        close += [(zone, later - at) for at, later in pairwise(changes) if later - at <= NEVER_SO_SOON]
    assert not close


def changes_of(zone):
    """The instants at which the offset changes, from the zone's file (RFC 9636): the second, 64-bit block."""
    package, _, name = f"tzdata.zoneinfo.{zone.replace('/', '.')}".rpartition(".")
    data = resources.files(package).joinpath(name).read_bytes()
    begin = size_of(data, 0, 4)
    _, _, _, times, types, _ = counts(data, begin)
    at = begin + 44
    instants = unpack_from(f">{times}q", data, at)
    kinds = unpack_from(f">{times}B", data, at + 8 * times)
    offsets = [unpack_from(">lBB", data, at + 9 * times + 6 * index)[0] for index in range(types)]
    before = offsets[0]
    for instant, kind in zip(instants, kinds, strict=True):
        if offsets[kind] != before:
            yield instant
        before = offsets[kind]


def counts(data, at):
    return unpack_from(">6l", data, at + 20)


def size_of(data, at, width):
    """Where the block that begins at `at` ends."""
    utc, std, leaps, times, types, letters = counts(data, at)
    return at + 44 + times * (width + 1) + types * calcsize(">lBB") + letters + leaps * (width + 4) + std + utc


def test_zones_are_found_without_those_of_the_system():
    """Images have no /usr/share/zoneinfo: the package tzdata has them."""
    program = (
        "from sickbay.domain.schedule import ScheduleSpec, Timing\n"
        "from sickbay.domain.schedule_checks import check_spec\n"
        "from sickbay.domain.schedule_times import next_times\n"
        "import zoneinfo\n"
        "assert not zoneinfo.TZPATH, zoneinfo.TZPATH\n"
        "timing = Timing('30 2 * * *', timezone='Europe/Berlin')\n"
        f"check_spec(ScheduleSpec('a', timing), {NOW})\n"
        f"print(next_times(timing, {NOW}, 1))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], env={"PYTHONTZPATH": ""}, capture_output=True, text=True, check=True)
    assert done.stdout == f"[{int(datetime(2027, 3, 28, 1, tzinfo=UTC).timestamp()) * 1_000}]\n"


NOW = int(datetime(2027, 3, 28, 0, tzinfo=UTC).timestamp()) * 1_000
