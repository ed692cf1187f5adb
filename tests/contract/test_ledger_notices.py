"""The texts by which processes tell each other of writes (pure)."""

from dataclasses import replace

import pytest

from sickbay.adapters.sql.notices import EVERYTHING, MAX_BYTES, REVOKED, Notice, decode, encode, revoked_copies
from sickbay.domain.job import JobState
from tests.support.ledger_events import START, cancelled, parked, queued, succeeded

EVENTS = [queued("a"), parked("b c", attempt=2), cancelled("d"), succeeded("e", generation=3)]


def everything(texts):
    return [notice for text in texts for notice in decode(text, {event.job.job_id for event in EVENTS})]


def test_what_is_written_can_be_read():
    assert everything(encode(EVENTS)) == [
        Notice("a", JobState.QUEUED, 0, 0, START, None),
        Notice("b c", JobState.PARKED, 0, 2, START + 300, None),
        Notice("d", JobState.CANCELLED, 0, 0, START + 600, None),
        Notice("e", JobState.SUCCEEDED, 3, 0, START + 500, START + 450),
    ]


@pytest.mark.parametrize("state", JobState)
def test_every_state_has_a_letter(state):
    (text,) = encode([replace(queued("a"), state=state)])
    assert next(decode(text, {"a"})).state is state


def test_only_wanted_jobs_are_read():
    assert [notice.job_id for notice in decode(encode(EVENTS)[0], {"d"})] == ["d"]


def test_dropped_copies_are_no_news():
    assert encode([replace(queued(), duplicate=True)]) == []


def test_called_off_copies_are_told_apart():
    texts = encode([cancelled("d")], [("d e", 1)])
    assert [text.startswith(REVOKED) for text in texts] == [True, False]
    assert [revoked_copies(text) for text in texts] == [[("d e", 1)], []]


@pytest.mark.parametrize("name", ["plain", "schön", "日本"])
def test_texts_stay_below_the_limit_and_keep_the_order(name):
    events = [queued(f"{name}-{number}") for number in range(2_000)]
    texts = encode(events, [(f"{name}-{number}", 0) for number in range(1_000)])
    assert all(len(text.encode()) <= MAX_BYTES for text in texts)
    assert len(texts) < 40
    ids = [event.job.job_id for event in events]
    told = [notice.job_id for text in texts if not text.startswith(REVOKED) for notice in decode(text, ids)]
    assert told == ids
    assert len([copy for text in texts for copy in revoked_copies(text)]) == 1_000


@pytest.mark.parametrize("odd", ["a\nb", "x" * MAX_BYTES])
def test_what_fits_no_text_makes_everybody_look(odd):
    assert EVERYTHING in encode([queued("a"), queued(odd)])
    assert encode([], [(odd, 0)]) == [EVERYTHING]
