"""What lies in the data folder is for its owner alone, whatever the umask; and why it cannot be used is told in one sentence."""

import errno
import logging
import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import contextmanager

import pytest

from sickbay.adapters import files
from sickbay.adapters.embedded.datafolder import open_data_folder
from sickbay.adapters.files import make_private, opening, sqlite_trouble
from sickbay.domain.errors import SettingsError
from sickbay.runtime.backends import open_up
from sickbay.runtime.settings import Settings
from tests.support.broker_messages import jobs
from tests.support.ledger_events import queued


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def modes(folder):
    return {path.name: mode(path) for path in folder.iterdir()}


@contextmanager
def umask(bits):
    before = os.umask(bits)
    try:
        yield
    finally:
        os.umask(before)


async def use(folder):
    """Everything that makes a file: both databases with their logs, while they are open."""
    async with open_up(Settings.read(), folder) as backends:
        await backends.broker.publish(jobs("a"))
        await backends.writer.apply([queued("j1")])
        await backends.reader.get("j1")
        return modes(folder)


@pytest.mark.parametrize("bits", [0, 0o022, 0o077, 0o277, 0o777])
async def test_whatever_the_umask_only_the_owner_has_any_right(tmp_path, bits):
    """Neither a loose nor a tight one changes it; the folders above are made as everywhere."""
    folder = tmp_path / "above" / "data"
    (tmp_path / "above").mkdir()
    with umask(bits):
        found = await use(folder)
    assert mode(folder) == 0o700
    assert {"lock", "queue.db", "queue.db-wal", "queue.db-shm", "ledger.db", "ledger.db-wal", "ledger.db-shm"} <= found.keys()
    assert set(found.values()) == {0o600}


async def test_what_an_older_version_left_open_is_closed_and_said(tmp_path, caplog):
    """Folder and files, those that SQLite keeps beside its databases, too; what is in them stays."""
    caplog.set_level(logging.INFO)
    folder = tmp_path / "data"
    with umask(0o022):
        await use(folder)
        for name in ("handlers", "queue.db-wal", "ledger.db-shm"):
            (folder / name).touch()
        for path in (folder, *folder.iterdir()):
            path.chmod(0o755 if path == folder else 0o644)
    async with open_up(Settings.read(), folder) as backends:
        assert set(modes(folder).values()) == {0o600}
        assert await backends.reader.get("j1") is not None
    assert mode(folder) == 0o700
    assert "was accessible to other users (mode 0755); it is private now (0700)" in caplog.text
    caplog.clear()
    with open_data_folder(folder):
        pass
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("others", "bits", "why"), [("notes.txt", 0o755, "contains other files, too (notes.txt)"), (None, 0o1777, "shared")]
)
def test_a_folder_that_is_not_sickbays_alone_stays_as_it_is_and_that_is_said(tmp_path, caplog, others, bits, why):
    """`--data .` must not lock others out of a project, or out of /tmp."""
    folder = tmp_path / "project"
    folder.mkdir()
    folder.chmod(bits)
    if others:
        (folder / others).touch()
        (folder / others).chmod(0o644)
    with open_data_folder(folder):
        assert mode(folder / "lock") == 0o600
    assert mode(folder) == bits
    assert not others or mode(folder / others) == 0o644
    assert why in caplog.text


def test_a_link_is_followed(tmp_path):
    """Somebody keeps the queue on another disk."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "queue.db").symlink_to(tmp_path / "elsewhere" / "queue.db")
    make_private(tmp_path / "queue.db")
    assert mode(tmp_path / "elsewhere" / "queue.db") == 0o600
    assert (tmp_path / "queue.db").is_symlink()


def test_locks_of_others_in_this_process_survive(tmp_path):
    """The system ends all locks of a process on a file when it closes it once, so one that is in use must not be opened."""
    path = tmp_path / "a.db"
    make_private(path)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    make_private(path)
    try_it = f"import sqlite3; sqlite3.connect({str(path)!r}, timeout=0).execute('BEGIN IMMEDIATE')"
    other = subprocess.run([sys.executable, "-c", try_it], check=False, stderr=subprocess.PIPE, text=True)
    holder.close()
    assert "locked" in other.stderr


OPEN = "import sys; from sickbay.adapters.embedded.datafolder import open_data_folder\nwith open_data_folder(sys.argv[1]): print('held')"


def as_somebody_without_privileges(folder):
    """Root may do everything; without this capability root is a user like any other."""
    dropped = "-dac_override,-dac_read_search,-fowner"
    prefix = ["setpriv", f"--bounding-set={dropped}"] if os.geteuid() == 0 else []
    try:
        done = subprocess.run([*prefix, sys.executable, "-c", OPEN, folder], check=False, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no setpriv here")
    return done.stdout + done.stderr


def test_a_folder_without_rights_is_told(tmp_path):
    tmp_path.chmod(0o500)
    said = as_somebody_without_privileges(tmp_path)
    tmp_path.chmod(0o700)
    assert f"the data folder {tmp_path} cannot be used: permission denied: this user cannot write it; change its permissions" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders away")
def test_a_folder_of_another_user_names_that_user(tmp_path):
    """Also one that lies in a folder of another user, or has a lock file of another user."""
    whose = "it belongs to nobody (uid 65534): run as that user, change its permissions, or choose another place"
    words = f"permission denied: this user cannot write it; {whose}"
    theirs, shared = tmp_path / "theirs", tmp_path / "shared"
    theirs.mkdir(0o755)
    os.chown(theirs, 65534, 65534)
    for folder in (theirs, theirs / "data"):
        assert words in as_somebody_without_privileges(folder)
    shared.mkdir()
    (shared / "lock").touch(0o600)
    os.chown(shared / "lock", 65534, 65534)
    assert words.replace("write it", "write lock") in as_somebody_without_privileges(shared)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
@pytest.mark.parametrize(
    ("size", "options", "words"),
    [
        ("1m", "ro", "read-only file system"),
        ("12k", "rw", "disk full or quota exceeded: free space"),
        ("100k", "rw", "disk full or quota exceeded: free space"),
    ],
)
async def test_a_disk_that_takes_nothing_is_told(tmp_path, size, options, words):
    """Mounted read-only, or full from the begin or soon."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},{options}", "tmpfs", tmp_path]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        with pytest.raises(SettingsError, match=words):
            await use(tmp_path)
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "disk full or quota exceeded"),
        (errno.EDQUOT, "disk full or quota exceeded"),
        (errno.EROFS, "read-only file system"),
        (errno.EACCES, "cannot write it"),
        (errno.ENAMETOOLONG, "too long"),
        (errno.EIO, "I/O error"),
        (errno.EMFILE, "too many open files"),
        (errno.ENXIO, "check its path"),
    ],
)
def test_whatever_the_system_says_becomes_one_sentence(tmp_path, number, words):
    with pytest.raises(SettingsError, match=words), opening(tmp_path / "x"):
        raise OSError(number, os.strerror(number))


def test_a_disk_that_is_full_is_not_taken_for_a_broken_one(tmp_path, monkeypatch):
    """SQLite calls both an I/O error."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
    assert "I/O error" in sqlite_trouble(error, tmp_path / "x")
    monkeypatch.setattr(files, "_LEAST_BYTES", 2**60)
    assert "disk full" in sqlite_trouble(error, tmp_path / "x")


@pytest.mark.parametrize("name", ["", "  ", "\0"])
def test_a_folder_without_a_name_is_refused(name):
    """The current folder would be used, or nothing would be found."""
    with pytest.raises(SettingsError, match="the data folder"), open_data_folder(name):
        pass


@pytest.mark.parametrize("name", ["a?b=c", "100%", "a#b", "ünïcode", os.fsdecode(b"caf\xe9"), "with space", "%2e%2e"])
async def test_any_name_of_a_folder_is_its_name(tmp_path, name):
    """The ledger's path is no URL."""
    await use(tmp_path / name)
    assert (tmp_path / name / "ledger.db").stat().st_size > 0
    assert os.listdir(tmp_path) == [name]  # noqa: PTH208 - names are wanted
