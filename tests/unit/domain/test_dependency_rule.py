"""Which breaker decides about a job whose type has a dependency."""

from hypothesis import given
from hypothesis import strategies as st

from sickbay.domain.breaker import DEPENDENCY, BreakerKey, BreakerScope, DependencyRule
from sickbay.domain.job import DEFAULT_TENANT, is_name

NAMES = st.text("abc", min_size=1, max_size=2)
SMTP = BreakerKey("dependency:smtp")


def rule(scope=BreakerScope.TYPE, **dependencies):
    """The rule with these dependencies of job types."""
    return DependencyRule(scope, lambda: dependencies)


def test_types_with_one_dependency_share_its_breaker():
    """And the others keep their own."""
    ours = rule(email="smtp", sms="smtp")
    assert ours.key_of("email", "acme") == ours.key_of("sms", "default") == SMTP
    assert ours.key_of("push", "acme") == BreakerKey("push")
    assert (ours.job_types(SMTP), ours.job_types(BreakerKey("push"))) == (["email", "sms"], ())
    assert (SMTP.dependency, BreakerKey("smtp").dependency) == ("smtp", "")


def test_with_breakers_of_tenants_each_has_its_own_of_the_dependency():
    """As of a type."""
    ours = rule(BreakerScope.TENANT, email="smtp")
    assert ours.key_of("email", "acme") == BreakerKey("dependency:smtp", "acme")
    assert ours.job_types(BreakerKey("dependency:smtp", "acme")) == ["email"]


def test_a_changed_file_leaves_breakers_that_nobody_asks():
    """That of the type when it gets a dependency, that of the dependency when its last type leaves it."""
    dependencies = {"email": "smtp"}
    ours = DependencyRule(BreakerScope.TYPE, lambda: dependencies)
    assert (ours.is_in_use(BreakerKey("email")), ours.is_in_use(SMTP)) == (False, True)
    dependencies.clear()
    assert (ours.is_in_use(BreakerKey("email")), ours.is_in_use(SMTP)) == (True, False)


@given(st.sampled_from(BreakerScope), st.dictionaries(NAMES, NAMES), st.booleans(), NAMES, st.just(DEFAULT_TENANT) | NAMES)
def test_a_breaker_is_in_use_if_a_type_of_its_tenant_asks_it(scope, dependencies, of_dependency, name, tenant):
    """Whether it is that of a type or of a dependency."""
    ours = DependencyRule(scope, lambda: dependencies)
    key = BreakerKey(f"{DEPENDENCY}{name}" if of_dependency else name, tenant)
    job_types = {*dependencies} if of_dependency else {*dependencies, name}
    assert ours.is_in_use(key) == any(ours.key_of(job_type, tenant) == key for job_type in job_types)


@given(st.sampled_from(BreakerScope), st.dictionaries(NAMES, NAMES), NAMES, NAMES)
def test_the_breaker_of_a_job_is_in_use_and_decides_about_itself(scope, dependencies, job_type, tenant):
    """Laws of every rule."""
    ours = DependencyRule(scope, lambda: dependencies)
    key = ours.key_of(job_type, tenant)
    assert ours.is_in_use(key)
    assert ours.key_of(*key) == key
    assert (job_type in ours.job_types(key)) == bool(key.dependency)


@given(st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True))
def test_no_job_type_has_the_name_of_a_dependency(name):
    """So their breakers cannot be taken for each other."""
    assert is_name(name)
    assert not is_name(DEPENDENCY + name)
