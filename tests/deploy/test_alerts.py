"""The alert rules: each fires and keeps quiet where it should, asks for what there is, and is explained to whoever it wakes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.support.promtool import MISSING, promtool

ROOT: Final = Path(__file__).parents[2]
RULES: Final = ROOT / "deploy" / "prometheus" / "alerts.yml"
CASES: Final = {path: yaml.safe_load(path.read_text()) for path in sorted((RULES.parent / "tests").glob("*.yml"))}
SEVERITIES: Final = {"critical", "warning", "info"}

Rule = dict[str, Any]


Groups = list[dict[str, Any]]


def rules(groups: Groups) -> Iterator[Rule]:
    for group in groups:
        yield from group["rules"]


GROUPS: Final[Groups] = yaml.safe_load(RULES.read_text())["groups"]
ALL: Final = {rule["alert"]: rule for rule in rules(GROUPS)}


def stories(folder: Path, groups: Groups) -> list[Path]:
    """Every story of every case in a file of its own, beside only those rules that it asks about: all of them at every minute take long."""
    return [
        alone(folder / f"{path.stem}-{number}", path.name, case | {"tests": [story]}, groups)
        for path, case in CASES.items()
        for number, story in enumerate(case["tests"])
    ]


def alone(folder: Path, name: str, case: dict[str, Any], groups: Groups) -> Path:
    """A case of one story, and its rules, in JSON, which is YAML and quick to write."""
    path = folder / "tests" / name
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(case))
    asked = {check["alertname"] for check in case["tests"][0]["alert_rule_test"]}
    chosen = [group | {"rules": [rule for rule in group["rules"] if rule["alert"] in asked]} for group in groups]
    (folder / RULES.name).write_text(json.dumps({"groups": [group for group in chosen if group["rules"]]}))
    return path


@pytest.mark.promtool
def test_promtool_finds_nothing_to_say_about_the_rules():
    """Neither an error nor one of its hints, as two rules with the same name."""
    promtool("check", "rules", "--lint=all", "--lint-fatal", str(RULES))


@pytest.mark.promtool
def test_the_cases_hold(tmp_path: Path):
    """Labels, texts and times are what the cases say."""
    promtool("test", "rules", *map(str, stories(tmp_path, GROUPS)))


def test_no_rule_depends_on_another():
    """So a story needs only the rules that it asks about."""
    assert all("ALERTS" not in rule["expr"] and "record" not in rule for rule in rules(GROUPS))


def test_prometheus_loads_the_rules_and_not_their_cases():
    """Its patterns may match nothing without a word."""
    patterns = yaml.safe_load((RULES.parent / "prometheus.yml").read_text())["rule_files"]
    assert {path for pattern in patterns for path in RULES.parent.glob(pattern)} == {RULES}


def test_every_alert_has_a_case_that_fires_and_a_story_in_which_it_keeps_quiet():
    """A story is quiet if the alert is asked about in it and never fires."""
    fired, quiet = set(), set()
    for case in CASES.values():
        for story in case["tests"]:
            asked = {check["alertname"] for check in story["alert_rule_test"]}
            firing = {check["alertname"] for check in story["alert_rule_test"] if check.get("exp_alerts")}
            fired |= firing
            quiet |= asked - firing
    assert fired == set(ALL)
    assert quiet == set(ALL)


def never(rule: Rule) -> None:
    rule["expr"] = "vector(0) > 1"


def always(rule: Rule) -> None:
    rule["expr"] = "vector(1)"
    rule.pop("for", None)


def at_once(rule: Rule) -> None:
    rule.pop("for", None)


def late(rule: Rule) -> None:
    number, unit = re.fullmatch(r"(\d+)([mhd])", rule["for"]).groups()
    rule["for"] = f"{int(number) * 2}{unit}"


@pytest.mark.promtool
@pytest.mark.parametrize("damage", [never, always, at_once, late])
def test_the_cases_notice_rules_that_are_wrong(tmp_path: Path, damage: Callable[[Rule], None]):
    """Whatever alert is damaged, one of its cases fails."""
    damaged = {name for name, rule in ALL.items() if "for" in rule or damage in {never, always}}
    groups = deepcopy(GROUPS)
    for rule in rules(groups):
        if rule["alert"] in damaged:
            damage(rule)
    assert set(re.findall(r"alertname: (\w+), time", failures(stories(tmp_path, groups)))) == damaged


def failures(cases: list[Path]) -> str:
    if shutil.which("promtool") is None:
        pytest.fail(MISSING, pytrace=False)
    done = subprocess.run(["promtool", "test", "rules", *map(str, cases)], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


def test_every_alert_says_how_bad_it_is_and_what_to_do():
    """Its runbook is a section of its own in docs/monitoring.md, and no section is about an alert that is not there."""
    page = (ROOT / "docs" / "monitoring.md").read_text("utf-8")
    sections = re.findall(r"^#### (Sickbay\w+)$", page, re.MULTILINE)
    assert sections == list(ALL)
    for name, rule in ALL.items():
        assert rule["labels"]["severity"] in SEVERITIES
        assert rule["annotations"].keys() == {"summary", "description", "runbook"}
        assert rule["annotations"]["runbook"] == f"docs/monitoring.md#{name.lower()}"
