"""What is in force for each job type: the settings file over the handler's own options over the environment.

The file is polled, which also notices the swap of a symlink by which Kubernetes updates a ConfigMap; a file that is invalid or gone
replaces nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from sickbay.domain.breaker import BreakerConfig, BreakerKey
from sickbay.domain.retry import RetryPolicy
from sickbay.runtime.settings import Settings
from sickbay.runtime.settings_file import PolicyTable, SettingsFile, SettingsFileError, load_file

POLL_S: Final = 1.0

log = logging.getLogger(__name__)

_Version = tuple[int, int, int, int] | None
"""Device, inode, size and time of the file that the path leads to; None without one."""


class Policies:
    """One per process. What it returns is never kept by callers: the next question may have another answer."""

    def __init__(self, settings: Settings) -> None:
        """Read SICKBAY_CONFIG, if it is set. SettingsFileError if that is invalid."""
        self._settings = settings
        self._path = Path(settings.sickbay_config) if settings.sickbay_config else None
        self._version = self._look()
        self._file = load_file(self._path) if self._path else SettingsFile()
        self._breakers: dict[str, BreakerConfig] = {}
        """Those of the types that the file names, and under "" that of all others, for as long as the file stays the same."""

    def timeout_s(self, job_type: str, own: float | None) -> float:
        """Seconds that a run may take; `own` is what its handler says."""
        table, defaults = self._file.policies(job_type)
        if table.timeout is not None:
            return float(table.timeout / 1000)
        if own:
            return own
        return self._settings.handler_timeout if defaults.timeout is None else float(defaults.timeout / 1000)

    def retry(self, job_type: str = "", by_code: Mapping[str, int] | None = None) -> RetryPolicy:
        """How often and when a failed job runs again; `by_code` is what its handler says of single error codes, and stays."""
        policy = replace(self._settings.retry_policy, retries_by_code=by_code or {})
        for table in self._tables(job_type):
            policy = replace(
                policy,
                max_retries=policy.max_retries if table.retry.max is None else table.retry.max,
                delay_ms=policy.delay_ms if table.retry.delay is None else table.retry.delay,
            )
        return policy

    def breaker(self, key: BreakerKey) -> BreakerConfig:
        """The parameters of this breaker; asked for each of thousands, so they are computed once."""
        named = key.job_type if key.job_type in self._file.types else ""
        config = self._breakers.get(named)
        if config is None:
            config = self._breakers[named] = self._breaker_config(named)
        return config

    def _breaker_config(self, job_type: str) -> BreakerConfig:
        config = self._settings.breaker_config
        for table in self._tables(job_type):
            cooldown = config.cooldown_ms if table.breaker.cooldown is None else table.breaker.cooldown
            threshold = config.failure_threshold if table.breaker.threshold is None else table.breaker.threshold
            grown = max(round(self._settings.breaker_max_cooldown * 1000), cooldown)
            config = replace(config, failure_threshold=threshold, cooldown_ms=cooldown, max_cooldown_ms=grown)
        return config

    def poll(self) -> bool:
        """Read the file again if it has changed; returns whether other settings are in force now."""
        if self._path is None or (version := self._look()) == self._version:
            return False
        self._version = version
        try:
            file = load_file(self._path)
        except SettingsFileError as error:
            log.warning("the settings of before stay in force, because the changed file is invalid: %s", error)
            return False
        self._file = file
        self._breakers = {}
        log.info("the settings file has changed and is in force: %s", self._path)
        return True

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Poll while the context lasts."""
        task = asyncio.create_task(self._watch(), name="settings file") if self._path else None
        try:
            yield
        finally:
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            self.poll()

    def _tables(self, job_type: str) -> tuple[PolicyTable, PolicyTable]:
        table, defaults = self._file.policies(job_type)
        return defaults, table

    def _look(self) -> _Version:
        if self._path is None:
            return None
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
