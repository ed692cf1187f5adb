"""Watching jobs until they have ended, need a person, or the wait has timed out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

import click
import grpc

from sickbay.domain.job import JobState
from sickbay.jobs.v1.job_pb2 import Job
from sickbay.jobs.v1.job_service_pb2 import WatchJobRequest
from sickbay.jobs.v1.job_service_pb2_grpc import JobServiceStub
from sickbay.server.rest.views import change_view, job_view
from sickbay_cli.durations import span
from sickbay_cli.exit_codes import NeedsPerson, TimedOut, Unreachable, Unsuccessful
from sickbay_cli.output import count, record, remark
from sickbay_cli.tables import show_change

_LOOK_S: Final = 5.0
_EARLY_S: Final = 0.05
"""A call's deadline may fire this early."""
_ENDED: Final = frozenset(Job.State.Value(f"STATE_{state}") for state in JobState if state.is_final)


@dataclass(frozen=True, slots=True)
class WaitLimit:
    """How long to wait: until `ends` (`time.monotonic`; None: no timeout), and whether also while a job needs a person."""

    ms: int | None
    ends: float | None
    even_if_quarantined: bool

    @classmethod
    def of(cls, ms: int | None, *, even_if_quarantined: bool) -> WaitLimit:
        """So many milliseconds from now on, for all watched jobs together."""
        return cls(ms, None if ms is None else time.monotonic() + ms / 1000, even_if_quarantined)

    @property
    def left_s(self) -> float | None:
        """The remaining seconds; None without a timeout."""
        return None if self.ends is None else max(0.0, self.ends - time.monotonic())

    @property
    def last_look_s(self) -> float | None:
        """The timeout of a last call when no time is left."""
        return None if self.ends is None else _LOOK_S

    @property
    def is_over(self) -> bool:
        """Whether it has timed out, or is about to."""
        return self.left_s is not None and self.left_s < _EARLY_S


def follow(stub: JobServiceStub, job_ids: Sequence[str], patience: WaitLimit, *, as_json: bool) -> None:
    """Print the changes of each. Raises the error that describes how they ended, the most severe first, unless all SUCCEEDED."""
    states = [_follow(stub, job_id, patience, as_json=as_json) for job_id in job_ids]
    one = f"job {job_ids[0]}" if len(states) == 1 else ""
    quarantined = 0 if patience.even_if_quarantined else sum(state == Job.STATE_QUARANTINED for state in states)
    waiting = sum(state not in _ENDED for state in states) - quarantined
    failed = sum(state in _ENDED and state != Job.STATE_SUCCEEDED for state in states)
    if waiting:
        which = f"{one} has" if one else f"{waiting:,} of {count(len(states), 'job')} have"
        raise TimedOut(f"timed out after {span(patience.ms or 0)} (--for): {which} not ended")
    if quarantined:
        which = f"{one} is QUARANTINED and needs" if one else f"{quarantined:,} of {count(len(states), 'job')} are QUARANTINED and need"
        raise NeedsPerson(f"{which} a person; see `sickbay quarantine {f'show {job_ids[0]}' if one else 'list'}`")
    if failed:
        ended = Job.State.Name(states[0]).removeprefix("STATE_")
        raise Unsuccessful(f"{one} ended {ended}" if one else f"{failed:,} of {count(len(states), 'job')} did not succeed")


def _follow(stub: JobServiceStub, job_id: str, patience: WaitLimit, *, as_json: bool) -> Job.State.ValueType:
    """The state in which it ended, or in which waiting stopped; a job is read at least once, even after the timeout."""
    state = Job.STATE_UNSPECIFIED
    try:
        for reply in stub.WatchJob(WatchJobRequest(job_id=job_id), timeout=patience.left_s or patience.last_look_s):
            change = reply.change if reply.HasField("change") else None
            if as_json:
                record(job_view(reply.job) | ({"change": change_view(change)} if change is not None else {}))
            else:
                show_change(reply.job, change)
            state = reply.job.state
            if state in _ENDED or patience.is_over:
                return state
            if state == Job.STATE_QUARANTINED:
                if not patience.even_if_quarantined:
                    return state
                remark(f"the job needs a person: see `sickbay quarantine show {job_id}`; still waiting, Ctrl-C does not change the job")
    except grpc.RpcError as error:
        if cast("grpc.Call", error).code() is grpc.StatusCode.DEADLINE_EXCEEDED and patience.is_over:
            return state
        raise
    raise Unreachable(f"the Job API ended the stream before the job has ended; `sickbay watch {job_id}` continues")


def wait_limit(ms: int | None, *, even_if_quarantined: bool, waits: bool) -> WaitLimit:
    """From the options; UsageError if they are given without --wait."""
    if not waits and (ms is not None or even_if_quarantined):
        raise click.UsageError("--for and --even-if-quarantined need --wait")
    return WaitLimit.of(ms, even_if_quarantined=even_if_quarantined)
