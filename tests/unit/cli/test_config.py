"""`sickbay config`: the settings file is checked without a running system."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from sickbay.runtime.settings import describe_settings
from sickbay.runtime.settings_file import parse_file
from sickbay_cli.program import cli


def test_a_valid_file_is_confirmed(tmp_path):
    """With exit code 0."""
    (tmp_path / "sickbay.toml").write_text('[types.email]\ntimeout = "30s"\n')
    result = CliRunner().invoke(cli, ["config", "check", str(tmp_path / "sickbay.toml")])
    assert (result.exit_code, "is valid" in result.output) == (0, True)


def test_every_mistake_is_listed(tmp_path):
    """With exit code 1."""
    (tmp_path / "sickbay.toml").write_text("[defaults]\na = 1\nb = 2\n")
    result = CliRunner().invoke(cli, ["config", "check", str(tmp_path / "sickbay.toml")])
    assert result.exit_code == 1
    assert "defaults.a: unknown key" in result.output
    assert "defaults.b: unknown key" in result.output


def test_the_schema_is_json():
    """Of the file's five tables."""
    tables = {"defaults", "types", "tenants", "principals", "limits"}
    assert set(json.loads(CliRunner().invoke(cli, ["config", "schema"]).output)["properties"]) == tables


@pytest.fixture
def environment(monkeypatch):
    """None of our variables but one."""
    for name in describe_settings():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COOLDOWN_PERIOD", "7")


@pytest.mark.usefixtures("environment")
def test_what_is_in_force_is_shown_with_its_origin(tmp_path):
    """For all types, and for each that the file names."""
    (tmp_path / "sickbay.toml").write_text('[types.email]\ntimeout = "30s"\n')
    result = CliRunner().invoke(cli, ["config", "show", str(tmp_path / "sickbay.toml")])
    assert result.exit_code == 0
    rows = [re.split(r" {2,}", line.strip()) for line in result.output.splitlines()]
    assert ["email", "timeout", "30s", "types.email.timeout"] in rows
    assert ["(all)", "timeout", "30s", "default, unless the handler says otherwise"] in rows
    assert ["email", "breaker.cooldown", "7s", "COOLDOWN_PERIOD"] in rows


@pytest.mark.usefixtures("environment")
def test_one_type_is_shown_as_json(tmp_path, monkeypatch):
    """Of the file that the environment names; the type need not be in it."""
    (tmp_path / "sickbay.toml").write_text('[defaults]\ntimeout = "9s"\n')
    monkeypatch.setenv("SICKBAY_CONFIG", str(tmp_path / "sickbay.toml"))
    shown = json.loads(CliRunner().invoke(cli, ["config", "show", "--type", "sms", "--json"]).output)
    assert (shown["file"], list(shown["types"])) == (str(tmp_path / "sickbay.toml"), ["sms"])
    assert shown["types"]["sms"]["breaker.cooldown"] == {"value": "7s", "source": "environment", "name": "COOLDOWN_PERIOD"}
    assert shown["types"]["sms"]["timeout"] == {
        "value": "9s",
        "source": "file",
        "name": "defaults.timeout",
        "unless": "unless the handler says otherwise",
    }


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["config", "show", ""], 2, "the file's name is empty"),
        (["config", "show", "absent.toml"], 1, "the file cannot be read"),
        (["config", "show", "--type", "E mail"], 2, "the job type 'E mail' is invalid"),
        (["up", "--config", ""], 2, "the file's name is empty"),
        (["worker", "--config", " "], 2, "the file's name is empty"),
        (["up", "--config", "absent.toml", "--ephemeral"], 1, "absent.toml: the file cannot be read: No such file or directory"),
    ],
)
def test_a_mistake_is_told_in_words(arguments, code, words):
    """With the exit code of its kind."""
    result = CliRunner().invoke(cli, arguments)
    assert (result.exit_code, words in result.output) == (code, True), result.output


@pytest.mark.usefixtures("environment")
def test_without_a_file_the_environment_is_shown(monkeypatch):
    """And an invalid variable is named."""
    result = CliRunner().invoke(cli, ["config", "show"])
    assert (result.exit_code, "no settings file" in result.output, "COOLDOWN_PERIOD" in result.output) == (0, True, True)
    monkeypatch.setenv("MAX_RETRIES", "many")
    result = CliRunner().invoke(cli, ["config", "show"])
    assert (result.exit_code, "MAX_RETRIES" in result.output) == (1, True)


PAGE = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text()
EXAMPLES = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)


def test_the_documented_examples_are_valid():
    """Those in docs/configuration.md."""
    first, limits, rate, shared = (parse_file(example.encode(), "x") for example in EXAMPLES)
    assert (limits.tenants["acme"].queued, limits.limits.queued, str(limits.policies("report")[0].submit)) == (100_000, 1_000_000, "1000/h")
    assert rate.policies("email")[0].breaker.rate == 0.5
    assert first.policies("email")[0].timeout == 30_000
    assert shared.sharers == {"smtp": ["email", "sms"]}


@pytest.mark.usefixtures("environment")
def test_the_documented_output_is_that_of_the_command(tmp_path):
    """With the first example and the same variable."""
    (tmp_path / "sickbay.toml").write_text(EXAMPLES[0])
    documented = re.search(r"\$ COOLDOWN_PERIOD=7 sickbay (config show) sickbay.toml --type email\n(.*?)```", PAGE, re.DOTALL)
    assert documented
    shown = CliRunner().invoke(cli, [*documented[1].split(), str(tmp_path / "sickbay.toml"), "--type", "email"]).output
    assert [line.rstrip() for line in shown.splitlines()] == documented[2].splitlines()


LIMITS = "[tenants.acme]\nsubmit = '5/s'\n[defaults.tenant]\nqueued = 9\n"


@pytest.mark.usefixtures("environment")
def test_limits_of_tenants_are_shown_if_there_are_any(tmp_path):
    """For all tenants, for each that is named, and for all of them together."""
    (tmp_path / "sickbay.toml").write_text(LIMITS)
    output = CliRunner().invoke(cli, ["config", "show", str(tmp_path / "sickbay.toml")]).output
    rows = [re.split(r" {2,}", line.strip()) for line in output.splitlines()]
    assert ["tenant acme", "submit", "5/s", "tenants.acme.submit"] in rows
    assert ["tenant acme", "queued", "9", "defaults.tenant.queued"] in rows
    assert ["tenant (all)", "submit", "no limit", "default"] in rows
    assert ["(all together)", "queued", "no limit", "default"] in rows
    (tmp_path / "sickbay.toml").write_text("[types.email]\n")
    assert "tenant" not in CliRunner().invoke(cli, ["config", "show", str(tmp_path / "sickbay.toml")]).output


@pytest.mark.usefixtures("environment")
def test_limits_of_tenants_are_shown_as_json(tmp_path):
    (tmp_path / "sickbay.toml").write_text(LIMITS)
    view = json.loads(CliRunner().invoke(cli, ["config", "show", "--json", str(tmp_path / "sickbay.toml")]).output)
    assert view["tenants"]["acme"]["submit"] == {"value": "5/s", "source": "file", "name": "tenants.acme.submit"}
    assert view["defaultTenant"]["submit"] == {"value": "no limit", "source": "default"}
    assert view["limits"] == {"queued": {"value": "no limit", "source": "default"}}


@pytest.mark.usefixtures("environment")
def test_rates_of_principals_are_shown(tmp_path):
    """In the table and as JSON, each key with the place it comes from; with `--type` there is nothing of them."""
    path = str(tmp_path / "sickbay.toml")
    (tmp_path / "sickbay.toml").write_text("[defaults.principal]\nsubmit = '9/s'\n[principals.'auth0|7']\nsubmit_burst = 5\n")
    table = CliRunner().invoke(cli, ["config", "show", path]).output
    assert [line.split() for line in table.splitlines() if line.startswith("principal")] == [
        ["principal", "(all)", "submit", "9/s", "defaults.principal.submit"],
        ["principal", "(all)", "submit_burst", "as", "many", "as", "submit", "has", "default"],
        ["principal", "auth0|7", "submit", "9/s", "defaults.principal.submit"],
        ["principal", "auth0|7", "submit_burst", "5", 'principals."auth0|7".submit_burst'],
    ]
    assert "principal" not in CliRunner().invoke(cli, ["config", "show", path, "--type", "email"]).output
    view = json.loads(CliRunner().invoke(cli, ["config", "show", "--json", path]).output)
    assert view["principals"]["auth0|7"]["submit"] == {"value": "9/s", "source": "file", "name": "defaults.principal.submit"}
    assert view["defaultPrincipal"]["submit_burst"] == {"value": "as many as submit has", "source": "default"}


@pytest.mark.usefixtures("environment")
def test_mistakes_about_principals_are_named(tmp_path):
    (tmp_path / "sickbay.toml").write_text("[principals.shop]\nqueued = 5\nsubmitt = '1/s'\n")
    said = CliRunner().invoke(cli, ["config", "check", str(tmp_path / "sickbay.toml")]).output
    assert "principals.shop.queued" in said
    assert "submit" in said.split("principals.shop.submitt")[1]
