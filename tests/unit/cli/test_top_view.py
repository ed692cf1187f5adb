"""The layout of `sickbay top`: it fits every terminal, and prints nothing that a terminal would obey."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich.console import Console

from sickbay.breakers.v1.breaker_pb2 import Breaker
from sickbay.breakers.v1.incident_pb2 import Incident, IncidentCause
from sickbay_cli.options import Endpoint
from sickbay_cli.status import ServiceHealth
from sickbay_cli.top.as_json import document_view
from sickbay_cli.top.frame import BreakerRow, Change, Frame, Parked, QueueRow, Rates, ReleaseRow
from sickbay_cli.top.view import Size, lay_out

NOW = 1_700_000_000_000
ENDPOINT = Endpoint("Job API", "--jobapi", "localhost:1", 10)
JOBS = {"QUEUED": 12, "RUNNING": 3, "RETRYING": 4, "PARKED": 1_234, "QUARANTINED": 0}


def breaker(job_type: str = "email", state: str = "OPEN", **fields: Any) -> Breaker:
    known = {"job_type": job_type, "tenant": "default", "reason_code": "API_TIMEOUT", "reason_count": 5, "reason_message": "no answer"}
    made = Breaker(**(known | fields), state=Breaker.State.Value(f"STATE_{state}"))
    made.probe_time.FromMilliseconds(NOW + 42_000)
    return made


def incident(**fields: Any) -> Incident:
    cause = IncidentCause(code="API_TIMEOUT", message="no answer", count=5)
    made = Incident(
        **({"incident_id": "12", "job_type": "email", "tenant": "default", "open": True, "parked_jobs": 1_200, "cause": cause} | fields)
    )
    made.open_time.FromMilliseconds(NOW - 180_000)
    return made


def shown_frame(**changed: Any) -> Frame:
    slow = breaker("sms", "CLOSED", recovering=True, admitted_per_second=12.5)
    parts: dict[str, Any] = {
        "time": NOW,
        "as_of": NOW,
        "problem": "",
        "health": [ServiceHealth("jobapi", ENDPOINT)],
        "jobs": JOBS,
        "rates": Rates(12.34, 0, None, 0.0, 3.5, -0.01),
        "breakers": [BreakerRow(breaker(), NOW - 180_000, Parked(1_200, NOW - 170_000)), BreakerRow(slow, 0, Parked(34, NOW - 5_000))],
        "queues": [QueueRow("jobs.main", 7, 1.5, 2), QueueRow("jobs.retry", 1_000, -250.4, None)],
        "releases": [ReleaseRow(slow, 34, 10.0, 12.5)],
        "incidents": [incident()],
        "changes": [Change(NOW - 180_000, breaker())],
    }
    return Frame(**(parts | changed))


def lines(frame: Frame, columns: int = 120, height: int | None = 40, hint: str = "", *, colour: bool = False) -> list[str]:
    out = io.StringIO()
    console = Console(
        file=out, width=columns, height=height or 25, force_terminal=colour, color_system="standard" if colour else None, highlight=False
    )
    console.print(lay_out(frame, Size(columns, height), hint))
    return out.getvalue().splitlines()


def test_jobs_for_later_are_counted_if_there_are_any():
    (told,) = [line.rstrip() for line in lines(shown_frame(jobs=JOBS | {"SCHEDULED": 5})) if line.startswith("jobs  ")]
    assert told.endswith("0 quarantined  5 scheduled")
    (told,) = [line.rstrip() for line in lines(shown_frame(jobs=JOBS | {"SCHEDULED": 0})) if line.startswith("jobs  ")]
    assert told.endswith("0 quarantined")


def test_the_whole_frame():
    told = [line.rstrip() for line in lines(shown_frame(), hint="q quits")]
    assert told[0].split()[:2] == ["sickbay", "top"]
    assert told[0].endswith("q quits  Job API up")
    assert told[1:4] == [
        "jobs/s  12.3 submitted  0.0 succeeded  - failed  +3.5 parked",
        "jobs    12 queued  3 running  4 retrying  1,234 parked  0 quarantined",
        "",
    ]
    rows = [line.split() for line in told[4:7]]
    assert rows[0] == ["BREAKER", "STATE", "SINCE", "PROBE", "LIMIT", "PARKED", "OLDEST", "WHY"]
    assert rows[1] == ["email", "OPEN", "3", "m", "42", "s", "1,200", "2", "m", "5", "x", "API_TIMEOUT:", "no", "answer"]
    assert rows[2] == ["sms", "CLOSED", "12.5/s", "34", "5", "s", "lets", "jobs", "in", "gradually"]
    rest = [line.split() for line in told[8:]]
    assert rest[0] == ["QUEUE", "MESSAGES", "TREND", "CONSUMERS"]
    assert rest[1:3] == [["jobs.main", "7", "+1.5/s", "2"], ["jobs.retry", "1,000", "-250/s"]]
    assert rest[5] == ["sms", "34", "10.0/s", "12.5/s", "in", "3", "s"]
    assert rest[7] == ["INCIDENT", "TYPE", "STATE", "OPENED", "LASTED", "PARKED", "CAUSE"]
    assert rest[8] == ["12", "email", "OPEN", "3", "m", "ago", "3", "m", "1,200", "5", "x", "API_TIMEOUT:", "no", "answer"]
    assert rest[11][1:] == ["email", "OPEN", "5", "x", "API_TIMEOUT:", "no", "answer"]


def test_columns_without_anything_in_them_are_left_out():
    told = lines(
        shown_frame(breakers=[BreakerRow(breaker("a", "CLOSED", reason_code=""), 0, None)], queues=[QueueRow("jobs.main", 1, None)])
    )
    assert ["BREAKER", "STATE"] in [line.split() for line in told]
    assert ["QUEUE", "MESSAGES"] in [line.split() for line in told]


@pytest.mark.parametrize(("columns", "height"), [(80, 24), (200, 60), (40, 10), (20, 6), (1, 1), (3, 2), (80, 4)])
def test_it_fits_every_terminal(columns: int, height: int):
    many = [BreakerRow(breaker(f"a-job-type-with-a-long-name-{number}"), NOW - 1, Parked(number, NOW)) for number in range(100)]
    frame = shown_frame(breakers=many, changes=[Change(NOW, breaker("x" * 60))] * 50, problem="away " * 50)
    told = lines(frame, columns, height)
    assert all(len(line) <= columns for line in told)
    assert len(told) <= height or columns < 40, "on less the rest is cut off by the screen"


def test_at_80_by_24_every_part_has_a_place_and_breakers_get_what_is_left():
    many = [BreakerRow(breaker(f"type-{number:02}"), NOW - 1, None) for number in range(100)]
    told = lines(shown_frame(breakers=many, changes=[Change(NOW, breaker())] * 50), 80, 24)
    titles = [line.split()[0] for line in told if line.strip()[:1].isupper()]
    assert titles == ["BREAKER", "QUEUE", "RELEASING", "INCIDENT", "CHANGED"]
    assert len(told) == 24
    hidden = next(int(line.split()[0]) for line in told if line.endswith("more"))
    assert hidden == 100 - sum(line.startswith("type-") for line in told)
    few = lines(shown_frame(changes=[Change(NOW, breaker())] * 50), 80, 24)
    assert len(few) == 24, "the log has the lines that nobody else needs"


def test_a_pipe_gets_everything_uncut():
    many = [BreakerRow(breaker("long-" * 20 + str(number)), NOW - 1, None) for number in range(100)]
    told = lines(shown_frame(breakers=many), 100_000, None)
    assert sum("long-" * 20 in line for line in told) == 100


def test_what_others_wrote_moves_no_cursor_and_changes_no_colour():
    evil = "\x1b[31m\x1b]0;title\x07\r\nmore"
    row = BreakerRow(breaker(evil, reason_code=evil, reason_message=evil, tenant=evil), NOW, None)
    down = ServiceHealth("jobapi", ENDPOINT, up=False, problem=evil)
    held = breaker("held", "FORCED_OPEN", forced_by=evil, forced_why=evil)
    frame = shown_frame(
        breakers=[row, BreakerRow(held, NOW, None)],
        changes=[Change(NOW, row.breaker)],
        health=[down],
        problem=evil,
        queues=[QueueRow(evil, 1, None)],
    )
    for told in (lines(frame), lines(frame, 100_000, None)):
        assert not set("\x1b\x07\r") & set("".join(told))
        assert not any(line.startswith("more") for line in told)


def test_states_are_coloured():
    told = "\n".join(lines(shown_frame(), colour=True))
    assert "\x1b[1;31mOPEN" in told
    assert "\x1b[32mCLOSED" in told


def test_what_is_unavailable_is_told_and_how_old_the_numbers_are():
    gone = ServiceHealth("control-plane", Endpoint("control plane", "--control-plane", "h:1", 1), up=False, problem="cannot connect")
    told = "\n".join(lines(shown_frame(health=[gone], problem="cannot connect", as_of=NOW - 60_000)))
    assert "control plane down" in told
    assert told.count("cannot connect") == 1
    assert "the numbers below are those of" in told
    never = "\n".join(
        lines(shown_frame(problem="cannot connect", as_of=0, jobs={}, breakers=(), queues=(), releases=(), incidents=(), changes=()))
    )
    assert "there are no numbers yet" in never


def test_probes_that_are_due_or_run():
    rows = [
        BreakerRow(breaker("due", cooldown_elapsed=True), NOW, None),
        BreakerRow(breaker("runs", "HALF_OPEN", probe_job_id="j"), NOW, None),
    ]
    told = {line.split()[0]: line.split() for line in lines(shown_frame(breakers=rows)) if line.strip()}
    assert "due" in told["due"][1:]
    assert " ".join(told["runs"]).endswith("probe j runs, the next in 42 s if it hangs")


def test_as_json():
    view = json.loads(json.dumps(document_view(shown_frame())))
    assert view["jobs"]["perSecond"] == {"submitted": 12.3, "succeeded": 0, "retrying": 0.0, "parked": 3.5, "quarantined": 0.0}
    assert (view["breakers"][0]["jobType"], view["breakers"][0]["parkedJobs"], view["breakers"][0]["oldestParkedAt"]) == (
        "email",
        1_200,
        NOW - 170_000,
    )
    assert view["queues"] == [
        {"name": "jobs.main", "messages": 7, "perSecond": 1.5, "consumers": 2},
        {"name": "jobs.retry", "messages": 1_000, "perSecond": -250.4},
    ]
    assert view["releases"] == [{"jobType": "sms", "waiting": 34, "perSecond": 10.0, "limit": 12.5}]
    assert view["changes"] == [{"jobType": "email", "time": NOW - 180_000, "state": "OPEN"}]
    assert (view["incidents"][0]["incidentId"], view["incidents"][0]["open"]) == ("12", True)
    assert "problem" not in view
