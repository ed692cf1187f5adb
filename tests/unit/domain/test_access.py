"""What a principal sees, and for which tenants it acts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sickbay.domain.access import ANYBODY, Kind, Principal, Role
from sickbay.domain.errors import PermissionDenied
from sickbay.domain.job import DEFAULT_TENANT

NAMES = st.sampled_from(["default", "acme", "beta", "gamma"])
TENANTS = st.none() | st.frozensets(NAMES)


def principal(tenants=None, *roles, name="shop"):
    return Principal(name, frozenset(roles or {Role.SUBMIT}), tenants)


@given(TENANTS, st.just("") | NAMES)
def test_a_list_never_has_more_than_what_is_seen(tenants, asked):
    who = principal(tenants)
    found = who.filter(asked)
    if tenants is None and not asked:
        assert found is None
    else:
        assert all(who.sees(tenant) and asked in ("", tenant) for tenant in found)
        assert found == (tenants if not asked else {asked} if who.sees(asked) else frozenset())


@given(TENANTS, st.just("") | NAMES)
def test_something_new_has_a_tenant_that_is_seen(tenants, asked):
    who = principal(tenants)
    try:
        tenant = who.tenant(asked)
    except PermissionDenied:
        assert not who.sees(asked or DEFAULT_TENANT)
        assert asked or len(tenants) != 1
    else:
        assert who.sees(tenant)
        assert tenant == (asked or (DEFAULT_TENANT if tenants is None or len(tenants) > 1 else next(iter(tenants))))


def test_everybody_while_access_control_is_off():
    assert (ANYBODY.tenant(), ANYBODY.tenant("acme"), ANYBODY.filter(), ANYBODY.filter("acme")) == ("default", "acme", None, {"acme"})
    assert ANYBODY.actor("ada") == "ada"
    ANYBODY.check_all_tenants("it")


def test_the_actor_is_the_principal_whatever_is_claimed():
    assert principal().actor("somebody else") == "shop"


def test_what_concerns_all_tenants_names_those_it_has():
    with pytest.raises(PermissionDenied, match="the breaker of email concerns all tenants, and shop has only acme, beta"):
        principal(frozenset({"beta", "acme"})).check_all_tenants("the breaker of email")


def test_a_known_principal_has_a_name():
    with pytest.raises(ValueError, match="needs a name"):
        Principal("", frozenset(), kind=Kind.KEY)
