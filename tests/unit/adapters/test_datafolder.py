"""The data folder is made, held by one process, and refused with a sentence that says why."""

import os
import signal
import subprocess
import sys

import pytest

from sickbay.adapters.embedded.datafolder import open_data_folder
from sickbay.domain.errors import SettingsError

HOLD = """
import sys
from sickbay.adapters.embedded.datafolder import open_data_folder
with open_data_folder(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_folder_is_made_with_its_parents(tmp_path):
    with open_data_folder(tmp_path / "a" / "b") as folder:
        assert folder.path.is_dir()
        assert folder.queue_db == tmp_path / "a" / "b" / "queue.db"
        assert folder.ledger_db == tmp_path / "a" / "b" / "ledger.db"


def test_it_can_be_opened_again_after_it_was_left(tmp_path):
    with open_data_folder(tmp_path):
        pass
    with open_data_folder(tmp_path) as folder:
        assert folder.path == tmp_path


def test_another_process_is_named(tmp_path):
    """And the lock ends with its holder, even when that is killed."""
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(SettingsError, match=rf"in use by process {holder.pid}:"), open_data_folder(tmp_path):
            pass
        holder.kill()
    with open_data_folder(tmp_path) as folder:
        assert (folder.path / "lock").read_text() == str(os.getpid())


@pytest.mark.parametrize(("name", "words"), [("file", "a file with this name exists"), ("file/below", "the name of one of its folders")])
def test_a_file_in_its_place_is_refused(tmp_path, name, words):
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=words), open_data_folder(tmp_path / name):
        pass


def test_missing_rights_are_told(tmp_path, monkeypatch):
    """The refusal is acted, because to root the system refuses nothing."""

    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "open", refuse)
    with (
        pytest.raises(SettingsError, match="permission denied: this user cannot write it; change its permissions"),
        open_data_folder(tmp_path),
    ):
        pass


def test_an_impossible_path_is_told():
    with pytest.raises(SettingsError, match="check its path"), open_data_folder("/proc/sickbay"):
        pass


def test_an_error_inside_releases_the_folder(tmp_path):
    with pytest.raises(ZeroDivisionError), open_data_folder(tmp_path):
        _ = 1 / 0
    with open_data_folder(tmp_path):
        pass


FORK = """
import ctypes, os, sys, time
from sickbay.adapters.embedded.datafolder import open_data_folder
fork = os.fork if sys.argv[2] == "python" else ctypes.CDLL(None).fork
with open_data_folder(sys.argv[1]):
    child = fork()
    if child == 0:
        time.sleep(300)
    print(child, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("way", ["python", "behind Python's back"])
def test_a_fork_that_outlives_the_holder_gives_the_folder_up_or_is_named(tmp_path, way):
    """What Python forks gives the lock up; what a library forks has it as long as it lives, and is the one to stop."""
    with subprocess.Popen([sys.executable, "-c", FORK, tmp_path, way], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        child = int(holder.stdout.readline())
        try:
            with pytest.raises(SettingsError, match=rf"in use by process {holder.pid}:"), open_data_folder(tmp_path):
                pass
            holder.kill()
            holder.wait()
            if way == "python":
                with open_data_folder(tmp_path):
                    pass
            else:
                words = rf"in use by process {child}, a fork that process {holder.pid} left behind: stop it"
                with pytest.raises(SettingsError, match=words), open_data_folder(tmp_path):
                    pass
        finally:
            os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize(
    ("free", "flags", "words"),
    [
        (1_000_000, 0, ""),
        (10, 0, "disk full: no space left for the data folder"),
        (1_000_000, os.ST_RDONLY, "read-only file system under the data folder"),
    ],
)
def test_a_disk_that_takes_nothing_is_told(tmp_path, monkeypatch, free, flags, words):
    seen = os.statvfs(tmp_path)
    fields = [4096, 4096, 2_000_000, free, free, *seen[5:8], flags, seen[9]]
    with open_data_folder(tmp_path) as folder:
        assert not folder.trouble
        monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(fields))
        assert folder.trouble == words


def test_a_folder_that_was_taken_away_is_told(tmp_path):
    with open_data_folder(tmp_path / "data") as folder:
        (tmp_path / "data").rename(tmp_path / "elsewhere")
        assert folder.trouble == "the data folder is unavailable"
