"""Says which versions the test servers have, and runs a command if none is older than in Debian 13: `server_versions.py COMMAND...`."""

from __future__ import annotations

import asyncio
import os
import shlex
import subprocess
import sys
from typing import Final

import asyncpg
from redis.asyncio import Redis

LEAST: Final = {"RabbitMQ": 4, "Redis": 8, "PostgreSQL": 17}


def main() -> int:
    """Ask, compare, run; the command's exit code."""
    versions = {"RabbitMQ": _rabbitmq(), **asyncio.run(_stores())}
    print(f"servers: {', '.join(f'{name} {version}' for name, version in versions.items())}", file=sys.stderr, flush=True)
    old = [f"{name} {version}" for name, version in versions.items() if int(version.partition(".")[0]) < LEAST[name]]
    if old:
        wanted = ", ".join(f"{name} {least}" for name, least in LEAST.items())
        sys.exit(f"too old for this ({wanted} or newer are wanted): {', '.join(old)}; stop it, and a private one is started instead")
    return subprocess.run(sys.argv[1:], check=False).returncode


def _rabbitmq() -> str:
    ctl = shlex.split(os.environ.get("SICKBAY_TEST_RABBITMQCTL") or "rabbitmqctl")
    asking = [*ctl, "-q", "eval", "rabbit_misc:version()."]
    return subprocess.run(asking, capture_output=True, text=True, check=True).stdout.strip().strip('"')


async def _stores() -> dict[str, str]:
    async with Redis.from_url(os.environ["SICKBAY_TEST_REDIS_URL"]) as redis:
        info = await redis.info("server")
    database = await asyncpg.connect(os.environ["SICKBAY_TEST_POSTGRES_URL"])
    try:
        postgres = await database.fetchval("SELECT current_setting('server_version')")
    finally:
        await database.close()
    return {"Redis": info["redis_version"], "PostgreSQL": postgres.partition(" ")[0]}


if __name__ == "__main__":
    sys.exit(main())
