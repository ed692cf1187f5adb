"""The one table of who may call what: a rule for every RPC, and for what is served over HTTP beside them.

A test compares it with the contract: an RPC without a rule fails it, and is refused to everybody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from sickbay.domain.access import Right

_JOBS: Final = "/sickbay.jobs.v1.JobService/"
_TYPES: Final = "/sickbay.jobs.v1.JobTypeService/"
_QUARANTINE: Final = "/sickbay.jobs.v1.QuarantineService/"
_SCHEDULED: Final = "/sickbay.jobs.v1.ScheduledJobService/"
_WORKERS: Final = "/sickbay.jobs.v1.WorkerService/"
_BREAKERS: Final = "/sickbay.breakers.v1.BreakerService/"
_INCIDENTS: Final = "/sickbay.breakers.v1.IncidentService/"
_SCHEDULES: Final = "/sickbay.schedules.v1.ScheduleService/"
_AUDIT: Final = "/sickbay.audit.v1.AuditService/"


@dataclass(frozen=True, slots=True)
class Rule:
    """Which right a call needs (None: any principal will do), and whether it is an action for the audit log.

    `all_tenants`: what it does or shows concerns all tenants, so that a principal with some of them may not.
    """

    right: Right | None
    is_action: bool = False
    all_tenants: bool = False


RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        f"{_JOBS}SubmitJob": Rule(Right.SUBMIT),
        f"{_JOBS}BatchSubmitJobs": Rule(Right.SUBMIT),
        f"{_JOBS}GetJob": Rule(Right.FOLLOW),
        f"{_JOBS}ExplainJob": Rule(Right.FOLLOW),
        f"{_JOBS}ListJobs": Rule(Right.FOLLOW),
        f"{_JOBS}WatchJob": Rule(Right.FOLLOW),
        f"{_JOBS}CancelJob": Rule(Right.CANCEL, is_action=True),
        f"{_TYPES}ListJobTypes": Rule(Right.FOLLOW),
        f"{_TYPES}GetJobType": Rule(Right.FOLLOW),
        f"{_QUARANTINE}ListQuarantinedJobs": Rule(Right.VIEW),
        f"{_QUARANTINE}GetQuarantinedJob": Rule(Right.VIEW),
        f"{_QUARANTINE}ListFailureGroups": Rule(Right.VIEW),
        f"{_QUARANTINE}ResubmitJob": Rule(Right.OPERATE, is_action=True),
        f"{_QUARANTINE}DiscardJob": Rule(Right.OPERATE, is_action=True),
        f"{_QUARANTINE}RequeueJobs": Rule(Right.OPERATE, is_action=True),
        f"{_SCHEDULED}ListScheduledJobs": Rule(Right.FOLLOW),
        f"{_SCHEDULED}GetScheduledJob": Rule(Right.FOLLOW),
        f"{_SCHEDULED}UpdateScheduledJob": Rule(Right.CANCEL, is_action=True),
        f"{_SCHEDULED}RunScheduledJob": Rule(Right.CANCEL, is_action=True),
        f"{_SCHEDULED}CancelScheduledJob": Rule(Right.CANCEL, is_action=True),
        f"{_WORKERS}ListWorkers": Rule(Right.VIEW),
        f"{_WORKERS}Work": Rule(Right.WORK, is_action=True, all_tenants=True),
        f"{_BREAKERS}ListBreakers": Rule(Right.VIEW),
        f"{_BREAKERS}GetBreaker": Rule(Right.VIEW),
        f"{_BREAKERS}ExplainBreaker": Rule(Right.VIEW),
        f"{_BREAKERS}WatchBreakers": Rule(Right.VIEW),
        f"{_BREAKERS}GetMetrics": Rule(Right.VIEW, all_tenants=True),
        f"{_BREAKERS}ResetBreaker": Rule(Right.OPERATE, is_action=True),
        f"{_BREAKERS}ForceOpenBreaker": Rule(Right.OPERATE, is_action=True),
        f"{_BREAKERS}DisableBreaker": Rule(Right.OPERATE, is_action=True),
        f"{_BREAKERS}SetBreakerMetricsOnly": Rule(Right.OPERATE, is_action=True),
        f"{_BREAKERS}SetBreakerAuto": Rule(Right.OPERATE, is_action=True),
        f"{_BREAKERS}ProbeBreaker": Rule(Right.OPERATE, is_action=True),
        f"{_INCIDENTS}ListIncidents": Rule(Right.VIEW),
        f"{_INCIDENTS}GetIncident": Rule(Right.VIEW),
        f"{_INCIDENTS}AcknowledgeIncident": Rule(Right.OPERATE, is_action=True),
        f"{_SCHEDULES}ListSchedules": Rule(Right.VIEW),
        f"{_SCHEDULES}GetSchedule": Rule(Right.VIEW),
        f"{_SCHEDULES}ListScheduleRuns": Rule(Right.VIEW),
        f"{_SCHEDULES}CreateSchedule": Rule(Right.OPERATE, is_action=True),
        f"{_SCHEDULES}UpdateSchedule": Rule(Right.OPERATE, is_action=True),
        f"{_SCHEDULES}DeleteSchedule": Rule(Right.OPERATE, is_action=True),
        f"{_SCHEDULES}PauseSchedule": Rule(Right.OPERATE, is_action=True),
        f"{_SCHEDULES}ResumeSchedule": Rule(Right.OPERATE, is_action=True),
        f"{_SCHEDULES}TriggerSchedule": Rule(Right.OPERATE, is_action=True),
        f"{_SCHEDULES}BackfillSchedule": Rule(Right.OPERATE, is_action=True),
        f"{_AUDIT}ListAuditEntries": Rule(Right.AUDIT),
    }
)
"""By full name, as in a call's `:path`."""

HEALTH_PATHS: Final = frozenset({"/health", "/health/ready", "/health/live"})
"""These need no principal, over gRPC neither (grpc.health.v1)."""
METRICS_PATH: Final = "/metrics"
METRICS: Final = Rule(Right.VIEW, all_tenants=True)
"""The rule of `GET /metrics`. Every other path that is not an RPC, such as /docs, is for any principal."""
