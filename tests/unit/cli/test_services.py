"""`sickbay jobapi`, `worker` and `controlplane`: options override their variables, which stay in force without them."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from sickbay.runtime.settings import Settings
from sickbay_cli import services
from sickbay_cli.program import cli

ADDRESS = ["--host", "127.0.0.1", "--port", "4000", "--grpc-port", "0"]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings with which a service would have started."""
    found: list[Settings] = []

    def start(_service: Any, **options: Any) -> None:
        found.append(Settings.read(**options))

    monkeypatch.setattr(services, "start", start)
    monkeypatch.setenv("PORT", "1")
    monkeypatch.setenv("GRPC_PORT", "2")
    monkeypatch.setenv("BIND_HOST", "::1")
    monkeypatch.setenv("JOB_HANDLERS", "mine")
    monkeypatch.setenv("DATA_DIR", "there")
    return found


@pytest.mark.parametrize("command", ["jobapi", "worker", "controlplane"])
def test_options_override_the_variables(command: str, started: list[Settings], tmp_path: Any):
    (tmp_path / "sickbay.toml").write_text("")
    own = {"jobapi": [], "worker": ["--handlers", "yours"], "controlplane": ["--data", "here"]}[command]
    result = CliRunner().invoke(cli, [command, *ADDRESS, "--config", str(tmp_path / "sickbay.toml"), *own], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    (settings,) = started
    assert (settings.bind_host, settings.port, settings.grpc_port) == ("127.0.0.1", 4000, 0)
    assert settings.sickbay_config == str(tmp_path / "sickbay.toml")
    assert (settings.job_handlers, settings.data_dir) == (
        "yours" if command == "worker" else "mine",
        "here" if command == "controlplane" else "there",
    )


@pytest.mark.parametrize("command", ["jobapi", "worker", "controlplane"])
def test_without_options_the_variables_are_in_force(command: str, started: list[Settings]):
    assert CliRunner().invoke(cli, [command], catch_exceptions=False).exit_code == 0
    (settings,) = started
    assert (settings.bind_host, settings.port, settings.grpc_port, settings.data_dir) == ("::1", 1, 2, "there")


@pytest.mark.parametrize("command", ["jobapi", "worker", "controlplane"])
def test_a_port_that_does_not_exist_is_a_usage_error(command: str, started: list[Settings]):
    assert CliRunner().invoke(cli, [command, "--port", "70000"]).exit_code == 2
    assert started == []
