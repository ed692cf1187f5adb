"""The access file: read strictly, replaced as a whole, and read again when it changes."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sickbay.adapters.access import known_keys
from sickbay.adapters.access.access_file import change_access_file, encode_access_file, parse_access_file, read_access_file
from sickbay.adapters.access.known_keys import KnownKeys
from sickbay.adapters.access.local_token import LocalToken
from sickbay.domain.access import Kind, Role
from sickbay.domain.api_key import AccessFile, AccessKey, Certificate, hash_key, make_key
from sickbay.domain.errors import SettingsError, Unauthenticated
from sickbay.ports.access import Credentials
from sickbay.server.access import streams

NOW = 1_800_000_000_000
KEY, KEY_ID = make_key()
SHOP = AccessKey(KEY_ID, "shop", hash_key(KEY), frozenset({Role.SUBMIT, Role.VIEW}), frozenset({"acme"}), 1_000, NOW + 5, 0, "for tests")
PROBE = Certificate("probe", "spiffe://prod/probe", frozenset({Role.VIEW}))
FILE = AccessFile([SHOP], [PROBE])


class Clock:
    """A clock that stands until it is moved."""

    now = NOW

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "keys.json"
    found.write_bytes(encode_access_file(FILE))
    found.chmod(0o600)
    return found


def test_what_is_written_is_read(path: Path) -> None:
    assert read_access_file(path) == FILE


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sha256": "AB"}, "sha256"),
        ({"roles": []}, "roles"),
        ({"roles": ["root"]}, "'root'"),
        ({"tenants": []}, "tenants"),
        ({"tenants": ["a b"]}, "'a b'"),
        ({"expires": "tomorrow"}, "expires"),
        ({"expires": "2027-01-01T00:00:00"}, "expires"),
        ({"name": " "}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"id": "a b"}, "id"),
        ({"role": ["view"]}, "role"),
    ],
)
def test_a_mistake_names_its_entry_and_its_field(change: dict[str, Any], said: str) -> None:
    view = json.loads(encode_access_file(FILE))
    view["keys"][0] |= change
    with pytest.raises(SettingsError, match=said):
        parse_access_file(json.dumps(view).encode(), Path("keys.json"))


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b'{"keys": 1}', b'{"other": []}'])
def test_what_is_no_access_file_is_refused(data: bytes) -> None:
    with pytest.raises(SettingsError, match="not a valid access file"):
        parse_access_file(data, Path("keys.json"))


def test_two_entries_with_one_id_are_a_mistake() -> None:
    with pytest.raises(SettingsError, match="two entries"):
        parse_access_file(encode_access_file(AccessFile([SHOP, SHOP])), Path("keys.json"))


def _add(path: Path, count: int) -> None:
    for _ in range(count):
        key, key_id = make_key()
        added = replace(SHOP, id=key_id, sha256=hash_key(key))
        change_access_file(path, lambda old, added=added: replace(old, keys=[*old.keys, added]))


def test_writers_at_a_time_lose_nothing(path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=_add, args=(path, 10)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert len(read_access_file(path).keys) == 31
    assert sorted(one.name for one in path.parent.iterdir()) == [".keys.json.lock", "keys.json"]


def test_a_writer_that_fails_in_the_middle_leaves_the_file_of_before(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(SettingsError, match="disk full"):
        change_access_file(path, lambda old: old)
    assert read_access_file(path) == FILE
    assert sorted(one.name for one in path.parent.iterdir()) == [".keys.json.lock", "keys.json"]


def test_a_new_file_is_private_and_an_old_one_keeps_its_mode(tmp_path: Path, path: Path) -> None:
    change_access_file(tmp_path / "new.json", lambda _: FILE)
    assert (tmp_path / "new.json").stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    change_access_file(path, lambda old: old)
    assert path.stat().st_mode & 0o777 == 0o640


async def test_keys_and_certificates_are_known(path: Path) -> None:
    known = KnownKeys(path, Clock())
    assert await known.authenticate(Credentials(KEY)) == SHOP.principal
    assert await known.authenticate(Credentials(certificate=("other", "spiffe://prod/probe"))) == PROBE.principal
    assert await known.authenticate(Credentials(certificate=("other",))) is None
    assert await known.authenticate(Credentials("a.b.c", certificate=("spiffe://prod/probe",))) is None, "the token decides"
    assert await known.authenticate(Credentials()) is None


async def test_a_change_counts_at_the_next_look(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    known = KnownKeys(path, clock)
    change_access_file(path, lambda old: old.revoking(frozenset({KEY_ID}), NOW))
    known.look()
    with pytest.raises(Unauthenticated, match="was revoked"):
        await known.authenticate(Credentials(KEY))
    assert KEY not in caplog.text
    assert hash_key(KEY) not in caplog.text


async def test_a_key_expires_by_the_clock(path: Path) -> None:
    clock = Clock()
    known = KnownKeys(path, clock)
    clock.now = NOW + 5
    with pytest.raises(Unauthenticated, match="has expired"):
        await known.authenticate(Credentials(KEY))


@pytest.mark.parametrize("wrong", [b"{", None])
async def test_a_wrong_file_leaves_the_keys_of_before_and_is_logged_once(
    path: Path, caplog: pytest.LogCaptureFixture, wrong: bytes | None
) -> None:
    known = KnownKeys(path, Clock())
    if wrong is None:
        path.unlink()
    else:
        path.write_bytes(wrong)
    for _ in range(3):
        known.look()
    assert (await known.authenticate(Credentials(KEY))) == SHOP.principal
    assert caplog.text.count("the keys of before stay in force") == 1
    path.write_bytes(encode_access_file(AccessFile()))
    known.look()
    with pytest.raises(Unauthenticated, match="not known"):
        await known.authenticate(Credentials(KEY))


async def test_a_link_that_is_exchanged_is_a_change(tmp_path: Path) -> None:
    """As Kubernetes mounts a Secret: the file is a link through a folder that is a link, and that is exchanged."""
    for name, content in (("v1", FILE), ("v2", AccessFile())):
        (tmp_path / name).mkdir()
        (tmp_path / name / "keys.json").write_bytes(encode_access_file(content))
    (tmp_path / "data").symlink_to("v1")
    (tmp_path / "keys.json").symlink_to("data/keys.json")
    known = KnownKeys(tmp_path / "keys.json", Clock())
    assert await known.authenticate(Credentials(KEY)) is not None
    (tmp_path / "next").symlink_to("v2")
    (tmp_path / "next").replace(tmp_path / "data")
    known.look()
    with pytest.raises(Unauthenticated):
        await known.authenticate(Credentials(KEY))


def test_a_file_that_others_read_is_told(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.chmod(0o644)
    KnownKeys(path, Clock())
    assert "can be read by other users" in caplog.text


async def test_the_local_token_is_made_once_and_private(tmp_path: Path) -> None:
    first = LocalToken(tmp_path)
    token = first.path.read_text().strip()
    assert first.path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["token"]
    again = LocalToken(tmp_path)
    found = await again.authenticate(Credentials(token))
    assert found is not None
    assert found.kind is Kind.LOCAL
    assert await again.authenticate(Credentials(f"{token}x")) is None
    assert await again.authenticate(Credentials()) is None
    assert token not in repr(vars(again))


def test_a_local_token_that_others_could_read_is_made_private(tmp_path: Path) -> None:
    path = LocalToken(tmp_path).path
    path.chmod(0o644)
    LocalToken(tmp_path)
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "short", " \n"])
def test_a_local_token_that_can_be_guessed_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "token").write_text(text)
    with pytest.raises(SettingsError, match="no token"):
        LocalToken(tmp_path)


def test_tenants_that_were_forgotten_are_not_all_of_them() -> None:
    for kind in ("keys", "certificates"):
        view = json.loads(encode_access_file(FILE))
        del view[kind][0]["tenants"]
        with pytest.raises(SettingsError, match="tenants"):
            parse_access_file(json.dumps(view).encode(), Path("keys.json"))


@pytest.mark.parametrize("field", ["id", "sha256", "name", "created", "roles", "tenants", "note", pytest.param(KEY, id="its name")])
def test_no_message_shows_a_key_that_was_pasted(field: str) -> None:
    view = json.loads(encode_access_file(FILE))
    pasted = {"roles": [KEY], "tenants": [KEY], "name": f"{KEY}\n", "note": [KEY]}
    view["keys"][0][field] = pasted.get(field, KEY)
    with pytest.raises(SettingsError) as refused:
        parse_access_file(json.dumps(view).encode(), Path("keys.json"))
    assert KEY not in str(refused.value)


def test_what_services_would_refuse_is_not_written(path: Path) -> None:
    for wrong in (replace(SHOP, id="b", name="a\nb"), SHOP):
        with pytest.raises(SettingsError):
            change_access_file(path, lambda old, wrong=wrong: replace(old, keys=[*old.keys, wrong]))
    assert read_access_file(path) == FILE


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_rewrite_keeps_the_owner(path: Path) -> None:
    os.chown(path, 12_345, 23_456)
    change_access_file(path, lambda old: old.revoking(frozenset({KEY_ID}), NOW))
    found = path.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (12_345, 23_456, 0o600)


def _killed_at(path: Path, call: str) -> None:
    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(os, call, die)
    change_access_file(path, lambda old: old.revoking(frozenset({KEY_ID}), NOW))


@pytest.mark.parametrize("call", ["fchmod", "fsync", "replace"])
def test_a_writer_that_is_killed_leaves_the_file_of_before_and_no_lock(path: Path, call: str) -> None:
    killed = multiprocessing.get_context("spawn").Process(target=_killed_at, args=(path, call))
    killed.start()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    assert read_access_file(path) == FILE
    change_access_file(path, lambda old: old.revoking(frozenset({KEY_ID}), NOW))
    assert read_access_file(path).keys[0].revoked == NOW


async def test_a_change_in_place_counts_though_size_and_times_are_the_same(path: Path) -> None:
    """Clocks of file systems tick slowly: two writes may have one time."""
    known = KnownKeys(path, Clock())
    known.look()
    other = path.read_bytes().replace(hash_key(KEY).encode(), b"0" * 64)
    times = path.stat()
    with path.open("r+b") as file:
        file.write(other)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    known.look()
    with pytest.raises(Unauthenticated, match="not known"):
        await known.authenticate(Credentials(KEY))


async def test_a_file_that_is_mended_is_told(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    known = KnownKeys(path, Clock())
    content = path.read_bytes()
    path.write_bytes(content[:40])  # half-written
    known.look()
    path.write_bytes(content)
    known.look()
    assert "is as it was again" in caplog.text
    path.write_bytes(content[:40])
    known.look()
    assert caplog.text.count("the keys of before stay in force") == 2, "the same mistake, later, is told again"


def test_a_revoked_key_is_refused_within_two_seconds_also_for_streams() -> None:
    assert known_keys.LOOK_S + streams.LOOK_S < 2


async def test_a_local_token_that_others_could_read_is_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = LocalToken(tmp_path).path
    old = path.read_text().strip()
    path.chmod(0o604)
    again = LocalToken(tmp_path)
    assert await again.authenticate(Credentials(old)) is None
    assert await again.authenticate(Credentials(path.read_text().strip())) is not None
    assert "another token replaces it" in caplog.text
    assert old not in caplog.text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_local_token_of_another_user_is_refused(tmp_path: Path) -> None:
    os.chown(LocalToken(tmp_path).path, 12_345, 12_345)
    with pytest.raises(SettingsError, match="of this user"):
        LocalToken(tmp_path)


def test_a_local_token_behind_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "planted").write_text("x" * 40)
    (tmp_path / "token").symlink_to("planted")
    with pytest.raises(SettingsError, match="links"):
        LocalToken(tmp_path)
