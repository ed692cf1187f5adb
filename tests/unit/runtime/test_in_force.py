"""What `sickbay config show` says is what decides."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sickbay.domain.breaker import BreakerKey
from sickbay.runtime.door_rules import DoorRules
from sickbay.runtime.in_force import Source, explain, explain_limits, explain_tenant
from sickbay.runtime.policies import Policies
from sickbay.runtime.settings import Settings, describe_settings
from sickbay.runtime.settings_file import SettingsFile, parse_file

FILE = b"""
[defaults]
retry = { max = 4, jitter = 0.3, codes = { SLOW = 1, BUSY = 2 } }
[types."email.v2"]
timeout = "90s"
retry = { max = 1, delay = "0s", codes = { BUSY = 9 } }
submit = "20/m"
[defaults.tenant]
submit = "10/s"
queued = 7
[tenants.acme]
submit_burst = 5
queued = 1000
[limits]
queued = 9000
"""


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    for name in describe_settings():
        monkeypatch.delenv(name, raising=False)


def test_each_value_says_where_it_comes_from(monkeypatch):
    """The file's own key for the type, its defaults, a variable, or the default; and what a handler may decide otherwise."""
    monkeypatch.setenv("COOLDOWN_PERIOD", "7.5")
    settings, file = Settings.read(), parse_file(FILE, "x")
    assert [(one.key, one.value, one.origin) for one in explain(settings, file, "email.v2")] == [
        ("timeout", "90s", 'types."email.v2".timeout'),
        ("retry.max", "1", 'types."email.v2".retry.max, unless the handler says otherwise for an error code'),
        ("retry.delay", "0s", 'types."email.v2".retry.delay'),
        ("retry.backoff", "1.0", "default, unless the handler says otherwise"),
        ("retry.max_delay", "10m", "default, unless the handler says otherwise"),
        ("retry.jitter", "0.3", "defaults.retry.jitter, unless the handler says otherwise"),
        ("breaker.threshold", "5", "default"),
        ("breaker.cooldown", "7500ms", "COOLDOWN_PERIOD"),
        ("breaker.policy", "consecutive", "default"),
        ("breaker.rate", "0.5", "default"),
        ("breaker.calls", "20", "default"),
        ("breaker.window", "1m", "default"),
        ("breaker.slow", "0s", "default"),
        ("cancel_grace", "5s", "default, unless the handler says otherwise"),
        ("concurrency", "no limit", "default, unless the handler says otherwise"),
        ("share", "0.75 beside others", "default"),
        ("rate", "no limit", "default"),
        ("burst", "half a second's worth", "default"),
        ("submit", "20/m", 'types."email.v2".submit'),
        ("submit_burst", "as many as submit has", "default"),
        ("retry.codes.BUSY", "9", 'types."email.v2".retry.codes.BUSY'),
        ("retry.codes.SLOW", "1", "defaults.retry.codes.SLOW, unless the handler says otherwise"),
    ]
    rest = {one.key: one for one in explain(settings, file, None)}
    assert rest["timeout"].origin == "default, unless the handler says otherwise"
    assert (rest["retry.max"].value, rest["retry.max"].source, rest["retry.max"].name) == ("4", Source.FILE, "defaults.retry.max")


def test_the_limits_of_tenants_say_where_they_come_from():
    """Each key for itself: the tenant's own, or the one for each tenant."""
    file = parse_file(FILE, "x")
    assert [(one.key, one.value, one.origin) for one in explain_tenant(file, "acme")] == [
        ("submit", "10/s", "defaults.tenant.submit"),
        ("submit_burst", "5", "tenants.acme.submit_burst"),
        ("queued", "1000", "tenants.acme.queued"),
    ]
    for tenant in (None, "other"):
        assert [(one.key, one.value) for one in explain_tenant(file, tenant)] == [
            ("submit", "10/s"),
            ("submit_burst", "as many as submit has"),
            ("queued", "7"),
        ]
    assert [(one.value, one.origin) for one in explain_limits(file)] == [("9000", "limits.queued")]
    assert [(one.value, one.origin) for one in explain_limits(SettingsFile())] == [("no limit", "default")]


def test_a_shared_breaker_is_that_of_the_type_that_sets_it():
    """And the dependency is named."""
    file = parse_file(b"[types.a]\ndependency = 'x'\nbreaker.threshold = 4\n[types.b]\ndependency = 'x'\n", "x")
    said = {one.key: (one.value, one.origin) for one in explain(Settings.read(), file, "b")}
    assert said["dependency"] == ("x", "types.b.dependency")
    assert said["breaker.threshold"] == ("4", "types.a.breaker.threshold")


_TABLES = st.fixed_dictionaries(
    {},
    optional={
        "timeout": st.sampled_from(["1ms", "30s", "10m"]),
        "cancel_grace": st.sampled_from(["0s", "1500ms", "10m"]),
        "submit": st.sampled_from(["1/s", "20/m", "1000000/h"]),
        "submit_burst": st.integers(1, 1_000_000),
        "retry": st.fixed_dictionaries(
            {},
            optional={
                "max": st.integers(0, 100),
                "delay": st.sampled_from(["0s", "1.5s", "24h"]),
                "backoff": st.sampled_from([1.0, 1.5, 10.0]),
                "max_delay": st.sampled_from(["0s", "90s", "24h"]),
                "jitter": st.sampled_from([0.0, 0.25, 1.0]),
                "codes": st.dictionaries(st.sampled_from(["SLOW", "BUSY"]), st.integers(0, 9)),
            },
        ),
        "breaker": st.fixed_dictionaries(
            {}, optional={"threshold": st.integers(1, 9), "cooldown": st.sampled_from(["1ms", "1m"]), "policy": st.just("consecutive")}
        )
        | st.fixed_dictionaries(
            {},
            optional={
                "policy": st.just("rate"),
                "rate": st.sampled_from([0.01, 0.3, 1.0]),
                "calls": st.integers(1, 100),
                "window": st.sampled_from(["1s", "1m"]),
                "slow": st.sampled_from(["0s", "5s"]),
            },
        ),
    },
)
_VARIABLES = st.fixed_dictionaries(
    {},
    optional={
        "handler_timeout": st.integers(1, 1_500),
        "cancel_grace": st.integers(0, 1_500),
        "max_retries": st.integers(0, 100),
        "retry_delay_ms": st.integers(0, 10_000),
        "failure_threshold": st.integers(1, 9),
        "cooldown_period": st.integers(1, 100),
    },
)


def _in_force(settings, folder, tables):
    """What decides for the type `email` with a file of these tables."""
    path = Path(folder) / "sickbay.toml"
    path.write_text("".join(f"[{name}]\n{_toml(table)}\n" for name, table in tables.items()))
    ours = Policies(settings.model_copy(update={"sickbay_config": str(path)}))
    buckets = DoorRules(ours).buckets("email", "default")
    times = (ours.timeout_s("email", None), ours.cancel_grace_s("email", None))
    return times, ours.retry("email"), ours.breaker(BreakerKey("email")), buckets


def _toml(table):
    rows = {
        key: f"{{ {', '.join(_toml(value).split(chr(10)))} }}" if isinstance(value, dict) else json.dumps(value)
        for key, value in table.items()
    }
    return "\n".join(f"{key} = {value}" for key, value in rows.items())


@given(_TABLES, _TABLES, _VARIABLES)
def test_what_is_said_is_what_decides(defaults, own, variables):
    """Law: a file made of the values that are shown decides the same for this type as the file itself."""
    settings = Settings.read(**variables)
    said = {
        one.key: one.value
        for one in explain(settings, SettingsFile.model_validate({"defaults": defaults, "types": {"email": own}}), "email")
    }
    retry = {"max": int(said["retry.max"]), "delay": said["retry.delay"], "max_delay": said["retry.max_delay"]}
    retry |= {"backoff": float(said["retry.backoff"])} | ({} if "or" in said["retry.jitter"] else {"jitter": float(said["retry.jitter"])})
    retry["codes"] = {key.removeprefix("retry.codes."): int(value) for key, value in said.items() if key.startswith("retry.codes.")}
    breaker = {"threshold": int(said["breaker.threshold"]), "cooldown": said["breaker.cooldown"]}
    if said["breaker.policy"] == "rate":
        breaker |= {"policy": "rate", "rate": float(said["breaker.rate"]), "calls": int(said["breaker.calls"])}
        breaker |= {key: said[f"breaker.{key}"] for key in ("window", "slow")}
    limits = {key: said["submit"] for key in ("submit",) if said[key] != "no limit"}
    limits |= {key: int(said[key]) for key in ("submit_burst",) if said[key].isdigit()}
    again = {"types.email": {"timeout": said["timeout"], "cancel_grace": said["cancel_grace"], "retry": retry, "breaker": breaker} | limits}
    with tempfile.TemporaryDirectory() as folder:
        assert _in_force(settings, folder, {"defaults": defaults, "types.email": own}) == _in_force(settings, folder, again)
