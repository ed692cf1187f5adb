"""The data folder is made, held by one process, and refused with a sentence that says why."""

import os
import subprocess
import sys

import pytest

from sickbay.adapters.embedded.datafolder import open_data_folder
from sickbay.errors import SettingsError

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


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_file_in_its_place_is_refused(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="a file is in its place"), open_data_folder(tmp_path / name):
        pass


def test_missing_rights_are_told(tmp_path, monkeypatch):
    """The refusal is acted, because to root the system refuses nothing."""

    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(SettingsError, match="may not be written by this user"), open_data_folder(tmp_path):
        pass


def test_an_impossible_path_is_told():
    with pytest.raises(SettingsError, match="check the path and its disk"), open_data_folder("/proc/sickbay"):
        pass


def test_an_error_inside_releases_the_folder(tmp_path):
    with pytest.raises(ZeroDivisionError), open_data_folder(tmp_path):
        _ = 1 / 0
    with open_data_folder(tmp_path):
        pass
