"""Which breakers concern which tenants, and what a principal with some of them sees of one that others share. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from sickbay.domain.access import Tenants
from sickbay.domain.breaker import BreakerKey, BreakerRule, Snapshot
from sickbay.domain.job import DEFAULT_TENANT

_ANYBODY: Final = "anybody"
"""A tenant of which it is asked whether it has breakers of its own."""


def is_shared(rule: BreakerRule, job_type: str) -> bool:
    """Whether all tenants share the breaker of this job type, or of this dependency."""
    return rule.key_of(job_type, _ANYBODY).tenant != _ANYBODY


def is_of_all(rule: BreakerRule, key: BreakerKey) -> bool:
    """Whether this is a breaker that all tenants share, and not one that a tenant had by an earlier rule."""
    return key.tenant == DEFAULT_TENANT and is_shared(rule, key.job_type)


def concerns(rule: BreakerRule, key: BreakerKey, tenants: Tenants) -> bool:
    """Whether this breaker decides about jobs of any of these tenants."""
    return tenants is None or key.tenant in tenants or (bool(tenants) and is_of_all(rule, key))


def shown_to(rule: BreakerRule, breaker: Snapshot, tenants: Tenants, own_job: str = "") -> Snapshot:
    """The breaker as those may see it who have only these tenants: of a shared one without what is from other tenants.

    That are messages, job ids, what people wrote, and counts of runs. `own_job` is a job that they see, and may know to be the probe.
    """
    if tenants is None or not is_of_all(rule, breaker.key):
        return breaker
    return replace(
        breaker,
        reason_message="",
        total_failures=0,
        recent_runs=0,
        recent_failure_rate=None,
        probe_job_id=breaker.probe_job_id if breaker.probe_job_id == own_job else "",
        forced_by="",
        forced_why="",
        redacted=True,
    )
