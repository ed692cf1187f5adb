"""Handlers whose jobs are submitted by themselves, at their times.

    ../.venv/bin/sickbay up --ephemeral --handlers scheduled
    ../.venv/bin/sickbay schedules list
    ../.venv/bin/sickbay schedules trigger report

The schedules are created when a worker with these handlers is there, and changed when they change here.
"""

from datetime import UTC, datetime, timedelta

from sickbay import Job, Schedule, handler


@handler("report", schedule="0 3 * * *", timezone="Europe/Berlin")
def make_report(job: Job) -> None:
    """`job.tick_at` is the time that a job is for, however late it runs: milliseconds since the epoch."""
    day = datetime.fromtimestamp(job.tick_at / 1000, UTC).date() - timedelta(days=1)
    print(f"the report of {day}", flush=True)


@handler(
    "poll",
    schedule=[
        timedelta(seconds=2),
        Schedule("@daily", schedule_id="poll-everything", payload={"everything": True}, jitter=timedelta(minutes=10), overlap="BUFFER_ONE"),
    ],
)
async def poll(job: Job) -> None:
    """A handler may have several schedules; each but one needs a name."""
    print("polled everything" if job.payload.get("everything") else "polled what is new", flush=True)
