"""The commands about jobs that were set aside: list, show and groups here, resubmit and discard in `redrive.py`."""

from __future__ import annotations

import click
import msgspec
from google.protobuf.duration_pb2 import Duration

from gen.sickbay.jobs.v1.job_pb2 import Job
from gen.sickbay.jobs.v1.quarantine_service_pb2 import (
    FailureGroup,
    GetQuarantinedJobRequest,
    ListFailureGroupsRequest,
    ListQuarantinedJobsRequest,
    QuarantinedJob,
)
from sickbay.job import Reason
from sickbay.rpc.views import failure_group_view, quarantined_view
from sickbay_cli import client, options
from sickbay_cli.jobs import now
from sickbay_cli.options import Endpoint, examples
from sickbay_cli.output import document, more, pages, remark
from sickbay_cli.redrive import discard, resubmit
from sickbay_cli.tables import show_case, show_cases, show_groups
