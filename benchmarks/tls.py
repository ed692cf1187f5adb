"""What TLS costs: requests of `sickbay up` over REST and gRPC with and without it, in turns, so that the ratios hold on a busy machine.

`python -m benchmarks.tls` prints, for each door, requests a second of one client with 16 at a time, and the CPU that the service used for
each: on kept connections, and with a new connection for each request.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import grpc
import httpx
import psutil

from sickbay.jobs.v1 import job_service_pb2 as pb
from sickbay.jobs.v1.job_service_pb2_grpc import JobServiceStub
from tests.support.plain_http import NO_TLS
from tests.support.system_under_test import Product
from tests.support.tls_ports import Papers

ROUNDS: Final = 5
REQUESTS: Final = 800
FRESH: Final = 100
AT_A_TIME: Final = 16
PAYLOAD: Final = '{"simulate":"ok","text":"' + 1_000 * "x" + '"}'

Call = Callable[[], Awaitable[None]]


class Subject:
    """A running product, with TLS or without."""

    def __init__(self, folder: Path, papers: Papers | None) -> None:
        folder.mkdir()
        settings = {} if papers is None else dict(papers.for_server())
        self.papers = papers
        self.product = Product(folder, {"LOG_LEVEL": "WARNING"} | settings, ["--ephemeral"]).ready()
        self.rest, self.grpc = self.product.ports["Job API"]
        self.process = psutil.Process(self.product.process.pid)

    @property
    def cpu_s(self) -> float:
        """Seconds of CPU that it has used."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def http(self) -> httpx.AsyncClient:
        """A client of the HTTP port."""
        return httpx.AsyncClient(verify=NO_TLS if self.papers is None else self.papers.context(), trust_env=False, timeout=60)

    def channel(self) -> grpc.aio.Channel:
        """A channel of its own connection to the gRPC port."""
        address, alone = f"localhost:{self.grpc}", [("grpc.use_local_subchannel_pool", 1)]
        if self.papers is None:
            return grpc.aio.insecure_channel(address, options=alone)
        return grpc.aio.secure_channel(address, self.papers.credentials(), options=alone)

    async def ask_rest(self, client: httpx.AsyncClient) -> None:
        """One job over REST."""
        scheme = "http" if self.papers is None else "https"
        url = f"{scheme}://localhost:{self.rest}/jobs"
        answer = await client.post(url, content=f'{{"jobType":"email","payload":{PAYLOAD}}}', headers={"content-type": "application/json"})
        answer.raise_for_status()

    async def ask_grpc(self, channel: grpc.aio.Channel) -> None:
        """One job over gRPC."""
        await JobServiceStub(channel).SubmitJob(pb.SubmitJobRequest(job_type="email", payload_json=PAYLOAD), timeout=60)

    async def measure(self) -> dict[str, tuple[float, float]]:
        """Requests a second and milliseconds of CPU for each, by door."""
        async with self.http() as client, self.channel() as channel:
            return {
                "REST, kept": await self._run(lambda: self.ask_rest(client), REQUESTS),
                "gRPC, kept": await self._run(lambda: self.ask_grpc(channel), REQUESTS),
                "REST, new": await self._run(self._fresh_rest, FRESH),
                "gRPC, new": await self._run(self._fresh_grpc, FRESH),
            }

    async def _fresh_rest(self) -> None:
        async with self.http() as client:
            await self.ask_rest(client)

    async def _fresh_grpc(self) -> None:
        async with self.channel() as channel:
            await self.ask_grpc(channel)

    async def _run(self, call: Call, count: int) -> tuple[float, float]:
        left = iter(range(count))

        async def work() -> None:
            for _ in left:
                await call()

        began, cpu = time.monotonic(), self.cpu_s
        await asyncio.gather(*(work() for _ in range(AT_A_TIME)))
        return count / (time.monotonic() - began), 1_000 * (self.cpu_s - cpu) / count


async def compare(plain: Subject, secure: Subject) -> None:
    """Print a row for each door: the medians of all rounds."""
    rounds = [(await plain.measure(), await secure.measure()) for _ in range(ROUNDS + 1)][1:]
    print("| | requests/s without | with TLS | ratio | CPU ms without | with TLS | ratio |\n|---|---|---|---|---|---|---|")
    for door in rounds[0][0]:
        rates, costs = [[statistics.median(one[side][door][what] for one in rounds) for side in (0, 1)] for what in (0, 1)]
        ratio, cost = (statistics.median(one[1][door][what] / one[0][door][what] for one in rounds) for what in (0, 1))
        print(f"| {door} | {rates[0]:.0f} | {rates[1]:.0f} | {ratio:.2f} | {costs[0]:.2f} | {costs[1]:.2f} | {cost:.2f} |")


def main() -> None:
    """Run both, one after the other, in rounds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plain, secure = Subject(folder / "plain", None), Subject(folder / "tls", Papers(folder / "papers"))
        try:
            asyncio.run(compare(plain, secure))
        finally:
            for subject in (plain, secure):
                subject.product.kill()


if __name__ == "__main__":
    main()
