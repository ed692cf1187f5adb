"""JobTypeService: which job types to list, and conversion of job types to protobuf."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sickbay.contract.responses import text, timestamp
from sickbay.domain.job_type import JobType
from sickbay.jobs.v1 import job_type_pb2


def page(found: Mapping[str, JobType], after: str, limit: int) -> tuple[Sequence[JobType], str]:
    """The first `limit` types after the name `after`, in order, and the cursor of the next page, empty on the last."""
    rest = [one for name, one in sorted(found.items()) if name > after]
    return rest[:limit], rest[limit - 1].name if len(rest) > limit else ""


def job_type(found: JobType) -> job_type_pb2.JobType:
    """A job type, with the newest of its schemas."""
    view = job_type_pb2.JobType(
        job_type=text(found.name),
        validated_on_submit=found.on_submit,
        workers=found.workers,
        pools=map(text, found.pools),
        announce_time=timestamp(found.newest.at) if found.newest else None,
    )
    if (newest := found.newest) is not None:
        view.schema_json = text(newest.schema.schema_json.decode("utf-8", "replace"))
        view.description, view.handler = text(newest.schema.description), text(newest.schema.handler)
        view.schemas = len(found.schemas)
    return view
