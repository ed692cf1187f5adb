"""What became of every job. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from benchmarks.outage.figures import first_served, first_starts
from benchmarks.outage.scenarios import ON_DEPENDENCY
from benchmarks.outage.trace import Ends, Trace


def by_ledger(trace: Trace, known: Mapping[str, str]) -> Ends:
    """`known` is the state of each job by its id, read before the dependency's book.

    Lost are those that the ledger does not know, or believes done although the dependency never served them.
    """
    served = first_served(trace.calls)
    count: Counter[str] = Counter()
    for submit in trace.submits:
        state = known.get(submit.job_id, "LOST") if submit.job_id else "REFUSED"
        vain = state == "SUCCEEDED" and submit.kind in ON_DEPENDENCY and submit.number not in served
        count["LOST" if vain else state] += 1
    waiting = count["QUEUED"] + count["RUNNING"] + count["RETRYING"]
    return Ends(count["SUCCEEDED"], count["QUARANTINED"], count["PARKED"], waiting, count["LOST"], count["REFUSED"])


def by_records(trace: Trace, dead: int) -> Ends:
    """For a system without a ledger: as the dependency and the handlers saw it. It cannot be told whether the rest waits or is lost."""
    served, started = first_served(trace.calls), first_starts(trace.starts)
    succeeded = sum(submit.number in (served if submit.kind in ON_DEPENDENCY else started) for submit in trace.submits)
    return Ends(succeeded, dead, waiting=len(trace.submits) - succeeded - dead)
