"""Times for people, tables on terminals and in pipes, and the small words."""

from __future__ import annotations

import pytest

from sickbay_cli.durations import parse_span, relative, span
from sickbay_cli.output import Column, count, details, line, plain, table

NOW = 1_700_000_000_000
COLUMNS = (Column("ID"), Column("STATE"), Column("AGE", least=60, right=True), Column("ERROR", loose=True))
ROWS = [["x" * 30, ("OPEN", "bold red"), "3 m ago", "a long story " * 20]]


@pytest.mark.parametrize(
    ("text", "ms"), [("30s", 30_000), ("10m", 600_000), ("1h30m", 5_400_000), ("1.5h", 5_400_000), (" 2d ", 172_800_000), ("500ms", 500)]
)
def test_spans_are_read(text: str, ms: int):
    assert parse_span(text) == ms


@pytest.mark.parametrize("text", ["", "10", "m", "10x", "1h 2", "1e3s"])
def test_what_is_no_span(text: str):
    with pytest.raises(ValueError, match="not a duration"):
        parse_span(text)


@pytest.mark.parametrize(
    ("ms", "text"), [(0, "0 ms"), (999, "999 ms"), (45_999, "45 s"), (3_900_000, "1 h 5 m"), (183_600_000, "2 d 3 h"), (3_605_000, "1 h")]
)
def test_spans_are_told(ms: int, text: str):
    assert span(ms) == text


@pytest.mark.parametrize(
    ("distance", "text"), [(0, "now"), (-999, "now"), (-1_000, "1 s ago"), (-7_199_000, "1 h ago"), (599_000, "in 9 m 59 s"), (500, "now")]
)
def test_ages(distance: int, text: str):
    assert relative(NOW + distance, NOW) == text


def test_an_unknown_time_is_no_age():
    assert relative(0, NOW) == ""


def test_into_a_pipe_everything_goes_without_colour(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "40")
    table(COLUMNS, ROWS)
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["ID", "STATE", "AGE", "ERROR"]
    assert row == row.rstrip()
    assert row.count("a long story") == 20
    assert "\x1b" not in row


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch):
    def resize(columns: int, **more: str) -> None:
        for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": str(columns), "LINES": "24", **more}.items():
            monkeypatch.setenv(name, value)

    monkeypatch.delenv("NO_COLOR", raising=False)
    return resize


def test_a_terminal_gets_colours(capsys: pytest.CaptureFixture[str], terminal):
    terminal(80)
    table(COLUMNS, ROWS)
    assert "\x1b[1;31mOPEN" in capsys.readouterr().out


def test_no_color_is_respected(capsys: pytest.CaptureFixture[str], terminal):
    terminal(80, NO_COLOR="1")
    table(COLUMNS, ROWS)
    assert "31m" not in capsys.readouterr().out


@pytest.mark.parametrize(("columns", "shows_age"), [(59, False), (60, True)])
def test_narrow_terminals_get_fewer_columns(capsys: pytest.CaptureFixture[str], terminal, columns: int, shows_age: bool):
    terminal(columns, NO_COLOR="1")
    table(COLUMNS, [[*row[:1], "OPEN", *row[2:]] for row in ROWS])
    printed = capsys.readouterr().out
    assert ("3 m ago" in printed) is shows_age
    assert "x" * 30 in printed
    assert all(len(one.replace("\x1b[1m", "").replace("\x1b[0m", "")) <= columns for one in printed.splitlines())


def test_details_leave_out_what_is_not_known(capsys: pytest.CaptureFixture[str]):
    details([("state", ("OPEN", "red")), ("tenant", ""), ("errors", "one\ntwo")])
    assert capsys.readouterr().out.splitlines() == ["state   OPEN", "errors  one", "        two"]


def test_lines(capsys: pytest.CaptureFixture[str]):
    line("a", "", ("b", "red"), ("", "dim"))
    assert capsys.readouterr().out == "a  b\n"


def test_plain_text():
    assert plain("ä\tb\x1b[31m\u202e") == "ä b\N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(("number", "text"), [(0, "0 jobs"), (1, "1 job"), (1234, "1,234 jobs")])
def test_counts(number: int, text: str):
    assert count(number, "job") == text
