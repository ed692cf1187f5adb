"""What a failure means.

    ../.venv/bin/sickbay up --ephemeral --handlers retries_and_errors
    ../.venv/bin/sickbay submit deliver '{"to": "nowhere"}'
    ../.venv/bin/sickbay quarantine list

Whose fault it is decides everything. A dependency that is down (systemic) or stumbles (transient) counts towards opening the circuit of
the job type; a job that is wrong by itself (data) never does. Codes that everybody means the same by, and exceptions of well-known
libraries, need no mapping.
"""

from sickbay import Job, JobError, handler


class NoSuchAddressError(Exception):
    """What some library of yours raises."""


@handler(
    "deliver",
    codes={NoSuchAddressError: "NO_SUCH_ADDRESS"},  # my exception has this code,
    kinds={"NO_SUCH_ADDRESS": "data"},  # it is the job's own fault,
    retries={"NO_SUCH_ADDRESS": 0},  # and trying again is of no use: a person decides
)
def deliver(job: Job) -> None:
    """Fail as the payload asks for."""
    match job.payload["to"]:
        case "nowhere":
            raise NoSuchAddressError("there is no such street")
        case "busy" if job.attempt == 0:
            # Seconds until the next attempt of this job. The code RATE_LIMITED would make all jobs of the type wait for so long.
            raise JobError("COURIER_BUSY", "the courier is busy", kind="transient", retry_after=1)
        case "closed" if job.attempt == 0:
            raise ConnectionRefusedError("the depot does not answer")  # known: CONNECTION_REFUSED, systemic
    print(f"delivered to {job.payload['to']} at attempt {job.attempt + 1}", flush=True)
