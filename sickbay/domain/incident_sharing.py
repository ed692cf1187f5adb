"""What a principal with some tenants sees of the incident of a breaker that all tenants share. Pure."""

from __future__ import annotations

from dataclasses import replace

from sickbay.domain.access import Principal, Tenants
from sickbay.domain.breaker import BreakerRule
from sickbay.domain.breaker_sharing import concerns, is_of_all, is_shared
from sickbay.domain.incident import Incident, JobCounts
from sickbay.domain.job import DEFAULT_TENANT


def tenants_of_incidents(rule: BreakerRule, principal: Principal, asked: str, job_type: str = "") -> Tenants:
    """The tenants whose incidents are listed: without a filter those of shared breakers, too, which have the default tenant."""
    tenants = principal.filter(asked)
    if tenants and not asked and is_shared(rule, job_type):
        return tenants | {DEFAULT_TENANT}
    return tenants


def incident_for(rule: BreakerRule, incident: Incident, tenants: Tenants) -> tuple[Incident, bool] | None:
    """The incident as those see it who have only these tenants, and whether something was left out; None if it is not theirs.

    Of the incident of a shared breaker only times, codes and the course remain: messages, jobs and their counts, and what people wrote,
    may be from other tenants.
    """
    if not concerns(rule, incident.key, tenants):
        return None
    if tenants is None or not is_of_all(rule, incident.key):
        return incident, False
    noted = incident.acknowledged
    timeline = tuple(replace(entry, message="", actor="", job_id="") for entry in incident.timeline)
    return replace(
        incident,
        cause=replace(incident.cause, message="", jobs=()),
        jobs=JobCounts(),
        probe_job_id="",
        timeline=timeline,
        acknowledged=replace(noted, actor="", note="") if noted is not None else None,
    ), True
