"""Laws of API keys."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sickbay.domain.access import Kind, Role
from sickbay.domain.api_key import AccessFile, AccessKey, check_key, hash_key, id_of, make_key
from sickbay.domain.errors import ErrorReason, Unauthenticated

KEY, KEY_ID = make_key()
NOW = 1_800_000_000_000
LETTERS = string.ascii_letters + string.digits + "_-. "


def entry(key: str = KEY, key_id: str = KEY_ID, **more: int) -> AccessKey:
    return AccessKey(key_id, "shop", hash_key(key), frozenset({Role.SUBMIT}), frozenset({"acme"}), **more)


def test_a_key_is_its_principals() -> None:
    found = check_key(KEY, entry(), NOW)
    assert (found.name, found.kind, found.tenants, found.credential) == ("shop", Kind.KEY, {"acme"}, KEY_ID)
    assert id_of(KEY) == KEY_ID


@given(place=st.integers(0, len(KEY) - 1), letter=st.sampled_from(LETTERS))
def test_a_key_with_one_wrong_character_is_mistyped(place: int, letter: str) -> None:
    changed = KEY[:place] + letter + KEY[place + 1 :]
    if changed == KEY:
        return
    with pytest.raises(Unauthenticated, match="mistyped") as refused:
        id_of(changed)
    assert changed not in str(refused.value)


@given(cut=st.integers(0, len(KEY) - 1), more=st.text(max_size=5))
def test_a_key_that_is_cut_or_has_more_is_mistyped(cut: int, more: str) -> None:
    for wrong in (KEY[:cut], KEY[:cut] + more, KEY + (more or "\n"), f" {KEY}"):
        if wrong != KEY:
            with pytest.raises(Unauthenticated):
                id_of(wrong)


def test_another_key_with_this_id_is_not_known() -> None:
    other, _ = make_key()
    for found in (entry(other), None):
        with pytest.raises(Unauthenticated, match="not known here"):
            check_key(KEY, found, NOW)


@pytest.mark.parametrize(
    ("more", "word"), [({"expires": NOW}, "has expired"), ({"revoked": NOW + 60_000}, "was revoked"), ({"revoked": 1}, "was revoked")]
)
def test_a_key_counts_until_its_end(more: dict[str, int], word: str) -> None:
    if "revoked" not in more:  # that is at once, whatever the clock of another machine says
        assert check_key(KEY, entry(**more), NOW - 1).name == "shop"
    with pytest.raises(Unauthenticated, match=word) as refused:
        check_key(KEY, entry(**more), NOW)
    assert refused.value.reason is ErrorReason.CREDENTIAL_EXPIRED
    assert KEY not in str(refused.value)


def test_revoking_keeps_the_time_of_the_first_time() -> None:
    file = AccessFile([entry(), entry(key_id="other", revoked=5)])
    after = file.revoking(frozenset({KEY_ID, "other"}), NOW)
    assert [key.revoked for key in after.keys] == [NOW, 5]
    assert after.revoking(frozenset({KEY_ID}), NOW + 1) == after


def test_an_id_comes_before_a_name() -> None:
    file = AccessFile([entry(), entry(key_id="shop"), entry(key_id="b")])
    assert [key.id for key in file.named("shop")] == ["shop"]
    assert [key.id for key in AccessFile([entry(), entry(key_id="b")]).named("shop")] == [KEY_ID, "b"]


def test_keys_differ_and_nothing_shows_their_hash() -> None:
    assert len({make_key()[0] for _ in range(100)}) == 100
    assert hash_key(KEY) not in repr(entry())
