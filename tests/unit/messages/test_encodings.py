"""A message that nobody could read says how it is packed, whoever reads it: a worker, the keeper, the sweep."""

import bz2
import gzip
import lzma
import zlib

import pytest

from controlplane.ledger_ingest import LedgerIngester
from controlplane.reconcile import QuarantineReconciler
from sickbay.domain.encodings import explain
from sickbay.domain.job import JobEvent
from sickbay.messages.codec import Undecodable, decode_job
from sickbay.ports import TO_QUARANTINE, Message
from tests.support.embedded_backends import open_backends
from tests.support.engine_bench import StubDelivery, does, fine, open_bench

JOB = b'{"jobType": "email", "payload": {}}'
PACKED = {
    "gzip": gzip.compress(JOB),
    "zlib": zlib.compress(JOB),
    "bzip2": bz2.compress(JOB),
    "xz": lzma.compress(JOB),
    "UTF-16": JOB.decode().encode("utf-16"),
    "UTF-8 with a byte order mark": b"\xef\xbb\xbf" + JOB,
}


@pytest.mark.parametrize("name", PACKED)
def test_a_packed_body_is_known_by_its_first_bytes(name):
    """Its publisher says nothing of it, or something that says nothing."""
    with pytest.raises(Undecodable) as caught:
        decode_job(PACKED[name], "m", 0)
    for encoding in ("", "UTF-8", "binary"):
        told = explain(str(caught.value), PACKED[name], encoding)
        assert told.startswith(str(caught.value))
        assert f"its body looks like {name}, " in told


def test_what_the_publisher_says_is_told():
    assert "its content encoding is 'br', and only plain JSON in UTF-8 is supported" in explain("why", b"\x0b\x02", "br")
    assert len(explain("why", b"", "x" * 255)) < 200


@pytest.mark.parametrize("encoding", ["", "utf-8", "identity"])
def test_of_a_plain_body_nothing_is_added(encoding):
    assert explain("why", b"{", encoding) == "why"


async def test_a_worker_says_it():
    async with open_bench(does(fine)) as bench:
        await bench.run_one(body=PACKED["gzip"], encoding="gzip")
        (event,) = bench.broker.events()
        assert "content encoding is 'gzip'" in event.job.failures[-1].message
        assert "content encoding is 'gzip'" in event.job.payload["problem"]


async def test_the_control_plane_says_it():
    """Of a message in the ledger's queue, and of a copy in quarantine."""
    async with open_backends() as backends:
        keeper = LedgerIngester(backends.broker, backends.writer, backends.clock, print)
        events: list[JobEvent] = [*keeper._read(StubDelivery(PACKED["gzip"], [], encoding="gzip"))]
        await backends.broker.publish([Message(TO_QUARANTINE, PACKED["zlib"])])
        sweep = QuarantineReconciler(backends.broker, backends.writer, backends.clock)
        await sweep.run_round(whole=True)
        events += await backends.writer.list_set_aside("", 10, 2**50)
        assert ["gzip" in events[0].job.failures[-1].message, "zlib" in events[1].job.failures[-1].message] == [True, True]
