"""Sickbay's kernel and handler SDK: `from sickbay import Job, JobError, handler`."""

from sickbay.errors import JobError
from sickbay.job import Job
from sickbay.sdk import handler

__all__ = ["Job", "JobError", "handler"]
