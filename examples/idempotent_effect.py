"""An effect that must not happen twice.

    ../.venv/bin/sickbay up --ephemeral --handlers idempotent_effect
    ../.venv/bin/sickbay submit charge '{"account": "ada", "cents": 500, "breaks": true}' --wait

Handlers run at least once: a worker may die after the effect and before that is known, and then the job runs again. So hand
`job.idempotency_key`, which is the same in every run of a job, to the service that you call. Here the service is a table that takes
each key once; a payment provider takes it as a header. With `"breaks": true` the first run fails after the effect.
"""

import sqlite3

from sickbay import Job, JobError, handler

SERVICE = "payments.db"


@handler("charge", timeout=10)
def charge(job: Job) -> None:
    """Charge an account once, however often this runs."""
    with sqlite3.connect(SERVICE) as service:
        service.execute("CREATE TABLE IF NOT EXISTS payments (key TEXT PRIMARY KEY, account TEXT, cents INTEGER)")
        payment = (job.idempotency_key, job.payload["account"], job.payload["cents"])
        is_new = service.execute("INSERT OR IGNORE INTO payments VALUES (?, ?, ?)", payment).rowcount
    service.close()
    print(f"{job.payload['account']}: {'charged' if is_new else 'was charged already'}", flush=True)
    if job.payload.get("breaks") and job.attempt == 0:
        raise JobError("NETWORK_ERROR", "the answer of the payment service got lost")
