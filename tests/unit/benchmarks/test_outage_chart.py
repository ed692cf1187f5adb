"""Pictures and series of a run are what the records say."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import pytest

from benchmarks.outage.chart import chart
from benchmarks.outage.figures import figures
from benchmarks.outage.report import Played, write_json, write_plots
from benchmarks.outage.scenarios import scenarios
from benchmarks.outage.series import bands, buckets, load, waits
from benchmarks.outage.svg import steps
from benchmarks.outage.table import COLUMNS, cells, table
from benchmarks.outage.trace import Call, Start, StateSeen, Submit, Tick, Trace

SCENARIO = scenarios()["outage"].scaled(0.1)


@pytest.fixture
def trace():
    return Trace(
        "somebody",
        began=10.0,
        ill=12.0,
        back=16.0,
        healed=None,
        ended=20.0,
        submits=[Submit(10.01, "email", 0, "a"), Submit(12.1, "email", 1, "b")],
        starts=[Start(10.11, "email", 0), Start(12.2, "email", 1)],
        calls=[
            Call(10.11, 10.13, "email", 0, "ok"),
            Call(12.21, 12.21, "email", 1, "refused"),
            Call(17.01, 17.25, "email", 1, "ok"),
            Call(18.0, None, "email", 1, ""),
        ],
        states=[StateSeen(9.9, "email", "CLOSED"), StateSeen(12.3, "email", "OPEN"), StateSeen(16.9, "email", "CLOSED")],
        ticks=[Tick(10.0, 0, 0), Tick(13.0, 1, 1), Tick(18.0, None, 0)],
    )


def test_a_job_that_comes_back_is_not_fresh(trace):
    bins = load(trace, 0.5)
    assert [(one.at, one.fresh, one.returned, one.refused) for one in bins if any(one[1:])] == [
        (0.0, 2, 0, 0),
        (2.0, 0, 0, 2),
        (7.0, 0, 2, 0),
        (8.0, 0, 2, 0),
    ]


def test_buckets_count_what_came_ended_and_was_under_way(trace):
    found = {bucket.at: bucket[2:] for bucket in buckets(trace)}
    assert found[0.1] == (1, 1, 0, 0)
    assert found[2.2] == (1, 0, 1, 0)
    assert (found[7.0], found[7.1], found[7.2]) == ((1, 0, 0, 1), (0, 0, 0, 1), (0, 1, 0, 0))
    assert found[9.9][3] == 1  # never answered


def test_bands_and_waits_are_over_the_time_of_the_run(trace):
    assert [(pytest.approx(begins), pytest.approx(ends), state) for begins, ends, state in bands(trace)] == [
        (0.0, 2.3, "CLOSED"),
        (2.3, 6.9, "OPEN"),
        (6.9, 10.0, "CLOSED"),
    ]
    assert [wait.p50 for wait in waits(trace)] == [pytest.approx(0.1), pytest.approx(0.1)]


def test_the_picture_is_well_formed_and_names_its_axes(trace):
    words = " ".join(ET.fromstring(chart(SCENARIO, [trace, trace], "A & B")).itertext())  # noqa: S314 - our own
    assert "A & B" in words
    assert words.count("submit to first start") == words.count("seconds") == 2


def test_files_are_written_for_every_run(trace, tmp_path):
    runs = [Played(scenarios()[name], trace, figures(scenarios()[name], trace, 0.0)) for name in ("outage", "hanging")]
    assert [path.name for path in write_plots(tmp_path / "x.svg", "title", runs)] == ["x-outage.svg", "x-hanging.svg"]
    assert [path.name for path in write_plots(tmp_path / "x.svg", "title", runs[:1])] == ["x.svg"]
    write_json(tmp_path / "x.json", {"scale": 1}, runs)
    read = json.loads((tmp_path / "x.json").read_text())
    assert [run["scenario"] for run in read["runs"]] == ["outage", "hanging"]


def test_every_row_has_a_cell_for_every_column(trace):
    told = figures(SCENARIO, trace, 0.0)
    assert len(cells(told)) + 2 == len(COLUMNS)
    assert "not within 4 s" in cells(told)
    assert table([(SCENARIO, "somebody", told)], "title").row_count == 1


def test_steps_are_round():
    assert steps(0) == [0, 1]
    assert steps(240) == [0, 100, 200]
    assert steps(7) == [0, 5]
