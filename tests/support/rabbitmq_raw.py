"""Messages as no driver of ours would write them: the content header's bytes are the caller's."""

import struct

import aiormq
import pamqp.body
import pamqp.frame
from aiormq.exceptions import AMQPError
from pamqp.commands import Basic

FLAGS = {
    "content_type": 1 << 15,
    "content_encoding": 1 << 14,
    "headers": 1 << 13,
    "delivery_mode": 1 << 12,
    "priority": 1 << 11,
    "correlation_id": 1 << 10,
    "reply_to": 1 << 9,
    "expiration": 1 << 8,
    "message_id": 1 << 7,
    "timestamp": 1 << 6,
    "type": 1 << 5,
    "user_id": 1 << 4,
    "app_id": 1 << 3,
    "cluster_id": 1 << 2,
}
JAVAS_MINUS_ONE = b"\xff" * 8


def short(data):
    """A short string."""
    return bytes([len(data)]) + data


def text(data):
    """A header's value of type S."""
    return b"S" + struct.pack(">I", len(data)) + data


def table(*entries):
    """A table of names and values, both as bytes."""
    data = b"".join(short(name) + value for name, value in entries)
    return struct.pack(">I", len(data)) + data


def content(size, **properties):
    """A content header's payload with properties as bytes."""
    flags = sum(FLAGS[name] for name in properties)
    return struct.pack(">HHQH", 60, 0, size, flags) + b"".join(properties[name] for name in FLAGS if name in properties)


def frame(kind, payload, channel=1):
    """A frame of type 1 (method), 2 (content header) or 3 (body)."""
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


async def publish_raw(url, body, exchange="", key="jobs.main", **properties):
    """Publish with properties as bytes; whether the server took it."""
    async with aiormq.connect(url) as connection:
        channel = await connection.channel(publisher_confirms=False)
        method = b"\x00\x3c\x00\x28\x00\x00" + short(exchange.encode()) + short(key if isinstance(key, bytes) else key.encode()) + b"\x00"
        frames = frame(1, method, channel.number) + frame(2, content(len(body), **properties), channel.number)
        for start in range(0, len(body), 100_000):
            frames += pamqp.frame.marshal(pamqp.body.ContentBody(body[start : start + 100_000]), channel.number)
        try:
            await channel.write_queue.put(aiormq.abc.ChannelFrame(payload=frames, should_close=False))
            await channel.rpc(Basic.Qos(prefetch_count=1))  # answered once what came before was taken
        except (AMQPError, OSError, RuntimeError):
            return False
        await channel.close()
        return True
