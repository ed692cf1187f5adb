"""The messages that RabbitMQ has lent to one subscription: those that wait here, and those in somebody's hands."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence

from sickbay.adapters.rabbitmq.budget import Budget
from sickbay.adapters.rabbitmq.delivery import RabbitDelivery


class Unacknowledged:
    """Counts their bytes in a budget from their arrival until they are released."""

    def __init__(self, budget: Budget) -> None:
        """None yet."""
        self._budget = budget
        self._ready: deque[RabbitDelivery] = deque()
        self._back: list[RabbitDelivery] = []
        self._in_hands: dict[int, RabbitDelivery] = {}

    @property
    def waiting(self) -> int:
        """How many are in nobody's hands."""
        return len(self._ready) + len(self._back)

    def hold(self, delivery: RabbitDelivery) -> None:
        """From now on it counts."""
        self._budget.took(len(delivery.body))
        delivery.is_held = True

    def release(self, delivery: RabbitDelivery) -> bool:
        """It counts no more; whether it did until now."""
        if not delivery.is_held:
            return False
        delivery.is_held = False
        self._budget.gave(len(delivery.body), was_out=delivery.is_out)
        return True

    def add(self, delivery: RabbitDelivery) -> None:
        """One that came from RabbitMQ is handed out after all others."""
        self._ready.append(delivery)

    def put_back(self, delivery: RabbitDelivery) -> None:
        """One that was in our hands is handed out before all others, as RabbitMQ would send it."""
        heapq.heappush(self._back, delivery)

    def untake(self, delivery: RabbitDelivery) -> None:
        """One that nobody has looked at is handed out next, and counts as not handed out."""
        delivery.is_out = False
        self._budget.took_back(len(delivery.body))
        if delivery.came_back:
            heapq.heappush(self._back, delivery)
        else:
            self._ready.appendleft(delivery)

    def take(self, limit: int) -> Sequence[RabbitDelivery]:
        """Up to `limit` of them and as many bytes as fit, those that came back first."""
        taken: list[RabbitDelivery] = []
        while len(taken) < limit and (self._back or self._ready):
            size = len((self._back or self._ready)[0].body)
            if not self._budget.may_hand_out(size):
                break
            delivery = heapq.heappop(self._back) if self._back else self._ready.popleft()
            delivery.is_out = True
            self._budget.handed_out(size)
            taken.append(delivery)
        self._in_hands.update((delivery.tag, delivery) for delivery in taken)
        return taken

    def let_go(self, delivery: RabbitDelivery) -> bool:
        """Whether it was in our hands. The same message may be there again, as a later delivery: an old one must not settle that."""
        if self._in_hands.get(delivery.tag) is not delivery:
            return False
        del self._in_hands[delivery.tag]
        return True

    def clear_waiting(self) -> tuple[Sequence[RabbitDelivery], Sequence[RabbitDelivery]]:
        """Those that came back, and those that were never handed out; none waits any more."""
        back, unseen = self._back, list(self._ready)
        self._back = []
        self._ready.clear()
        return back, unseen

    def forget(self) -> None:
        """RabbitMQ has taken everything back."""
        for waiting in self.clear_waiting():
            for delivery in waiting:
                self.release(delivery)
        self._in_hands.clear()
