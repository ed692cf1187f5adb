"""What is in force for each job type: the settings file over the handler's own options over the environment.

The file is polled, which also notices the swap of a symlink by which Kubernetes updates a ConfigMap; a file that is invalid or gone
replaces nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from sickbay.domain.breaker import BreakerConfig, BreakerKey, BreakerRule, DependencyRule
from sickbay.domain.errors import SettingsError
from sickbay.domain.rate_limit import Rate
from sickbay.domain.retry import NO_OPTIONS, RetryOptions, RetryPolicy
from sickbay.domain.run_rate import default_burst
from sickbay.domain.settings_status import SettingsFileStatus
from sickbay.runtime.settings import Settings
from sickbay.runtime.settings_file import BreakerTable, PolicyTable, SettingsFile, SettingsFileError, load_file

POLL_S: Final = 1.0
DEFAULT_RATE: Final = 0.5
MAX_SHOWN: Final = 10
"""Job types that one line of the log names."""

log = logging.getLogger(__name__)

_Version = tuple[int, int, int, int] | None
"""Device, inode, size and time of the file that the path leads to; None without one."""


class Policies:
    """One per process. What it returns is never kept by callers: the next question may have another answer."""

    def __init__(self, settings: Settings, now: Callable[[], float] = time.time) -> None:
        """Read SICKBAY_CONFIG, if it is set. SettingsFileError if that is invalid. `now` is in seconds since the epoch."""
        self._settings = settings
        self._now = now
        self._path = Path(settings.sickbay_config) if settings.sickbay_config else None
        self._version = self._look()
        self._file = load_file(self._path) if self._path else SettingsFile()
        self._status = SettingsFileStatus(valid=True, loaded_at_s=now())
        self._handled: Collection[str] | None = None
        self._listeners: list[Callable[[], None]] = []
        self._checks: list[Callable[[SettingsFile], None]] = []
        self._breakers: dict[str, BreakerConfig] = {}
        """Those of the types and dependencies that the file names, and under "" that of all others, until the file changes."""

    @property
    def rule(self) -> BreakerRule:
        """Which jobs share a breaker."""
        return DependencyRule(self._settings.breaker_scope, lambda: self._file.dependencies)

    @property
    def status(self) -> SettingsFileStatus | None:
        """How the file fares; None without one."""
        return self._status if self._path else None

    @property
    def file(self) -> SettingsFile:
        """The file in force; an empty one without a file."""
        return self._file

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call it whenever other settings are in force."""
        self._listeners.append(listener)

    def check_with(self, check: Callable[[SettingsFile], None]) -> None:
        """Let a part of this process look at the file in force, and at each changed one before; it raises SettingsError against it."""
        self._check(self._file, [check])
        self._checks.append(check)

    def report(self) -> None:
        """Log what of the file is in force; nothing without one."""
        if self._path is not None:
            log.info("the settings file is in force: %s (%s)", self._path.absolute(), self._file.extent)

    def report_unhandled(self, handled: Collection[str]) -> None:
        """Log which job types of the file have no handler here, now and after each change; `handled` are those that have one."""
        self._handled = handled
        if strange := sorted(self._file.types.keys() - set(handled)):
            more = [f"{len(strange) - MAX_SHOWN:,} more"] if len(strange) > MAX_SHOWN else []
            shown = ", ".join([*map(self._with_hint, strange[:MAX_SHOWN]), *more])
            log.warning("the settings file names job types that this worker has no handler for: %s", shown)

    def timeout_s(self, job_type: str, own: float | None) -> float:
        """Seconds that a run may take; `own` is what its handler says."""
        table, defaults = self._file.policies(job_type)
        if table.timeout is not None:
            return float(table.timeout / 1000)
        if own:
            return own
        return self._settings.handler_timeout if defaults.timeout is None else float(defaults.timeout / 1000)

    def cancel_grace_s(self, job_type: str, own: float | None) -> float:
        """Seconds an async handler may go on after a request to cancel its job; `own` is what it says itself."""
        table, defaults = self._file.policies(job_type)
        if table.cancel_grace is not None:
            return float(table.cancel_grace / 1000)
        if own is not None:
            return own
        return self._settings.cancel_grace if defaults.cancel_grace is None else float(defaults.cancel_grace / 1000)

    def concurrency(self, job_type: str, own: int | None) -> int | None:
        """How many jobs of this type a worker may run at a time, None for any number; `own` is what its handler says."""
        table, defaults = self._file.policies(job_type)
        return next((one for one in (table.concurrency, own, defaults.concurrency) if one is not None), None)

    def share(self, job_type: str) -> float | None:
        """Which part of a worker's slots the jobs of this type may hold; None if the file does not say."""
        table, defaults = self._file.policies(job_type)
        return defaults.share if table.share is None else table.share

    def retry(self, job_type: str = "", own: RetryOptions = NO_OPTIONS) -> RetryPolicy:
        """How often and when a failed job runs again; `own` is what its handler says."""
        defaults, table = self._tables(job_type)
        policy = defaults.retry.options.over(self._settings.retry_policy)
        return table.retry.options.over(own.over(policy))

    def run_rate(self, job_type: str) -> Rate | None:
        """At which rate jobs of this type may start to run, on all workers together; None without one. Asked at each job."""
        table, defaults = self._file.types.get(job_type), self._file.defaults
        own = table.rate if table is not None else None
        frequency = defaults.rate if own is None else own
        if frequency is None:
            return None
        bursts = (table.burst if table is not None else None, defaults.burst)
        return Rate(frequency, next((burst for burst in bursts if burst is not None), default_burst(frequency)))

    def breaker(self, key: BreakerKey) -> BreakerConfig:
        """The parameters of this breaker; asked for each of thousands, so they are computed once."""
        named = key.job_type if key.dependency or key.job_type in self._file.types else ""
        found = self._breakers.get(named)
        if found is None:
            found = self._breakers[named] = self._breaker(BreakerKey(named))
        return found

    def poll(self) -> bool:
        """Read the file again if it has changed; returns whether other settings are in force now."""
        if self._path is None or (version := self._look()) == self._version:
            return False
        self._version = version
        try:
            file = load_file(self._path)
            self._check(file, self._checks)
        except SettingsFileError as error:
            self._status = replace(self._status, valid=False, rejected=self._status.rejected + 1)
            log.warning("the settings of before stay in force, because the changed file is invalid: %s", error)
            return False
        self._file = file
        self._breakers.clear()
        self._status = replace(self._status, valid=True, loaded_at_s=self._now(), applied=self._status.applied + 1)
        log.info("the settings file has changed and is in force: %s (%s)", self._path, self._file.extent)
        for listener in self._listeners:
            listener()
        if self._handled is not None:
            self.report_unhandled(self._handled)
        return True

    def _check(self, file: SettingsFile, checks: Sequence[Callable[[SettingsFile], None]]) -> None:
        try:
            for check in checks:
                check(file)
        except SettingsError as error:
            raise SettingsFileError(str(self._path), [str(error)]) from error

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

    def _with_hint(self, job_type: str) -> str:
        near = get_close_matches(job_type, self._handled or (), n=1)
        return f"{job_type} (did you mean {near[0]}?)" if near else job_type

    def _breaker(self, key: BreakerKey) -> BreakerConfig:
        config = self._settings.breaker_config
        tables = [self._file.defaults.breaker, *(table for _, table in self._file.breaker_tables(key.job_type))]
        for table in tables:
            cooldown = config.cooldown_ms if table.cooldown is None else table.cooldown
            threshold = config.failure_threshold if table.threshold is None else table.threshold
            grown = max(round(self._settings.breaker_max_cooldown * 1000), cooldown)
            config = replace(config, failure_threshold=threshold, cooldown_ms=cooldown, max_cooldown_ms=grown)
        policy = [table.policy for table in tables if table.policy is not None]
        return _with_rate(config, tables) if policy[-1:] == ["rate"] else config

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


def _with_rate(config: BreakerConfig, tables: Sequence[BreakerTable]) -> BreakerConfig:
    """With the policy `rate`: of each of its keys, what the last table says that has it."""
    config = replace(config, rate=round(1_000 * DEFAULT_RATE))
    for table in tables:
        config = replace(
            config,
            rate=config.rate if table.rate is None else round(1_000 * table.rate),
            calls=config.calls if table.calls is None else table.calls,
            window_ms=config.window_ms if table.window is None else table.window,
            slow_ms=config.slow_ms if table.slow is None else table.slow,
        )
    return config
