"""What doors say of themselves: of what they refuse, and that they are open to others."""

# ruff: noqa: S104 - only addresses to be judged

import logging
import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from sickbay.domain.health import Health
from sickbay.domain.limits import Limits
from sickbay.runtime.settings import describe_settings
from sickbay.server.endpoints import Address, serve_endpoints
from sickbay.server.grpc.meter import LOG_AGAIN_S, GrpcMeter, Reason
from sickbay.server.listen import is_loopback
from sickbay.server.rest.app import create_app

LIMITS_PAGE = Path(__file__).parents[3] / "docs" / "limits.md"


def test_refusals_are_all_counted_and_said_once_a_minute(caplog):
    registry, now = CollectorRegistry(), [0.0]
    meter = GrpcMeter(registry, lambda: now[0])
    for _ in range(500):
        meter.count_refusal(Reason.CALLS)
    meter.count_refusal(Reason.WATCHES)
    assert registry.get_sample_value("sickbay_grpc_refused_total", {"reason": "calls"}) == 500
    assert len(caplog.records) == 2
    now[0] = LOG_AGAIN_S
    meter.count_refusal(Reason.CALLS)
    assert "(500 since" in caplog.records[-1].getMessage()
    assert len(caplog.records) == 3


@pytest.mark.parametrize("reason", Reason)
def test_every_limit_is_logged_with_its_setting_and_documented(caplog, reason):
    """Only that an idle connection was closed is no warning."""
    caplog.set_level(logging.INFO)
    GrpcMeter(CollectorRegistry()).count_refusal(reason)
    (record,) = caplog.records
    assert re.findall(r"\b(?:GRPC|MAX)_[A-Z_]+", record.getMessage()) != [] or reason is Reason.FILES
    assert set(re.findall(r"\b(?:GRPC|MAX)_[A-Z_]+", record.getMessage())) <= set(describe_settings())
    assert record.levelno == (logging.INFO if reason is Reason.IDLE else logging.WARNING)
    assert f"`{reason}`" in LIMITS_PAGE.read_text("utf-8") or reason is Reason.FILES


@pytest.mark.parametrize(
    ("host", "alone"),
    [("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("localhost", True), ("::ffff:127.0.0.1", True)]
    + [(host, False) for host in ("0.0.0.0", "::", "10.1.2.3", "no-such-host.invalid")],
)
def test_which_addresses_are_for_this_machine_alone(host, alone):
    assert is_loopback(host) is alone


@pytest.mark.parametrize(("host", "lines"), [("0.0.0.0", 1), ("127.0.0.1", 0)])
async def test_a_service_that_others_can_reach_says_so(caplog, host, lines):
    caplog.set_level(logging.INFO)
    address = Address(host, 0, 0, host_hint="--host 127.0.0.1", limits=Limits())
    async with serve_endpoints(
        [], lambda *_: create_app("a", "b", "1"), address, health=Health(), name="a", registry=CollectorRegistry()
    ) as doors:
        said = [record.getMessage() for record in caplog.records if "no access control" in record.getMessage()]
        assert len(said) == lines
        for line in said:
            assert str(doors.rest_port) in line
            assert str(doors.grpc_port) in line
            assert "--host 127.0.0.1" in line
