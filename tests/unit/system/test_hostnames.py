"""Under which names a service answers: loopback ones on loopback, those of a setting, and addresses where others may come in."""

import pytest

from sickbay.domain.errors import SettingsError
from sickbay.runtime.settings import Settings
from sickbay.server.listen import is_loopback
from sickbay.system import hostnames
from sickbay.system.hostnames import allowed_hosts, host_name

LOOPBACK = ["localhost", "localhost.", "LOCALHOST", "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"]
FOREIGN = ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "evil-localhost", "notlocalhost", "0177.0.0.1", ""]


def hosts_for(bind, allowed=()):
    return hostnames.hosts_for(bind, allowed, on_loopback=is_loopback(bind))


def _name(host):
    return host_name(f"[{host}]" if ":" in host else host) or ""


@pytest.mark.parametrize("bind", ["127.0.0.1", "localhost", "::1", "127.0.1.1"])
def test_on_loopback_only_loopback_names_are_answered(bind):
    hosts = hosts_for(bind)
    assert all(hosts.answer(_name(name)) for name in [*LOOPBACK, bind])
    assert not any(hosts.answer(name) for name in [*FOREIGN, "10.0.0.1", "8.8.8.8", "2001:db8::1"])


@pytest.mark.parametrize("bind", ["0.0.0.0", "::", "", "10.0.0.1", "no-such-name.invalid"])  # noqa: S104 - nothing is opened
def test_elsewhere_every_name_is_answered(bind):
    hosts = hosts_for(bind)
    assert all(hosts.answer(name) for name in [*LOOPBACK, *FOREIGN, "10.0.0.1"])


def test_elsewhere_a_setting_bounds_names_but_not_addresses():
    """Probes and scrapes come by address, which nobody can rebind."""
    hosts = hosts_for("::", allowed_hosts("Jobs.example.com, .internal"))
    assert all(
        hosts.answer(name) for name in ["jobs.example.com", "internal", "a.internal", "a.b.internal", "localhost", "10.0.0.1", "::1"]
    )
    assert not any(hosts.answer(name) for name in ["example.com", "evil.example", "notinternal", "x.jobs.example.com", "internal.evil"])


def test_on_loopback_a_setting_adds_names():
    hosts = hosts_for("127.0.0.1", allowed_hosts("sickbay.test,192.0.2.7"))
    assert all(hosts.answer(name) for name in ["sickbay.test", "192.0.2.7", "localhost"])
    assert not hosts.answer("192.0.2.8")
    assert hosts_for("127.0.0.1", allowed_hosts("*")).answer("evil.example")


@pytest.mark.parametrize(
    ("header", "name"),
    [("a", "a"), ("A.b:80", "a.b"), ("a.", "a"), ("a:", "a"), ("[::1]:3000", "::1"), ("127.0.0.1:1", "127.0.0.1")],
)
def test_a_host_header_is_read(header, name):
    assert host_name(header) == name


@pytest.mark.parametrize("header", ["", "a b", "a,b", "u@a", "a/b", "a:b", "::1", "[::1", "a\\b", "a:80:80", "http://a"])
def test_a_malformed_host_header_is_none(header):
    assert host_name(header) is None


@pytest.mark.parametrize("text", ["http://a.example", "a.example:80", "a b", "a/b", "*a", "..a", "-a"])
def test_a_setting_that_names_no_host_stops_the_start(text, monkeypatch):
    monkeypatch.setenv("ALLOWED_HOSTS", text)
    with pytest.raises(SettingsError, match=r"ALLOWED_HOSTS: .*is not a host name; name hosts without scheme and port"):
        Settings.read()
