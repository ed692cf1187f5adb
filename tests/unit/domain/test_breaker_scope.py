"""Which breaker decides about a job."""

from hypothesis import given
from hypothesis import strategies as st

from sickbay.domain.breaker import BreakerKey, BreakerScope
from sickbay.domain.job import DEFAULT_TENANT

NAMES = st.text("abc", min_size=1, max_size=3)


def test_all_tenants_share_the_breaker_of_a_type_unless_told_otherwise():
    assert BreakerScope.TYPE.key_of("email", "acme") == BreakerScope.TYPE.key_of("email", "default") == BreakerKey("email")
    assert BreakerScope.TENANT.key_of("email", "acme") == BreakerKey("email", "acme")


@given(st.sampled_from(BreakerScope), NAMES, NAMES)
def test_the_breaker_of_a_job_is_in_use(scope, job_type, tenant):
    assert scope.is_in_use(scope.key_of(job_type, tenant))


@given(st.sampled_from(BreakerScope), NAMES, st.just(DEFAULT_TENANT) | NAMES)
def test_a_breaker_is_in_use_if_jobs_of_its_own_type_and_tenant_ask_it(scope, job_type, tenant):
    key = BreakerKey(job_type, tenant)
    assert scope.is_in_use(key) == (scope.key_of(*key) == key)


def test_the_breaker_of_a_tenant_is_in_use_only_if_tenants_have_their_own():
    acme = BreakerKey("email", "acme")
    assert (BreakerScope.TYPE.is_in_use(acme), BreakerScope.TENANT.is_in_use(acme)) == (False, True)
