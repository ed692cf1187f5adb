"""`sickbay config`: the settings file is checked without a running system."""

import json
import re
from pathlib import Path

from click.testing import CliRunner

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
    """Of the file's two tables."""
    assert set(json.loads(CliRunner().invoke(cli, ["config", "schema"]).output)["properties"]) == {"defaults", "types"}


def test_the_documented_example_is_valid():
    """The one in docs/configuration.md."""
    text = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text()
    example = re.search(r"```toml\n(.*?)```", text, re.DOTALL)
    assert example
    assert parse_file(example[1].encode(), "x").policies("email")[0].timeout == 30_000
