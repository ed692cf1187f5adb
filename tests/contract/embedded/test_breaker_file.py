"""What the embedded breakers remember through a restart, however the process ended."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, contextmanager
from random import Random

import pytest

from controlplane.leftover_breakers import LeftoverBreakers
from sickbay.adapters.embedded.breaker_file import BreakerFile
from sickbay.adapters.embedded.breakers import EmbeddedBreakers
from sickbay.domain.breaker import Action, BreakerConfig, BreakerKey, BreakerScope, BreakerState, Command, Permit, PermitKind, Refusal
from sickbay.domain.errors import SettingsError
from sickbay.domain.outcome import SUCCESS, Outcome, OutcomeKind
from tests.support.clock import ManualClock

KEY = BreakerKey("email")
DOWN = Outcome(OutcomeKind.SYSTEMIC, "API_TIMEOUT", "no answer")


class Process:
    """The breakers of a process that can be started again on the same file."""

    def __init__(self, path):
        self.path, self.clock = path, ManualClock()
        self.start()

    def start(self):
        self.breakers = EmbeddedBreakers(BreakerConfig(), self.clock, Random(1), file=BreakerFile(self.path))

    def restart(self, *, killed):
        if not killed:
            self.breakers.close()
        else:
            self.breakers._file._connection.close()
        self.start()

    async def run(self, outcome, times=1, key=KEY):
        for number in range(times):
            await self.breakers.settle(await self.breakers.admit(key, f"job-{number}"), outcome)

    async def state(self, key=KEY):
        [seen] = await self.breakers.snapshots([key])
        return seen


@pytest.fixture
def process(tmp_path):
    one = Process(tmp_path / "breakers.db")
    yield one
    one.breakers.close()


@pytest.fixture(params=[True, False], ids=["killed", "stopped"])
def killed(request):
    return request.param


async def test_an_open_circuit_stays_open_and_keeps_its_time(process, killed):
    await process.run(DOWN, 5)
    before = await process.state()
    process.clock.now += 20_000
    process.restart(killed=killed)
    after = await process.state()
    assert (after.state, after.opened_at, after.probe_at, after.reason_code) == (
        BreakerState.OPEN, before.opened_at, before.probe_at, "API_TIMEOUT",
    )  # fmt: skip
    assert after.total_failures == 5
    assert isinstance(await process.breakers.admit(KEY, "early"), Refusal)
    process.clock.now += 40_000
    permit = await process.breakers.admit(KEY, "probe")
    assert isinstance(permit, Permit)
    assert permit.kind is PermitKind.PROBE


@pytest.mark.parametrize(
    ("command", "state"),
    [
        (Command(Action.FORCE_OPEN, 600_000, "ann", "maintenance"), BreakerState.FORCED_OPEN),
        (Command(Action.FORCE_OPEN, None, "ann", "maintenance"), BreakerState.FORCED_OPEN),
        (Command(Action.DISABLE, None, "ann", "maintenance"), BreakerState.DISABLED),
        (Command(Action.METRICS_ONLY, None, "ann", "maintenance"), BreakerState.METRICS_ONLY),
    ],
)
async def test_a_command_holds(process, killed, command, state):
    before = await process.breakers.command(KEY, command)
    process.restart(killed=killed)
    after = await process.state()
    assert (after.state, after.forced_by, after.forced_why, after.forced_until) == (state, "ann", "maintenance", before.forced_until)


async def test_a_hold_that_ended_meanwhile_is_followed_by_a_probe(process, killed):
    await process.breakers.command(KEY, Command(Action.FORCE_OPEN, 5_000))
    process.clock.now += 6_000
    process.restart(killed=killed)
    permit = await process.breakers.admit(KEY, "job")
    assert isinstance(permit, Permit)
    assert permit.kind is PermitKind.PROBE


async def test_a_probe_that_ended_with_the_process_is_followed_by_another_at_once(process, killed):
    await process.run(DOWN, 5)
    process.clock.now += 60_000
    lost = await process.breakers.admit(KEY, "lost")
    process.restart(killed=killed)
    heir = await process.breakers.admit(KEY, "heir")
    assert isinstance(heir, Permit)
    assert heir.kind is PermitKind.PROBE
    await process.breakers.settle(lost, SUCCESS)
    assert (await process.state()).state is BreakerState.HALF_OPEN
    await process.breakers.settle(heir, SUCCESS)
    assert (await process.state()).recovering


async def test_a_ramp_goes_on(process, killed):
    await process.run(DOWN, 5)
    process.clock.now += 60_000
    await process.run(SUCCESS)
    process.restart(killed=killed)
    seen = await process.state()
    assert (seen.state, seen.recovering) == (BreakerState.CLOSED, True)


async def test_a_reset_and_a_circuit_that_is_forgotten_stay_so(process, killed):
    tenant = BreakerKey("email", "acme")
    await process.run(DOWN, 5)
    await process.run(DOWN, 5, key=tenant)
    for key in (KEY, tenant):
        await process.breakers.command(key, Command(Action.RESET))
    process.restart(killed=killed)
    assert await process.breakers.keys() == [KEY]
    assert (await process.state()).state is BreakerState.CLOSED


async def test_a_tenant_without_history_costs_no_write(process):
    written = []
    process.breakers._file._connection.set_trace_callback(written.append)
    bad_data = Outcome(OutcomeKind.DATA, "VALIDATION_ERROR")
    for outcome in (SUCCESS, bad_data, SUCCESS):
        await process.run(outcome, key=BreakerKey("email", "acme"))
    assert written == []
    await process.run(DOWN, key=BreakerKey("email", "acme"))
    assert written


async def test_failures_in_a_row_are_kept_by_a_stop(process):
    await process.run(DOWN, 4)
    process.restart(killed=False)
    assert (await process.state()).failures_in_row == 4


async def test_what_the_disk_refuses_is_said_once_and_written_later(process, caplog):
    with refusing(process.breakers._file):
        await process.run(DOWN, 5)
        await process.breakers.command(BreakerKey("sms"), Command(Action.DISABLE))
    assert len([line for line in caplog.messages if "cannot be stored" in line]) == 1
    await process.breakers.command(BreakerKey("push"), Command(Action.DISABLE))
    process.restart(killed=True)
    states = {seen.key.job_type: seen.state for seen in await process.breakers.snapshots()}
    assert states == {"email": BreakerState.OPEN, "sms": BreakerState.DISABLED, "push": BreakerState.DISABLED}


@contextmanager
def refusing(file):
    file._connection.execute("PRAGMA query_only = ON")
    yield
    file._connection.execute("PRAGMA query_only = OFF")


def test_a_document_that_cannot_be_read_starts_closed(process, caplog):
    process.breakers.close()
    with closing(sqlite3.connect(process.path)) as database, database:
        database.execute("INSERT INTO breakers VALUES ('email', '{', 3)")
    database.close()
    process.start()
    assert "the stored breaker of email cannot be read" in caplog.text


@pytest.mark.parametrize("damage", [b"no database at all" * 500, b"SQLite format 3\0" + os.urandom(4096)])
def test_a_file_that_is_no_database_is_an_error_that_says_what_to_do(tmp_path, damage):
    path = tmp_path / "breakers.db"
    path.write_bytes(damage)
    with pytest.raises(SettingsError, match="move it away, or restore it"):
        BreakerFile(path)


def test_a_file_of_a_newer_version_is_left_alone(tmp_path):
    path = tmp_path / "breakers.db"
    BreakerFile(path).close()
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA user_version = 2")
    database.close()
    with pytest.raises(SettingsError, match="newer Sickbay"):
        BreakerFile(path)


async def test_a_hold_of_a_tenant_that_shares_its_breaker_now_is_deleted_from_the_file(process, killed):
    await process.breakers.command(BreakerKey("email", "acme"), Command(Action.FORCE_OPEN))
    await process.breakers.command(KEY, Command(Action.FORCE_OPEN))
    process.restart(killed=killed)
    await LeftoverBreakers(process.breakers, BreakerScope.TYPE).retire(await process.breakers.snapshots())
    process.restart(killed=killed)
    assert await process.breakers.keys() == [KEY]


async def test_an_ordered_probe_is_still_due_after_a_restart(process, killed):
    await process.run(DOWN, 5)
    await process.breakers.command(KEY, Command(Action.PROBE))
    process.restart(killed=killed)
    assert (await process.state()).cooldown_elapsed
