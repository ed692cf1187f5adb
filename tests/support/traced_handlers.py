"""Handlers that make spans of their own, as a user's do with OpenTelemetry's API, around what the clinic's handlers do."""

from __future__ import annotations

import asyncio
import json
import logging
import sys

from clinic_handlers import HERE, treat  # type: ignore[import-not-found]  # beside this one where both are run

from sickbay import Job, handler


async def traced(job: Job) -> None:
    """A span of our own around the run, and a log line in it."""
    from opentelemetry import trace

    with trace.get_tracer("my_handlers").start_as_current_span(
        "call the dependency", record_exception=False, set_status_on_exception=False
    ):
        logging.getLogger("my_handlers").info("calling for %s", job.job_id)
        await treat(job)


@handler("traced-sync")
def traced_sync(job: Job) -> None:
    """The same in a thread."""
    asyncio.run(traced(job))


@handler("traced-follow-up")
async def follow_up(job: Job) -> None:
    """Submit a job that runs a little later."""
    await job.submit("traced", {}, delay=0.2)


@handler("modules")
async def modules(job: Job) -> None:
    """Write down what of this process could make spans or send them."""
    telling = ("opentelemetry.sdk.trace", "opentelemetry.exporter", "sickbay.telemetry.spans", "sickbay.telemetry.run_traces")
    found = [name for name in sys.modules if name.startswith(telling) or name.endswith(".traced")]
    (HERE / "modules.json").write_text(json.dumps(found))


for job_type in ("traced", "traced-outage", "traced-edit"):
    handler(job_type)(traced)
