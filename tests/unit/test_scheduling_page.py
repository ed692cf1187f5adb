"""What docs/scheduling.md says about times is what the code finds, and its Python is Python."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import pytest

from sickbay.domain.schedule import Timing
from sickbay.domain.schedule_times import in_words, next_times, times_between

PAGE: Final = (Path(__file__).parents[2] / "docs" / "scheduling.md").read_text("utf-8")
ZONE: Final = "Europe/Berlin"


def section(title: str) -> str:
    """What is below a heading, up to the next one."""
    return re.split(r"^#+ ", PAGE.partition(f"# {title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def rows(title: str) -> list[list[str]]:
    """The cells of the table in a section, without its head."""
    lines = re.findall(r"^\| (.*) \|$", section(title), re.MULTILINE)
    return [line.split(" | ") for line in lines[1:]]


EXPRESSIONS: Final = rows("Cron expressions")
NIGHTS: Final = rows("Daylight saving")
MOMENT: Final = re.search(r"first after Mon (2026-11-30 12:00) in Europe/Berlin", section("Cron expressions"))


def ms(local: datetime) -> int:
    """A local time of the page's zone."""
    return int(local.replace(tzinfo=ZoneInfo(ZONE)).timestamp() * 1_000)


def test_the_page_has_these_tables():
    assert (len(EXPRESSIONS) > 12, len(NIGHTS)) == (True, 6)
    assert MOMENT is not None


@pytest.mark.parametrize("row", EXPRESSIONS, ids=lambda row: row[0])
def test_an_expression_runs_when_the_page_says(row: list[str]):
    """All spellings of one row mean the same."""
    spellings, _, first = row
    now = ms(datetime.fromisoformat("2026-11-30 12:00"))
    for cron in re.findall(r"`([^`]+)`", spellings):
        assert in_words(next_times(Timing(cron=cron, timezone=ZONE), now, 1), ZONE) == first


@pytest.mark.parametrize("row", NIGHTS, ids=lambda row: " ".join(row[:2]))
def test_a_night_in_which_clocks_change_is_as_the_page_says(row: list[str]):
    """All times of that date, in order."""
    cron, night, expected = row[0].strip("`"), row[1], row[2]
    day = datetime.fromisoformat(night[:10])
    found = times_between(Timing(cron=cron, timezone=ZONE), ms(day), ms(day + timedelta(days=1)), 100)
    assert [word[15:] for word in in_words(found, ZONE).split(", ")] == expected.split(", ")
    offsets = {(day + timedelta(hours=hour)).replace(tzinfo=ZoneInfo(ZONE)).utcoffset() for hour in (0, 12)}
    assert len(offsets) == 2


def test_both_days_of_an_expression_are_one_of_them_enough():
    """The example of the text: every Friday and every 13th."""
    assert "`0 12 13 * FRI`" in PAGE
    found = next_times(Timing(cron="0 12 13 * FRI", timezone=ZONE), ms(datetime.fromisoformat("2026-12-05 00:00")), 2)
    assert in_words(found, ZONE) == "Fri 2026-12-11 12:00 CET, Sun 2026-12-13 12:00 CET"


def test_its_python_is_python():
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 5
    for block in blocks:
        compile(block, "scheduling.md", "exec")
