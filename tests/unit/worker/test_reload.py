"""What `--reload` says and replaces, and how it finds changes."""

import asyncio
import logging
import os
import sys
from pathlib import Path

import pytest
import watchfiles

from sickbay.handlers.loading import load_handlers
from sickbay.handlers.registry import HandlerSpec
from tests.support.engine_bench import job, open_bench
from worker.handlers import Handlers, Source
from worker.reload import Reload

HANDLER = "from sickbay import handler\n@handler({name!r})\ndef run_{name}(job): ...\n"


@pytest.fixture
def folder(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "sickbay")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = dict(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - set(before):
        del sys.modules[name]


def write(folder, *names):
    (folder / "rl_handlers.py").write_text("".join(HANDLER.format(name=name) for name in names))
    return folder / "rl_handlers.py"


class StubRunner:
    """One that runs so many handlers of before."""

    def __init__(self, outdated):
        self._outdated = outdated

    def outdated(self, handlers):
        return self._outdated

    async def enter_lifespans(self, specs):
        pass

    def leave_unused(self, handlers):
        pass


def opened(folder, *names, since=0.0, outdated=0):
    """One that has loaded handlers of these types."""
    write(folder, *names)
    handlers = Handlers(load_handlers("rl_handlers"))
    return Reload("rl_handlers", since, handlers=handlers, runner=StubRunner(outdated)), handlers


@pytest.mark.parametrize(
    ("now", "outdated", "words"),
    [
        (["a", "b"], 0, "2 handlers"),
        (["a", "c"], 1, "2 handlers (new: c; gone: b); 1 job still runs with the code of before"),
        (["a"], 1_234, "1 handler (gone: b); 1,234 jobs still run with the code of before"),
        ([*"abcdefghij"], 0, "10 handlers (new: c, d, e, f, g and 3 more)"),
    ],
)
async def test_what_has_changed_is_said(folder, caplog, now, outdated, words):
    reload, handlers = opened(folder, "a", "b", outdated=outdated)
    assert await reload.reload([write(folder, *now), Path("/elsewhere/util.py")])
    assert caplog.messages == [f"reloaded rl_handlers, since /elsewhere/util.py, rl_handlers.py changed: {words}"]
    assert sorted(handlers) == sorted(now)


async def test_handlers_of_other_sources_stay(folder):
    reload, handlers = opened(folder, "a")
    theirs = HandlerSpec("b", print)
    handlers.replace(Source.SETTINGS_FILE, [theirs])
    assert await reload.reload([write(folder, "b", "c")])
    assert handlers["b"] is theirs
    assert sorted(handlers) == ["b", "c"]


async def test_a_module_without_handlers_replaces_none(folder, caplog):
    reload, handlers = opened(folder, "a")
    before = handlers["a"]
    assert not await reload.reload([write(folder)])
    assert caplog.messages == [
        "not reloaded, the handlers of before go on: JOB_HANDLERS: module 'rl_handlers' has no function marked @handler(...)"
    ]
    assert handlers["a"] is before


async def test_a_module_that_raises_what_is_no_exception(folder, caplog):
    reload, _ = opened(folder, "a")
    for name in ("KeyboardInterrupt", "asyncio.CancelledError"):
        (folder / "rl_handlers.py").write_text(f"import asyncio\nraise {name}\n")
        assert not await reload.reload([folder / "rl_handlers.py"])
        assert f"rl_handlers failed while it was imported: {name.rpartition('.')[2]}" in caplog.text


async def until_reloaded(reload, caplog):
    running = asyncio.create_task(reload.run())
    while not any(message.startswith("reloaded") for message in caplog.messages):
        await asyncio.sleep(0.001)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_file_that_was_written_after_the_start_and_before_the_first_look(folder, caplog, monkeypatch):
    async def nothing(*_, **__):
        yield set()
        await asyncio.Event().wait()

    monkeypatch.setattr(watchfiles, "awatch", nothing)
    reload, handlers = opened(folder, "a", since=1e9)
    os.utime(write(folder, "b"), (1e9 + 1, 1e9 + 1))
    await until_reloaded(reload, caplog)
    assert list(handlers) == ["b"]


@pytest.mark.parametrize("error", [OSError(28, "no space left on device"), RuntimeError("no space left on device")])
async def test_a_system_without_notices_of_changes_is_looked_at(folder, caplog, monkeypatch, error):
    """As when all watches of inotify are taken, or on some network file systems."""
    original = watchfiles.awatch

    async def awatch(*folders, force_polling, **options):
        if not force_polling:
            raise error
        async for changes in original(*folders, force_polling=True, poll_delay_ms=10, **options):
            yield changes

    monkeypatch.setattr(watchfiles, "awatch", awatch)
    reload, handlers = opened(folder, "a", since=1e9)
    await until_reloaded(reload, caplog)
    assert "no space left on device" in caplog.text
    assert list(handlers) == ["a"]


async def test_of_all_files_only_sources_are_looked_at(folder):
    reload, _ = opened(folder, "a")
    names = ["new.py", "deep/new.py", "notes.txt", "new.pyc", ".venv/new.py", "deep/__pycache__/new.py", ".git/hook.py"]
    assert [name for name in names if reload._is_source(None, str(folder / name))] == ["new.py", "deep/new.py"]
    assert not reload._is_source(None, "/elsewhere/new.py")


LIFESPAN = """
import asyncio
import threading
from sickbay import handler, lifespan

EVENTS = []
LATE = threading.Event()

@lifespan
def pool():
    EVENTS.append("open {number}")
    yield "pool {number}"
    EVENTS.append("close {number}")

@lifespan
async def session(pool):
    yield "session of " + pool
    EVENTS.append("close session {number}")

@handler("email")
async def send(job, session):
    if job.job_id == "slow":
        await asyncio.to_thread(LATE.wait)
    return session
"""


async def test_lifespans_of_before_are_left_when_the_last_run_that_needs_them_has_ended(folder, caplog):
    def written(number):
        (folder / "rl_handlers.py").write_text(LIFESPAN.format(number=number))
        return [folder / "rl_handlers.py"]

    written(1)
    handlers = Handlers(load_handlers("rl_handlers"))
    old = sys.modules["rl_handlers"]
    async with open_bench(table=handlers) as bench:
        handlers.on_change(bench.engine.handlers_changed)
        await bench.runner.enter_lifespans(handlers.values())
        reload = Reload("rl_handlers", 0.0, handlers=handlers, runner=bench.runner)
        slow = bench.deliver(job("slow"))
        while not bench.runner.running:
            await asyncio.sleep(0.001)
        assert await reload.reload(written(2))
        new = sys.modules["rl_handlers"]
        assert new.EVENTS == ["open 2"], "before its first job"
        assert "1 job still runs with the code of before" in caplog.text
        await bench.run_one(job("next"))
        assert bench.broker.events()[-1].result.json == b'"session of pool 2"'
        assert old.EVENTS == ["open 1"]
        old.LATE.set()
        await slow.settled.wait()
        assert bench.broker.events()[-1].result.json == b'"session of pool 1"'
        while old.EVENTS != ["open 1", "close session 1", "close 1"]:
            await asyncio.sleep(0.001)
        await bench.runner._lifespans.leave()
        assert new.EVENTS == ["open 2", "close session 2", "close 2"]


async def test_a_lifespan_that_fails_leaves_everything_as_it_was(folder, caplog):
    path = folder / "rl_handlers.py"
    path.write_text(LIFESPAN.format(number=1))
    handlers = Handlers(load_handlers("rl_handlers"))
    before = handlers["email"]
    async with open_bench(table=handlers) as bench:
        await bench.runner.enter_lifespans(handlers.values())
        reload = Reload("rl_handlers", 0.0, handlers=handlers, runner=bench.runner)
        path.write_text(LIFESPAN.format(number=2).replace('EVENTS.append("open 2")', 'raise OSError("no route")'))
        assert not await reload.reload([path])
        assert (
            "not reloaded, the handlers of before go on: JOB_HANDLERS: a lifespan of module 'rl_handlers' failed at the start"
            in caplog.text
        )
        assert handlers["email"] is before
        await bench.run_one(job("next"))
        assert bench.broker.events()[-1].result.json == b'"session of pool 1"'
        path.write_text(LIFESPAN.format(number=3))
        assert await reload.reload([path])
        await bench.run_one(job("last"))
        assert bench.broker.events()[-1].result.json == b'"session of pool 3"'
        await bench.runner._lifespans.leave()
