"""Breakers and incidents as tenants see them: nothing of a shared one that is from others."""

from dataclasses import fields, replace

from hypothesis import given
from hypothesis import strategies as st

from sickbay.domain.access import Principal, Role
from sickbay.domain.breaker import BreakerKey, BreakerScope, BreakerState, DependencyRule, Snapshot
from sickbay.domain.breaker_sharing import concerns, is_of_all, shown_to
from sickbay.domain.incident import Acknowledgement, Cause, Entry, EntryKind, FailedJob, Incident, JobCounts
from sickbay.domain.incident_sharing import incident_for, tenants_of_incidents

ACME = frozenset({"acme"})
SECRET = "secret"
BREAKER = Snapshot(
    BreakerKey("email"), BreakerState.HALF_OPEN, 1, 2, 3, trips=2, reason_code="API_TIMEOUT", reason_count=5, reason_message=SECRET,
    total_failures=77, recent_runs=88, recent_failure_rate=0.5, probe_job_id=SECRET, forced_by=SECRET, forced_why=SECRET,
)  # fmt: skip
INCIDENT = Incident(
    key=BreakerKey("email"), opened_at=1, cause=Cause("API_TIMEOUT", SECRET, 5, (FailedJob(SECRET, SECRET),)), rev=1, seen_at=1,
    outage_at=1,    state=BreakerState.OPEN, trips=1, number=3, probe_job_id=SECRET, jobs=JobCounts(77, 77, 77),
    timeline=(Entry(1, EntryKind.OPENED, "API_TIMEOUT", SECRET, SECRET, SECRET),), acknowledged=Acknowledgement(2, SECRET, SECRET),
)  # fmt: skip
SCOPES = st.sampled_from(BreakerScope)
RULES = SCOPES | st.builds(DependencyRule, SCOPES, st.just(lambda: {"email": "smtp"}))
KEYS = st.builds(BreakerKey, st.sampled_from(["email", "sms", "dependency:smtp"]), st.sampled_from(["default", "acme", "beta"]))
SOME = st.frozensets(st.sampled_from(["default", "acme", "beta"]))


@given(RULES, KEYS, SOME)
def test_a_breaker_concerns_those_who_have_its_tenant_and_a_shared_one_everybody_with_a_tenant(rule, key, tenants):
    shared = is_of_all(rule, key)
    assert concerns(rule, key, tenants) == (key.tenant in tenants or (shared and bool(tenants)))
    assert concerns(rule, key, None)
    scope = rule if isinstance(rule, BreakerScope) else rule.scope
    assert shared == (scope is BreakerScope.TYPE and key.tenant == "default")


@given(RULES, KEYS, SOME)
def test_of_a_shared_breaker_nothing_of_others_is_shown(rule, key, tenants):
    breaker = replace(BREAKER, key=key)
    shown = shown_to(rule, breaker, tenants)
    assert shown_to(rule, breaker, None) is breaker
    if is_of_all(rule, key):
        assert SECRET not in str(shown)
        assert {77, 88}.isdisjoint(getattr(shown, one.name) for one in fields(shown))
        assert (shown.redacted, shown.state, shown.trips, shown.reason_code) == (True, breaker.state, 2, "API_TIMEOUT")
    else:
        assert shown is breaker


def test_who_sees_a_job_may_know_that_it_is_the_probe():
    assert shown_to(BreakerScope.TYPE, BREAKER, ACME, own_job=SECRET).probe_job_id == SECRET
    assert shown_to(BreakerScope.TYPE, BREAKER, ACME, own_job="another").probe_job_id == ""


def test_of_the_incident_of_a_shared_breaker_nothing_of_others_is_shown():
    shown, redacted = incident_for(BreakerScope.TYPE, INCIDENT, ACME)
    assert redacted
    assert SECRET not in str(shown)
    assert "77" not in str(shown)
    assert (shown.number, shown.cause.code, len(shown.timeline), shown.acknowledged.at) == (3, "API_TIMEOUT", 1, 2)
    assert incident_for(BreakerScope.TYPE, INCIDENT, None) == (INCIDENT, False)


def test_the_incident_of_a_tenant_is_its_own():
    own = replace(INCIDENT, key=BreakerKey("email", "acme"))
    for scope in BreakerScope:
        assert incident_for(scope, own, ACME) == (own, False)
        assert incident_for(scope, own, frozenset({"beta"})) is None
    assert incident_for(BreakerScope.TENANT, INCIDENT, ACME) is None
    assert incident_for(BreakerScope.TYPE, INCIDENT, frozenset()) is None


def test_lists_of_incidents_have_those_of_shared_breakers_unless_a_tenant_is_asked_for():
    some, every = Principal("shop", frozenset({Role.VIEW}), ACME), Principal("root", frozenset({Role.VIEW}))
    assert tenants_of_incidents(BreakerScope.TYPE, some, "") == {"acme", "default"}
    assert tenants_of_incidents(BreakerScope.TENANT, some, "") == {"acme"}
    assert tenants_of_incidents(BreakerScope.TYPE, some, "acme") == {"acme"}
    assert tenants_of_incidents(BreakerScope.TYPE, some, "default") == frozenset()
    assert tenants_of_incidents(BreakerScope.TYPE, every, "") is None
