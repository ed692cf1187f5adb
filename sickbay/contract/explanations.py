"""Domain to protobuf: explanations of jobs and breakers, and what a producer is told about a breaker. Pure, like `responses.py`."""

from __future__ import annotations

from typing import Final

from sickbay.breakers.v1 import explanation_pb2 as breakers_pb
from sickbay.breakers.v1.breaker_pb2 import Breaker
from sickbay.contract import responses
from sickbay.contract.responses import timestamp
from sickbay.domain.breaker import Snapshot
from sickbay.domain.explain_job import Case
from sickbay.domain.explanation import BreakerExplanation, BreakerReason, BreakerStep, JobExplanation, JobReason, JobStep
from sickbay.domain.on_open import note_of
from sickbay.jobs.v1 import explanation_pb2 as jobs_pb
from sickbay.jobs.v1.job_service_pb2 import BreakerNotice

_JOB_REASONS: Final = {one: jobs_pb.JobExplanation.Reason.Value(f"REASON_{one.value}") for one in JobReason}
_JOB_STEPS: Final = {one: jobs_pb.JobExplanation.NextStep.Value(f"NEXT_STEP_{one.value}") for one in JobStep}
_BREAKER_REASONS: Final = {one: breakers_pb.BreakerExplanation.Reason.Value(f"REASON_{one.value}") for one in BreakerReason}
_BREAKER_STEPS: Final = {one: breakers_pb.BreakerExplanation.NextStep.Value(f"NEXT_STEP_{one.value}") for one in BreakerStep}


def job(case: Case, explained: JobExplanation) -> jobs_pb.JobExplanation:
    """The explanation of a job. Its breaker is left out if the job has ended."""
    known, seen = responses.job(case.record), None if case.record.state.is_final else case.breaker
    return jobs_pb.JobExplanation(
        job_id=known.job_id,
        job_type=known.job_type,
        tenant=known.tenant,
        state=known.state,
        reason=_JOB_REASONS[explained.reason],
        since_time=timestamp(explained.since),
        next_step=_JOB_STEPS[explained.next_step],
        next_time=timestamp(explained.next_at),
        breaker=responses.breaker(seen, known.job_type, case.job_types) if seen is not None else None,
        sentences=map(_text, explained.sentences),
        commands=map(_text, explained.commands),
    )


def breaker(seen: Breaker, parked: int | None, explained: BreakerExplanation) -> breakers_pb.BreakerExplanation:
    """The explanation of a breaker for which `parked` jobs wait, None if that is unknown."""
    return breakers_pb.BreakerExplanation(
        breaker=seen,
        reason=_BREAKER_REASONS[explained.reason],
        since_time=timestamp(explained.since),
        next_step=_BREAKER_STEPS[explained.next_step],
        next_time=timestamp(explained.next_at),
        parked_jobs=parked,
        sentences=map(_text, explained.sentences),
        commands=map(_text, explained.commands),
    )


def notice(seen: Snapshot | None) -> BreakerNotice | None:
    """What a producer is told about a breaker that is not CLOSED; None for None."""
    if seen is None:
        return None
    return BreakerNotice(state=responses.breaker_state(seen.state), probe_time=timestamp(seen.probe_at), note=note_of(seen))


def _text(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
