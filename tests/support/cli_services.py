"""A fake fleet for the CLI's tests: all three services on one gRPC server, each call answered as the test says and remembered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import grpc
from click.testing import CliRunner, Result
from grpc_health.v1 import health_pb2, health_pb2_grpc

from sickbay.audit.v1 import audit_service_pb2_grpc
from sickbay.breakers.v1 import breaker_service_pb2_grpc, incident_service_pb2_grpc
from sickbay.contract.faults import Fault
from sickbay.jobs.v1 import (
    job_pb2,
    job_service_pb2_grpc,
    job_type_service_pb2_grpc,
    quarantine_service_pb2,
    quarantine_service_pb2_grpc,
    scheduled_job_service_pb2,
    scheduled_job_service_pb2_grpc,
    worker_service_pb2_grpc,
)
from sickbay.schedules.v1 import schedule_pb2, schedule_service_pb2_grpc
from sickbay.server.errors import rich_status
from sickbay_cli.program import cli

JOB_ID = "01a20bed-89cf-7e32-affc-ab0ca5ad0554"
_ADDED = (
    (job_service_pb2_grpc.JobServiceServicer, job_service_pb2_grpc.add_JobServiceServicer_to_server),
    (quarantine_service_pb2_grpc.QuarantineServiceServicer, quarantine_service_pb2_grpc.add_QuarantineServiceServicer_to_server),
    (breaker_service_pb2_grpc.BreakerServiceServicer, breaker_service_pb2_grpc.add_BreakerServiceServicer_to_server),
    (audit_service_pb2_grpc.AuditServiceServicer, audit_service_pb2_grpc.add_AuditServiceServicer_to_server),
    (incident_service_pb2_grpc.IncidentServiceServicer, incident_service_pb2_grpc.add_IncidentServiceServicer_to_server),
    (job_type_service_pb2_grpc.JobTypeServiceServicer, job_type_service_pb2_grpc.add_JobTypeServiceServicer_to_server),
    (worker_service_pb2_grpc.WorkerServiceServicer, worker_service_pb2_grpc.add_WorkerServiceServicer_to_server),
    (scheduled_job_service_pb2_grpc.ScheduledJobServiceServicer, scheduled_job_service_pb2_grpc.add_ScheduledJobServiceServicer_to_server),
    (schedule_service_pb2_grpc.ScheduleServiceServicer, schedule_service_pb2_grpc.add_ScheduleServiceServicer_to_server),
    (health_pb2_grpc.HealthServicer, health_pb2_grpc.add_HealthServicer_to_server),
)


class Fleet:
    """`answers` maps a method to a message, a list of messages (a stream), a Fault, or a function of the request that returns one."""

    def __init__(self, credentials: grpc.ServerCredentials | None = None) -> None:
        self._credentials = credentials
        self.answers: dict[str, Any] = {"Check": health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)}
        self.trailers: tuple[tuple[str, bytes], ...] = ()
        self.calls: list[tuple[str, Any]] = []
        self.metadata: list[dict[str, str]] = []
        self._server = grpc.server(ThreadPoolExecutor(4))

    def __enter__(self) -> Self:
        for kind, add in _ADDED:
            names = [name for name in vars(kind) if name[0].isupper()]
            servicer = type(kind.__name__, (kind,), {name: self._method(name) for name in names})
            add(servicer(), self._server)
        port = (
            self._server.add_secure_port("127.0.0.1:0", self._credentials)
            if self._credentials
            else self._server.add_insecure_port("127.0.0.1:0")
        )
        self.address = f"localhost:{port}"
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0).wait()

    @property
    def requests(self) -> list[Any]:
        return [request for _, request in self.calls]

    @property
    def env(self) -> dict[str, str]:
        return dict.fromkeys(("SICKBAY_JOBAPI", "SICKBAY_WORKER", "SICKBAY_CONTROL_PLANE"), self.address)

    def run(self, *args: str, stdin: str | bytes | None = None, **env: str) -> Result:
        """The command in this process, as in a pipe."""
        return CliRunner().invoke(cli, args, input=stdin, env=self.env | env, catch_exceptions=False)

    def json(self, *args: str, stdin: str | bytes | None = None) -> Any:
        """What the command prints with --json, which must end well."""
        result = self.run(*args, "--json", stdin=stdin)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    def start(self, *args: str, **options: Any) -> subprocess.Popen[bytes]:
        """The command as a process of its own, that hears Ctrl-C also when the tests run in a background that does not."""
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        return subprocess.Popen(
            ["env", "--default-signal=INT", sys.executable, "-m", "sickbay_cli", *args], env=os.environ | self.env, **options
        )

    def _method(self, name: str) -> Any:
        def unary(_: object, request: Any, context: grpc.ServicerContext) -> Any:
            answer = self._answer(name, request, context)
            context.set_trailing_metadata(self.trailers)
            if isinstance(answer, Fault):
                context.abort_with_status(rich_status(answer))
            return answer

        def stream(_: object, request: Any, context: grpc.ServicerContext) -> Any:
            for answer in self._answer(name, request, context):
                if isinstance(answer, Fault):
                    context.abort_with_status(rich_status(answer))
                yield answer

        return stream if name.startswith("Watch") else unary

    def _answer(self, name: str, request: Any, context: grpc.ServicerContext) -> Any:
        self.calls.append((name, request))
        self.metadata.append(dict(context.invocation_metadata()))
        if name not in self.answers:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not implemented!")
        answer = self.answers[name]
        return answer(request) if callable(answer) else answer


NOT_FOUND = Fault(grpc.StatusCode.NOT_FOUND, "there is no such job", "JOB_NOT_FOUND")
REFUSED = Fault(grpc.StatusCode.FAILED_PRECONDITION, "the job is RUNNING and can no longer be cancelled", "WRONG_STATE")
BUSY = Fault(grpc.StatusCode.UNAVAILABLE, "the broker does not answer", "BACKEND_UNAVAILABLE", 2.0)


def job(job_id: str = JOB_ID, state: str = "QUEUED", **fields: Any) -> job_pb2.Job:
    """A job as services tell it."""
    known = job_pb2.Job(job_id=job_id, job_type="email", tenant="default", state=job_pb2.Job.State.Value(f"STATE_{state}"), **fields)
    known.submit_time.FromMilliseconds(1_700_000_000_000)
    known.update_time.FromMilliseconds(1_700_000_060_000)
    return known


def failed(code: str, message: str) -> job_pb2.AttemptError:
    """One failed run."""
    return job_pb2.AttemptError(code=code, message=message, attempt=1)


def case(job_id: str = JOB_ID, **fields: Any) -> quarantine_service_pb2.QuarantinedJob:
    """A set-aside job as services tell it."""
    return quarantine_service_pb2.QuarantinedJob(
        job=job(job_id, "QUARANTINED", errors=[failed("VALIDATION_ERROR", "no address")]),
        reason=quarantine_service_pb2.QuarantinedJob.REASON_RETRIES_EXHAUSTED,
        etag=f"etag-{job_id}",
        **fields,
    )


DUE_MS = 4_000_000_000_000
"""2096-10-02T07:06:40Z: always in the future."""


def scheduled(job_id: str = JOB_ID, due_ms: int = DUE_MS, **fields: Any) -> scheduled_job_service_pb2.ScheduledJob:
    """A job that is to run later as services tell it."""
    known = scheduled_job_service_pb2.ScheduledJob(job=job(job_id, "SCHEDULED"), etag=f"etag-{job_id}", **fields)
    known.job.run_time.FromMilliseconds(due_ms)
    return known


def schedule(schedule_id: str = "nightly", state: str = "ACTIVE", payload: str = "", **fields: Any) -> schedule_pb2.Schedule:
    """A schedule as services tell it: without its payload, as in lists, unless one is given; `fields` are those of its spec."""
    spec = schedule_pb2.ScheduleSpec(
        **{
            "job_type": "report",
            "cron": "0 3 * * *",
            "timezone": "Europe/Berlin",
            "priority": job_pb2.PRIORITY_NORMAL,
            "overlap": schedule_pb2.OVERLAP_SKIP,
            "while_open": schedule_pb2.WHILE_OPEN_RUN,
        }
        | fields
    )
    if payload:
        spec.payload_json = payload
    if not spec.HasField("catch_up_window"):
        spec.catch_up_window.FromSeconds(86_400)
    known = schedule_pb2.Schedule(
        schedule_id=schedule_id,
        tenant="default",
        spec=spec,
        state=schedule_pb2.Schedule.State.Value(f"STATE_{state}"),
        origin=schedule_pb2.Schedule.ORIGIN_API,
        etag=f"etag-{schedule_id}",
    )
    known.create_time.FromMilliseconds(1_700_000_000_000)
    known.update_time.FromMilliseconds(1_700_000_060_000)
    if state == "ACTIVE":
        for day in range(5):
            known.next_times.add().FromMilliseconds(DUE_MS + day * 86_400_000)
    return known


def schedule_run(outcome: str = "SUBMITTED", job_state: str = "SUCCEEDED", **fields: Any) -> schedule_pb2.ScheduleRun:
    """A run of a schedule as services tell it."""
    run = schedule_pb2.ScheduleRun(
        **{"trigger": schedule_pb2.ScheduleRun.TRIGGER_TICK, "count": 1} | fields,
        outcome=schedule_pb2.ScheduleRun.Outcome.Value(f"OUTCOME_{outcome}"),
    )
    run.tick_time.FromMilliseconds(1_700_000_000_000)
    run.handle_time.FromMilliseconds(1_700_000_000_400)
    if outcome == "SUBMITTED":
        run.job_id = run.job_id or JOB_ID
        run.job_state = job_pb2.Job.State.Value(f"STATE_{job_state}")
    return run
