"""Whose parked jobs are released."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from controlplane.tenant_turns import MAX_TENANTS, TenantTurns
from sickbay.domain.breaker import BreakerKey

EMAIL = BreakerKey("email")
PARKED = st.dictionaries(st.integers(0, 60).map(lambda number: BreakerKey("email", f"t{number:02}")), st.integers(1, 80), min_size=1)


def of(**counts):
    return {BreakerKey("email", tenant): count for tenant, count in counts.items()}


def test_without_tenants_the_whole_window_is_for_the_one():
    assert list(TenantTurns().share(EMAIL, {EMAIL: 400}, 50)) == [(EMAIL, 50)]
    assert list(TenantTurns().share(EMAIL, {EMAIL: 4}, 50)) == [(EMAIL, 4)]


def test_a_backlog_leaves_room_for_the_others_and_takes_what_they_do_not_need():
    assert dict(TenantTurns().share(EMAIL, of(big=5_000, small=3, tiny=1), 50)) == of(big=46, small=3, tiny=1)


def test_single_jobs_are_of_one_tenant_after_the_other():
    turns, parked = TenantTurns(), of(a=9, b=9, c=9)
    seen = [owner.tenant for _ in range(7) for owner, _ in turns.share(EMAIL, parked, 1)]
    assert seen == ["a", "b", "c", "a", "b", "c", "a"]


def test_nothing_is_remembered_of_breakers_without_parked_jobs():
    turns = TenantTurns()
    turns.share(EMAIL, of(a=1, b=1), 1)
    turns.retain(())
    assert turns.share(EMAIL, of(a=1, b=1), 1) == [(BreakerKey("email", "a"), 1)]


@given(PARKED, st.integers(0, 60))
def test_a_release_is_within_its_limit_and_wastes_nothing(parked, limit):
    shares = dict(TenantTurns().share(EMAIL, parked, limit))
    assert all(0 < share <= parked[owner] for owner, share in shares.items())
    assert sum(shares.values()) <= limit
    assert sum(shares.values()) == min(limit, sum(parked[owner] for owner in shares))
    assert len(shares) == min(limit, MAX_TENANTS, len(parked))


@given(PARKED, st.integers(1, 60))
def test_no_tenant_waits_longer_than_a_round(parked, limit):
    turns = TenantTurns()
    rounds = -(-len(parked) // min(limit, MAX_TENANTS))
    served = {owner for _ in range(rounds) for owner, _ in turns.share(EMAIL, parked, limit)}
    assert served == parked.keys()


@given(PARKED, st.integers(1, 60))
def test_every_parked_job_is_released(parked, limit):
    turns, left, released = TenantTurns(), dict(parked), Counter()
    while left:
        shares = dict(turns.share(EMAIL, left, limit))
        released.update(shares)
        left = {owner: rest for owner, count in left.items() if (rest := count - shares.get(owner, 0))}
    assert released == parked
