"""The books, after the storm: every job in exactly one place, every promise kept, every duplicate told."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiormq

from sickbay.messages.codec import decode_events
from tests.support.chaos_env import Arena

PATIENCE_S: Final = 300
"""RabbitMQ itself tries a message again after three minutes whose way from `jobs.retry` to `jobs.main` was cut off by a kill."""
ENDS: Final = {
    "ok": {"SUCCEEDED"},
    "retry": {"SUCCEEDED"},
    "bad": {"SUCCEEDED", "DISCARDED", "QUARANTINED"},
    "outage": {"SUCCEEDED"},
    "down": {"PARKED"},
}
"""Where a job may end. What its dependency does never quarantines a job: those of `outage` come back, those of `down` still wait."""
PASSING: Final = {"QUEUED", "RUNNING", "RETRYING"}
STATES: Final = "SELECT job_type, state, count(*) AS jobs FROM jobs GROUP BY job_type, state"
ROWS: Final = "SELECT job_id, job_type, state, generation, attempt, reason, updated_at, run FROM jobs"


@dataclass(frozen=True)
class Books:
    """Each row of the ledger by job id, how often each was done, and the duplicates that the product tells of."""

    rows: Mapping[str, Any]
    done: Counter[tuple[str, int]]
    told: int

    def check(self, accepted: Mapping[str, str]) -> None:
        """Nothing lost, nothing stuck, nothing made up."""
        missing = accepted.keys() - self.rows.keys()
        assert not missing, f"{len(missing)} accepted jobs are lost: {sorted(missing)[:5]}"
        ended = Counter(self.rows[job_id]["state"] for job_id in accepted)
        assert ended.total() == ended["SUCCEEDED"] + ended["PARKED"] + ended["QUARANTINED"] + ended["DISCARDED"] == len(accepted)
        for job_id, row in self.rows.items():
            fine = row["state"] in ENDS[row["job_type"]] or (row["state"], row["reason"]) == ("QUARANTINED", "WORKER_LOST")
            assert fine, f"{row['job_type']} job {job_id} ended as {row['state']} ({row['reason']})"
            if row["state"] == "SUCCEEDED":
                assert self.done[job_id, row["generation"]], f"job {job_id} is said to have succeeded, and was never done"

    def report(self, accepted: Mapping[str, str]) -> str:
        """In figures."""
        states = Counter(f"{row['job_type']} {row['state']}" for row in self.rows.values())
        again = sum(count - 1 for count in self.done.values())
        lost_workers = sum(row["reason"] == "WORKER_LOST" for row in self.rows.values())
        return "\n".join(
            [
                f"{len(accepted)} accepted, {len(self.rows) - len(accepted)} more whose answer was cut off",
                *(f"  {count:6} {state}" for state, count in sorted(states.items())),
                f"{again} done again, {self.told} duplicates told, {lost_workers} quarantined because workers died of them",
            ]
        )


async def settle(arena: Arena) -> Books:
    """Wait until nothing moves any more and the queue agrees with the ledger. Nothing announces that, so this asks again and again."""
    deadline = time.monotonic() + PATIENCE_S
    while left := await _left(arena):
        assert time.monotonic() < deadline, f"after {PATIENCE_S} s there is still {left}; {await _difference(arena)}"
        await asyncio.sleep(0.25)
    rows = {row["job_id"]: row for row in await arena.sql(ROWS)}
    (told,) = await arena.sql("SELECT count(*) AS told FROM job_duplicates")
    return Books(rows, Counter((run.job, run.generation) for run in arena.clinic.runs(what="done")), told["told"])


async def _left(arena: Arena) -> dict[str, int]:
    """What is not yet at rest."""
    depths = dict(await arena.depths())
    quarantine = depths.pop("jobs.quarantine")
    states = {(row["job_type"], row["state"]): row["jobs"] for row in await arena.sql(STATES)}
    left = {name: depth for name, depth in depths.items() if depth}
    left |= {f"{kind} {state}": jobs for (kind, state), jobs in states.items() if state in PASSING}
    left |= {f"{kind} {state}": jobs for (kind, state), jobs in states.items() if state == "PARKED" and kind != "down"}
    rows = sum(jobs for (_, state), jobs in states.items() if state in {"PARKED", "QUARANTINED"})
    return left if left or quarantine == rows else {"jobs.quarantine": quarantine, "rows set aside": rows}


async def _difference(arena: Arena) -> str:
    """Which copies and rows do not belong together, and what the control planes said last."""
    copies: Counter[tuple[str, int, int]] = Counter()
    async with aiormq.connect(arena.servers["rabbitmq"].url) as connection:
        channel = await connection.channel()
        while (got := await channel.basic_get("jobs.quarantine")).body:
            for event in decode_events(got.body):
                copies[event.job.job_id, event.job.generation, event.job.attempt] += 1
    rows = {(row["job_id"], row["generation"], row["attempt"]): row for row in await arena.sql(ROWS)}
    by_id = {row["job_id"]: dict(row) for row in rows.values()}
    aside = {key for key, row in rows.items() if row["state"] in {"PARKED", "QUARANTINED"}}
    odd = {key: (count, by_id.get(key[0])) for key, count in copies.items() if count > 1 or key not in aside}
    stuck = {job_id: row for job_id, row in by_id.items() if row["state"] in PASSING}
    history = [dict(row) for row in await arena.sql("SELECT * FROM job_changes") if row["job_id"] in stuck]
    runs = [run for run in arena.clinic.runs() + arena.clinic.runs(what="done") if run.job in stuck]
    queues = arena.servers["rabbitmq"].control("-q", "list_queues", "name", "messages_ready", "messages_unacknowledged")
    said = {place.service.process.pid: place.service.err.text.splitlines()[-8:] for place in arena.places if place.service}
    return "\n".join(
        [
            f"{copies.total()} copies, odd ones {odd}, rows without a copy {aside - copies.keys()}",
            f"stuck: {list(stuck.values())[:5]}",
            *(f"  {change}" for change in history),
            *(f"  {run}" for run in runs),
            queues,
            *(f"{pid}: {line}" for pid, lines in said.items() for line in lines),
        ]
    )
