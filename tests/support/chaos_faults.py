"""What goes wrong: every fault that an evening in production may bring, drawn by a seed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random

from tests.support.chaos_env import PLACES, Arena

SERVERS = ("rabbitmq", "redis", "postgres")


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong, and is over when `strike` returns."""

    name: str
    strike: Callable[[Arena, Random], Awaitable[None]]


def every_fault() -> Sequence[Fault]:
    """Each kind on each server and each service."""
    faults = [Fault(f"{kind.__name__} {server}", _on(kind, server)) for server in SERVERS for kind in ON_SERVERS]
    faults += [Fault(f"kill -9 {module}", _killing(module)) for module in (*sorted(set(PLACES)), "worker", "worker")]
    return [*faults, *(Fault("the dependency of outage fails", outage) for _ in range(3))]


async def rage(arena: Arena, random: Random, rounds: int) -> list[str]:
    """Every fault so many times, in an order of chance, with moments of peace in between; what happened."""
    happened = []
    for _ in range(rounds):
        faults = list(every_fault())
        random.shuffle(faults)
        for fault in faults:
            await asyncio.sleep(random.uniform(0.1, 1.0))
            await fault.strike(arena, random)
            happened.append(fault.name)
    return happened


def _on(kind: Callable[[Arena, str, Random], Awaitable[None]], server: str) -> Callable[[Arena, Random], Awaitable[None]]:
    return lambda arena, random: kind(arena, server, random)


def _killing(module: str) -> Callable[[Arena, Random], Awaitable[None]]:
    async def kill(arena: Arena, random: Random) -> None:
        await arena.kill(random.choice([place for place in arena.places if place.module == module]))

    return kill


async def reset(arena: Arena, server: str, random: Random) -> None:
    """Every connection is reset, in the middle of a frame."""
    arena.proxies[server].reset_after(random.randrange(1, 20_000))
    await asyncio.sleep(0.5)
    arena.proxies[server].reset()


async def silence(arena: Arena, server: str, random: Random) -> None:
    """Nothing comes through, and nobody says so."""
    arena.proxies[server].blackhole()
    await asyncio.sleep(random.uniform(0.5, 5))
    arena.proxies[server].heal()


async def slowness(arena: Arena, server: str, random: Random) -> None:
    """Every packet takes its time."""
    arena.proxies[server].latency = random.uniform(0.02, 0.15)
    await asyncio.sleep(random.uniform(0.5, 2))
    arena.proxies[server].latency = 0


async def absence(arena: Arena, server: str, random: Random) -> None:
    """Connections break, new ones are refused."""
    arena.proxies[server].cut()
    await asyncio.sleep(random.uniform(0.5, 3))
    await arena.proxies[server].accept()


async def freeze(arena: Arena, server: str, random: Random) -> None:
    """The server hangs with all its connections."""
    arena.servers[server].freeze()
    await asyncio.sleep(random.uniform(0.5, 3))
    arena.servers[server].thaw()


async def kill(arena: Arena, server: str, random: Random) -> None:
    """Kill -9 of the server; Redis forgets everything by that."""
    await asyncio.to_thread(arena.servers[server].kill)
    await asyncio.sleep(random.uniform(0, 1))
    await asyncio.to_thread(arena.servers[server].start)


ON_SERVERS = (reset, silence, slowness, absence, freeze, kill)


async def outage(arena: Arena, random: Random) -> None:
    """Scenario 1, in the middle of it all."""
    arena.clinic.break_down("outage")
    await asyncio.sleep(random.uniform(0.5, 2))
    arena.clinic.repair("outage")
