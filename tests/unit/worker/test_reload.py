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


def opened(folder, *names, since=0.0, outdated=0):
    """One that has loaded handlers of these types."""
    write(folder, *names)
    handlers = Handlers(load_handlers("rl_handlers"))
    return Reload("rl_handlers", since, handlers=handlers, outdated=lambda: outdated), handlers


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
