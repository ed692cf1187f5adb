"""Your first handler.

    ../.venv/bin/sickbay up --ephemeral --handlers first_handler
    ../.venv/bin/sickbay submit greet '{"name": "Ada"}' --wait

A handler gets a job. When it returns, the job has SUCCEEDED; whatever it raises makes the job fail and run again.
"""

from sickbay import Job, handler


@handler("greet", timeout=10)
async def greet(job: Job) -> None:
    """Async handlers run on an event loop, plain functions in a thread of their own."""
    print(f"Hello, {job.payload['name']}!", flush=True)


@handler("count")
def count_words(job: Job) -> dict[str, int]:
    """What a handler returns is kept with its job, as JSON: the job's result."""
    return {"words": len(job.payload["text"].split())}
