"""The alert rules: each fires and keeps quiet where it should, asks for what there is, and is explained to whoever it wakes."""

from __future__ import annotations

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
CASES: Final = sorted((RULES.parent / "tests").glob("*.yml"))
SEVERITIES: Final = {"critical", "warning", "info"}

Rule = dict[str, Any]


def rules(document: dict[str, Any]) -> Iterator[Rule]:
    for group in document["groups"]:
        yield from group["rules"]


ALL: Final = {rule["alert"]: rule for rule in rules(yaml.safe_load(RULES.read_text()))}


@pytest.mark.promtool
def test_promtool_finds_nothing_to_say_about_the_rules():
    """Neither an error nor one of its hints, as two rules with the same name."""
    promtool("check", "rules", "--lint=all", "--lint-fatal", str(RULES))


@pytest.mark.promtool
def test_the_cases_hold():
    """Labels, texts and times are what the cases say."""
    promtool("test", "rules", *map(str, CASES))


def test_prometheus_loads_the_rules_and_not_their_cases():
    """Its patterns may match nothing without a word."""
    patterns = yaml.safe_load((RULES.parent / "prometheus.yml").read_text())["rule_files"]
    assert {path for pattern in patterns for path in RULES.parent.glob(pattern)} == {RULES}


def test_every_alert_has_a_case_that_fires_and_a_story_in_which_it_keeps_quiet():
    """A story is quiet if the alert is asked about in it and never fires."""
    fired, quiet = set(), set()
    for case in CASES:
        for story in yaml.safe_load(case.read_text())["tests"]:
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
    cases = [beside_damaged_rules(case, tmp_path, damage, damaged) for case in CASES]
    assert set(re.findall(r"alertname: (\w+), time", failures(cases))) == damaged


def beside_damaged_rules(case: Path, folder: Path, damage: Callable[[Rule], None], damaged: set[str]) -> Path:
    """A copy of the case; its rules are only those that it asks about, because all of them at every minute would take long."""
    copy = folder / case.stem / "tests" / case.name
    copy.parent.mkdir(parents=True)
    copy.write_text(case.read_text())
    asked = {check["alertname"] for story in yaml.safe_load(case.read_text())["tests"] for check in story["alert_rule_test"]}
    chosen = [deepcopy(ALL[name]) for name in sorted(asked)]
    for rule in chosen:
        if rule["alert"] in damaged:
            damage(rule)
    (folder / case.stem / RULES.name).write_text(yaml.safe_dump({"groups": [{"name": "damaged", "rules": chosen}]}))
    return copy


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
