"""The alert rules: each fires and keeps quiet where it should, asks for what there is, and is explained to whoever it wakes."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.promtool import MISSING, promtool

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
    document = yaml.safe_load(RULES.read_text())
    damaged = {rule["alert"] for rule in rules(document) if "for" in rule or damage in {never, always}}
    for rule in rules(document):
        if rule["alert"] in damaged:
            damage(rule)
    (tmp_path / RULES.name).write_text(yaml.safe_dump(document))
    shutil.copytree(RULES.parent / "tests", tmp_path / "tests")
    said = failures(tmp_path / "tests")
    assert set(re.findall(r"alertname: (\w+), time", said)) == damaged


def failures(folder: Path) -> str:
    if shutil.which("promtool") is None:
        pytest.fail(MISSING, pytrace=False)
    command = ["promtool", "test", "rules", *map(str, sorted(folder.glob("*.yml")))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
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
