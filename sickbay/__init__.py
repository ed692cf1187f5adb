"""Sickbay's kernel and handler SDK: `from sickbay import Job, JobError, handler`."""

from sickbay.domain.errors import JobError, SubmitError
from sickbay.domain.job import Job
from sickbay.handlers.lifespan import lifespan, shutdown, startup
from sickbay.handlers.payloads.naming import job_type
from sickbay.handlers.registry import handler
from sickbay.handlers.schedules import Schedule

__all__ = ["Job", "JobError", "Schedule", "SubmitError", "handler", "job_type", "lifespan", "shutdown", "startup"]
