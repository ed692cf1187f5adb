"""Which addresses handlers behind HTTP may have: private ones by default, those of clouds' metadata never without being told."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sickbay.adapters.http_handler.addresses import AddressRule

PUBLIC = ("8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808")
PRIVATE = ("10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "127.0.0.1", "127.9.9.9", "::1", "fd12:3456::1", "::ffff:10.0.0.1")
LINK_LOCAL = (
    "169.254.169.254",
    "169.254.1.1",
    "fe80::1",
    "fe80::1%eth0",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "::a9fe:a9fe",
    "fd00:ec2::254",
    "168.63.129.16",
    "100.100.100.200",
)
NOBODY = ("0.0.0.0", "0.1.2.3", "255.255.255.255", "240.0.0.1", "224.0.0.1", "::", "ff02::1", "::ffff:0.0.0.0")  # noqa: S104 - judged, not bound


@pytest.mark.parametrize(
    ("rule", "allowed"),
    [
        (AddressRule(), {*PUBLIC, *PRIVATE}),
        (AddressRule(private=False), {*PUBLIC}),
        (AddressRule(link_local=True), {*PUBLIC, *PRIVATE, *LINK_LOCAL}),
    ],
)
def test_what_each_setting_allows(rule, allowed):
    """The default is for services inside: what is private is allowed, what a typing error should never reach is not."""
    for text in (*PUBLIC, *PRIVATE, *LINK_LOCAL, *NOBODY):
        objection = rule.objection(ipaddress.ip_address(text))
        assert (objection == "") == (text in allowed), (text, objection)


def test_an_objection_names_the_key_that_lifts_it():
    assert "allow_private" in AddressRule(private=False).objection(ipaddress.ip_address("10.0.0.1"))
    assert "allow_link_local" in AddressRule().objection(ipaddress.ip_address("169.254.0.1"))


@given(st.ip_addresses(v=4), st.booleans(), st.booleans())
def test_an_ipv4_address_is_judged_the_same_in_whatever_it_is_wrapped(address, private, link_local):
    """Law: none of the ways in which IPv6 carries an IPv4 address leads to one that is not allowed itself."""
    rule = AddressRule(private, link_local)
    number = int(address)
    if rule.objection(address):
        for prefix, shift in ((0xFFFF << 32, 0), (0x0064FF9B << 96, 0), (0x2002 << 112, 80)):
            assert rule.objection(ipaddress.IPv6Address(prefix | number << shift)), (address, hex(prefix))
    assert bool(rule.objection(ipaddress.IPv6Address(0xFFFF << 32 | number))) == bool(rule.objection(address))
