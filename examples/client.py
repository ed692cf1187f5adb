"""A program that submits jobs, with the client library (docs/clients.md).

With the handler of `first_handler.py` running, `../.venv/bin/sickbay up --ephemeral --handlers first_handler`:

    ../.venv/bin/python client.py
"""

import asyncio

from sickbay.client import AsyncClient, Client, NewJob, NotFound, SickbayError


def one_job(client: Client) -> None:
    """Submit a job, and wait for its end."""
    submitted = client.submit("greet", {"name": "Ada"})
    job = client.wait(submitted.job_id, timeout=60)
    print(f"one job: {job.state}")


def a_result(client: Client) -> None:
    """Submit a job, and wait for what its handler returns."""
    submitted = client.submit("count", {"text": "to be or not to be"})
    print(f"a result: {client.result(submitted.job_id, timeout=60)}")


def many_jobs(client: Client) -> None:
    """Submit many; the input may be a generator over any number, and is read as the results are consumed."""
    jobs = (NewJob("greet", {"name": f"guest {number}"}) for number in range(2_500))
    accepted = 0
    for result in client.submit_many(jobs):
        if result.accepted:
            accepted += 1
        else:
            print(f"{result.job.payload}: {result.error}")
    print(f"many jobs: {accepted} accepted")


def errors(client: Client) -> None:
    """What fails raises one tree of exceptions."""
    try:
        client.get("no-such-job")
    except NotFound as error:
        print(f"an error: {error.reason}")
    try:
        client.submit("Not a type", {})
    except SickbayError as error:
        print(f"another: {type(error).__name__}, {error.reason}")


async def from_an_event_loop() -> None:
    """The same without blocking."""
    async with AsyncClient.from_env() as client:
        submitted = await client.submit("greet", {"name": "Grace"})
        async for update in client.watch(submitted.job_id):
            last = update.job.state
        print(f"from an event loop: {last}")


def main() -> None:
    """Call the services that SICKBAY_JOBAPI and SICKBAY_CONTROL_PLANE name, by default those of this machine."""
    with Client.from_env() as client:
        one_job(client)
        a_result(client)
        many_jobs(client)
        errors(client)
    asyncio.run(from_an_event_loop())


if __name__ == "__main__":
    main()
