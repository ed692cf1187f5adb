"""A logger whose lines have the job they are about, made when a handler asks for it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from sickbay.domain.trace import trace_id_of

if TYPE_CHECKING:
    from sickbay.domain.job import Job


class JobLogger(logging.LoggerAdapter[logging.Logger]):
    """Adds its own fields to those of each line; of two with one name that of the line counts."""

    def __init__(self, logger: logging.Logger, fields: Mapping[str, object]) -> None:
        """`fields` are those of the job."""
        super().__init__(logger, fields)
        self.fields = fields

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Called for each line that is logged."""
        return msg, {**kwargs, "extra": {**self.fields, **(kwargs.get("extra") or {})}}


def logger_of(job: Job, run: str) -> JobLogger:
    """The logger of a job; `run` names its run, empty outside of a worker."""
    fields: dict[str, object] = {
        "job_id": job.job_id,
        "job_type": job.job_type,
        "tenant": job.tenant,
        "attempt": job.attempt,
        "generation": job.generation,
    }
    if run:
        fields["run"] = run
    if trace_id := trace_id_of(job.trace):
        fields["trace_id"] = trace_id
    return JobLogger(logging.getLogger(f"job.{job.job_type}"), fields)
