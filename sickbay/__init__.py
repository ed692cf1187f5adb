"""Sickbay's kernel and handler SDK: `from sickbay import Job, JobError, handler`."""

from sickbay.domain.errors import JobError
from sickbay.domain.job import Job
from sickbay.handlers.payloads.naming import job_type
from sickbay.handlers.registry import handler

__all__ = ["Job", "JobError", "handler", "job_type"]
