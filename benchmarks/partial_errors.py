"""What the breaker makes of a dependency that fails in part: `python -m benchmarks.partial_errors [--seeds 20] [--policy rate]`.

The real breaker on a simulated clock: a steady load, a run of 20 ms, retries after 5 s, a healer that asks every 0.1 s. A part of the
runs fails at random, whatever the load; beside it the same jobs with retries and without a breaker. The figures are shares of what those
retries reached, over all seeds: the least, the middle and the most.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
from collections.abc import Iterator, Sequence
from random import Random
from statistics import median
from typing import Final

from sickbay.adapters.embedded.breakers import EmbeddedBreakers
from sickbay.domain.breaker import BreakerConfig, BreakerKey, BreakerState, Permit
from sickbay.domain.outcome import SUCCESS, Outcome, OutcomeKind

KEY: Final = BreakerKey("email")
FAILED: Final = Outcome(OutcomeKind.SYSTEMIC, "SERVICE_UNAVAILABLE", "busy")
RUN_S: Final = 0.02
RETRY_S: Final = 5.0
ROUND_S: Final = 0.1
RATE: Final = 500
HEALTHY_S: Final = 20.0
"""Before the errors begin."""


class Life:
    """One simulated worker, its breaker and healer, from the first job on."""

    def __init__(self, config: BreakerConfig | None, *, load: float, share: float, lasts_s: float, seed: int) -> None:
        """No breaker if there is no `config`; `share` of the runs fails, for `lasts_s` seconds."""
        self.now = 0.0
        self.succeeded = self.parked = self.most_parked = 0
        self.refusing_s = 0.0
        self.trips = 0
        self._chance = Random(seed)
        self._share, self._load, self._end = share, load, HEALTHY_S + lasts_s
        self._breakers = EmbeddedBreakers(config, lambda: 1_700_000_000_000 + int(self.now * 1000), Random(seed)) if config else None
        self._due: list[tuple[float, int, bool]] = []
        self._number = 0

    async def run(self) -> Life:
        """Live it."""
        at = 0.0
        while at < self._end:
            self._add(at, released=False)
            at += 1 / self._load
        heal_at = 0.0
        runs: list[tuple[float, int, Permit | None]] = []
        while self._due or runs:
            self.now = min(self._due[0][0] if self._due else self._end, runs[0][0] if runs else self._end, heal_at)
            if self.now >= self._end:
                break
            if self.now == heal_at:
                heal_at += ROUND_S
                await self._heal()
            elif runs and runs[0][0] == self.now:
                await self._finish(heapq.heappop(runs)[2])
            else:
                _, number, released = heapq.heappop(self._due)
                permit = await self._admit(number, released=released)
                if isinstance(permit, bool):
                    self.parked += 1
                    self.most_parked = max(self.most_parked, self.parked)
                else:
                    heapq.heappush(runs, (self.now + RUN_S, number, permit))
        return self

    def _add(self, at: float, *, released: bool) -> None:
        self._number += 1
        heapq.heappush(self._due, (at, self._number, released))

    async def _admit(self, number: int, *, released: bool) -> Permit | bool | None:
        if self._breakers is None:
            return None
        answer = await self._breakers.admit(KEY, str(number), released=released)
        return answer if isinstance(answer, Permit) else False

    async def _finish(self, permit: Permit | None) -> None:
        failed = self.now > HEALTHY_S and self._chance.random() < self._share
        state = BreakerState.CLOSED
        if self._breakers is not None and permit is not None:
            state = await self._breakers.settle(permit, FAILED if failed else SUCCESS)
        if not failed:
            self.succeeded += self.now > HEALTHY_S
        elif state.refuses:
            self.parked += 1
        else:
            self._add(self.now + RETRY_S, released=False)

    async def _heal(self) -> None:
        if self._breakers is None:
            return
        for breaker in await self._breakers.snapshots():
            if breaker.state.refuses:
                self.refusing_s += ROUND_S
                wanted = 1 if breaker.cooldown_elapsed and breaker.state is BreakerState.OPEN else 0
            else:
                wanted = await self._breakers.reserve(KEY, self.parked) if self.parked else 0
            for _ in range(min(wanted, self.parked)):
                self.parked -= 1
                self._add(self.now + 0.01, released=True)


async def compare(
    config: BreakerConfig, *, load: float, share: float, lasts_s: float, seeds: int
) -> tuple[Sequence[float], Sequence[float]]:
    """Shares of what plain retries reach, and of the time that jobs were refused, a value for each seed."""
    reached, refusing = [], []
    for seed in range(seeds):
        ours = await Life(config, load=load, share=share, lasts_s=lasts_s, seed=seed).run()
        plain = await Life(None, load=load, share=share, lasts_s=lasts_s, seed=seed).run()
        reached.append(ours.succeeded / plain.succeeded)
        refusing.append(ours.refusing_s / lasts_s)
    return reached, refusing


async def report(seeds: int, lasts_s: float, cooldown_s: float, policy: str) -> None:
    """Print a line for each share of errors and load."""
    print(f"policy {policy}, cooldown {cooldown_s:g} s, {lasts_s:g} s of errors, {seeds} seeds; of what plain retries reach:")
    print("least / middle / most")
    print(f"{'errors':>7} {'jobs/s':>7} {'reached':>20} {'time refusing':>20}")
    for share, load in _cases():
        config = BreakerConfig(cooldown_ms=int(cooldown_s * 1000), rate=RATE if policy == "rate" else 0)
        reached, refusing = await compare(config, load=load, share=share, lasts_s=lasts_s, seeds=seeds)
        print(f"{share:7.0%} {load:7g} {_spread(reached):>20} {_spread(refusing):>20}")


def _cases() -> Iterator[tuple[float, float]]:
    for share in (0.1, 0.3, 0.5, 0.8):
        for load in (2.0, 10.0, 60.0):
            yield share, load


def _spread(values: Sequence[float]) -> str:
    return f"{min(values):.2f} / {median(values):.2f} / {max(values):.2f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--lasts", type=float, default=300.0, help="seconds of errors")
    parser.add_argument("--cooldown", type=float, default=60.0, help="seconds")
    parser.add_argument("--policy", choices=["consecutive", "rate"], default="consecutive", help="rate: half of at least 20 runs in 60 s")
    options = parser.parse_args()
    asyncio.run(report(options.seeds, options.lasts, options.cooldown, options.policy))
