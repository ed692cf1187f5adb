"""The message with entries of the audit log."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sickbay.adapters.embedded.topology import queues_of
from sickbay.adapters.rabbitmq.topology import EVENTS, Route, route
from sickbay.domain.audit import MAX_NAME_CHARS, MAX_TEXT_CHARS, AuditEntry, bounded
from sickbay.domain.storable import AHEAD_MS
from sickbay.messages.audit import KEY, audit_message, decode_entries, has_entries
from sickbay.messages.codec import Undecodable, decode_events, decode_job, encode_event, encode_job
from sickbay.ports import Queue
from tests.support.ledger_events import job, queued

NOW = 1_700_000_000_000
ENTRIES = st.builds(
    AuditEntry,
    st.text("0123456789abcdef", min_size=1, max_size=32),
    st.integers(0, NOW),
    st.text(max_size=50),
    principal=st.text(max_size=MAX_NAME_CHARS),
    note=st.text(max_size=MAX_TEXT_CHARS),
    result=st.sampled_from(["STARTED", "OK", "PERMISSION_DENIED"]),
    count=st.integers(1, 1_000),
).map(bounded)


@given(st.lists(ENTRIES, min_size=1, max_size=5))
def test_what_is_written_is_read_again(entries):
    body = audit_message(entries).body
    assert has_entries(body)
    assert decode_entries(body, NOW) == entries


def test_no_job_and_no_event_is_taken_for_entries():
    assert not has_entries(encode_job(job("audit")))
    assert not has_entries(encode_event(queued("audit")))


def test_a_control_plane_of_before_keeps_it_as_undecodable_instead_of_losing_it():
    """It decodes events, then jobs, and puts what is neither into quarantine, with its bytes."""
    body = audit_message([AuditEntry("a", NOW, "ResetBreaker")]).body
    with pytest.raises(Undecodable):
        decode_events(body, NOW)
    with pytest.raises(Undecodable):
        decode_job(body, "m", NOW)


def test_it_reaches_the_ledger_alone():
    assert queues_of(KEY) == (Queue.LEDGER,)
    assert route(KEY, 0) == Route(EVENTS, KEY)


def test_what_others_publish_is_cut_to_what_can_be_stored():
    odd = {"entry_id": "a", "at": NOW * 2, "action": "x\0" + "y" * 1_000, "unknown": 1}
    (found,) = decode_entries(msgspec.json.encode({"audit": [odd]}), NOW)
    assert found.at == NOW + AHEAD_MS
    assert found.action == "x" + "y" * (MAX_NAME_CHARS - 2)


@pytest.mark.parametrize("body", [b'{"audit":1}', b'{"audit":[{}]}', b'{"audit":[{"entry_id":"","at":1,"action":"a"}]}', b'{"audit":'])
def test_what_cannot_be_read_is_undecodable(body):
    assert has_entries(body)
    with pytest.raises(Undecodable):
        decode_entries(body, NOW)
