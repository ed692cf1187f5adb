"""The dashboard is what its code makes of it, and what Grafana can read."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from itertools import combinations
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana import dashboard
from tests.deploy.rules import ROOT

PAGE = json.loads(dashboard.FILE.read_text("utf-8"))
PANELS: list[dict[str, Any]] = PAGE["panels"]


def test_the_file_is_up_to_date():
    """`make monitoring` would change nothing."""
    assert dashboard.FILE.read_text("utf-8") == dashboard.build()


def as_grafana_writes_it(page: dict[str, Any]) -> Any:
    """The page through Grafana's classes and back: what its schema does not know is gone."""
    register_default_plugins()
    return json.loads(JSONEncoder().encode(Dashboard.from_json(page)))


def test_grafanas_own_classes_read_it_and_write_it_again():
    """Nothing in it is unknown to Grafana's schema of dashboards, panels and queries."""
    assert as_grafana_writes_it(PAGE) == PAGE


LINES = next(number for number, panel in enumerate(PANELS) if panel["type"] == "timeseries")


@pytest.mark.parametrize("way", [(), ("options",), ("options", "legend"), ("fieldConfig", "defaults", "custom"), ("targets", 0)])
def test_a_misspelt_word_is_noticed(way: tuple[str | int, ...]):
    """In a panel, its options, its style or its query."""
    damaged = deepcopy(PAGE)
    place = damaged["panels"][LINES]
    for step in way:
        place = place[step]
    place["titel"] = "Jobs"
    assert as_grafana_writes_it(damaged) != damaged


def test_panels_have_numbers_of_their_own_titles_and_texts():
    assert len({panel["id"] for panel in PANELS}) == len(PANELS) > 40
    assert all(panel["title"] and (panel["type"] == "row" or panel["description"]) for panel in PANELS)


def test_what_an_alert_asks_about_can_be_seen():
    """Whoever is called looks here next."""
    alerts = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text("utf-8"))
    expressions = [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
    shown = {name for panel in PANELS for target in panel.get("targets", ()) for name in metrics(target["expr"])}
    assert {name for expression in expressions for name in metrics(expression)} - shown == set()


def metrics(expression: str) -> list[str]:
    return re.findall(r"\b(?:sickbay|grpc)_[a-z_]+", expression)


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return all(one[at] < other[at] + other[size] and other[at] < one[at] + one[size] for at, size in (("x", "w"), ("y", "h")))


def test_no_panel_lies_on_another_or_beside_the_page():
    """Grafana's page is 24 columns wide."""
    places = [panel["gridPos"] for panel in PANELS]
    assert [pair for pair in combinations(places, 2) if overlap(*pair)] == []
    assert all(place["x"] + place["w"] <= 24 for place in places)


@pytest.mark.parametrize("damage", [{"x": 1}, {"y": 3}])
def test_panels_that_overlap_are_noticed(damage: dict[str, int]):
    assert overlap(PANELS[0]["gridPos"] | damage, PANELS[1]["gridPos"] if "x" in damage else PANELS[8]["gridPos"])


def test_every_query_goes_to_the_chosen_prometheus_and_the_chosen_fleets():
    """And no two of a panel have the same letter."""
    for panel in PANELS:
        letters = [target["refId"] for target in panel.get("targets", ())]
        assert len(set(letters)) == len(letters)
        assert panel["type"] == "row" or letters[0] == "A"
        for target in panel.get("targets", ()):
            assert target["datasource"] == panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert target["expr"].count('namespace=~"$namespace"') >= max(1, target["expr"].count("sickbay_"))


def test_what_can_be_chosen_is_used():
    """Everything is chosen at first, so that also series without the label are shown."""
    variables = {one["name"]: one for one in PAGE["templating"]["list"]}
    assert list(variables) == ["datasource", *dashboard.NARROWED]
    for name in dashboard.NARROWED:
        assert (variables[name]["includeAll"], variables[name]["allValue"], variables[name]["current"]["value"]) == (True, ".*", "$__all")
        assert any(f"${name}" in target["expr"] for panel in PANELS for target in panel.get("targets", ()))


def test_grafana_of_docker_compose_finds_it():
    """The folder that is mounted is the one that the provider reads, and there is a Prometheus among its sources."""
    grafana = ROOT / "deploy" / "grafana"
    mounts = dict(
        volume.split(":")[:2] for volume in yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]["volumes"]
    )
    (provider,) = yaml.safe_load((grafana / "provisioning" / "dashboards" / "sickbay.yml").read_text())["providers"]
    assert mounts[f"./{dashboard.FILE.parent.relative_to(ROOT)}"] == provider["options"]["path"]
    assert mounts["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
    sources = yaml.safe_load((grafana / "provisioning" / "datasources" / "sickbay.yml").read_text())["datasources"]
    assert [source["type"] for source in sources if source.get("isDefault")] == ["prometheus"]
