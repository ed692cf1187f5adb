"""Which of a channel's deliveries are settled, and the fewest frames that tell RabbitMQ so."""

from __future__ import annotations

from collections.abc import Sequence

from pamqp.commands import Basic

Frame = Basic.Ack | Basic.Nack


class AckBatch:
    """Gathers acks and nacks of the tags 1, 2, 3, ... of one channel; each tag once."""

    def __init__(self) -> None:
        self._acks: list[int] = []
        self._nacks: list[int] = []
        self._floor = 0
        """Every tag up to this one is settled."""
        self._above: set[int] = set()
        """Settled tags beyond the floor."""

    def ack(self, tag: int) -> None:
        """This one is done."""
        self._acks.append(tag)

    def nack(self, tag: int) -> None:
        """This one goes back."""
        self._nacks.append(tag)

    def told_after(self, tag: int) -> int:
        """How many of the tags after this one are settled in the frames given out so far."""
        return max(0, self._floor - tag) + sum(settled > tag for settled in self._above)

    def frames(self) -> Sequence[Frame]:
        """What must be sent, in this order, for everything gathered since the last call."""
        acks, self._acks = self._acks, []
        nacks, self._nacks = sorted(self._nacks), []
        self._raise_floor(acks, nacks)
        frames: list[Frame] = [Basic.Nack(tag, multiple=False, requeue=True) for tag in nacks]
        # One frame for the whole run below the floor. It must name a tag that is still open, so the last one acked now.
        last = max((tag for tag in acks if tag <= self._floor), default=None)
        if last is not None:
            frames.append(Basic.Ack(last, multiple=True))
        frames.extend(Basic.Ack(tag, multiple=False) for tag in acks if tag > self._floor)
        return frames

    def _raise_floor(self, acks: Sequence[int], nacks: Sequence[int]) -> None:
        above = self._above
        above.update(acks)
        above.update(nacks)
        while self._floor + 1 in above:
            self._floor += 1
            above.discard(self._floor)
