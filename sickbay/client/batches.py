"""Many jobs in few calls: how they are divided, and what of a call is sent again. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, TypeVar

from sickbay.client.errors import SickbayError, error_of, unsendable
from sickbay.client.job_calls import notice, submit_request
from sickbay.client.jobs import BatchResult, NewJob
from sickbay.client.retry import LEAST_PAUSE_S, Retries, is_limit, is_passing
from sickbay.contract.faults import Fault, batch_fault
from sickbay.jobs.v1.job_service_pb2 import BatchSubmitJobsRequest, BatchSubmitJobsResponse, BatchSubmitResult, SubmitJobRequest

T = TypeVar("T")

BATCH_JOBS: Final = 1_000
BATCH_BYTES: Final = 1_500_000
"""Below every size of a message that a service may be set to (GRPC_MAX_MESSAGE_BYTES is at least 2 MiB), with room for one payload."""
TOGETHER_S: Final = 1.0
"""Of many jobs that wait for limits, those are submitted together whose time comes within this."""


class Divider(Generic[T]):
    """Divides a stream of items into batches of bounded number and size; a larger item is a batch of its own."""

    def __init__(self, most_items: int = BATCH_JOBS, most_bytes: int = BATCH_BYTES) -> None:
        """`most_bytes` is of the sizes that `add` gets."""
        self._most_items, self._most_bytes = most_items, most_bytes
        self._items: list[T] = []
        self._size = 0

    def add(self, item: T, size: int) -> Sequence[T]:
        """The batch that is complete because this item does not fit into it, or else nothing."""
        full = self.rest() if self._items and (len(self._items) == self._most_items or self._size + size > self._most_bytes) else ()
        self._items.append(item)
        self._size += size
        return full

    def rest(self) -> Sequence[T]:
        """What has been added since the last complete batch; it begins anew after that."""
        items, self._items, self._size = self._items, [], 0
        return items


@dataclass(frozen=True, slots=True)
class Item:
    """A job to submit and its request, or the error of one that cannot be written as a request."""

    job: NewJob
    request: SubmitJobRequest | SickbayError

    @classmethod
    def of(cls, job: NewJob, *, own_key: bool = True) -> Item:
        """The job with its request, and with the key that this has: the user's, or one of our own if `own_key`. TypeError for no job."""
        given: object = job  # of programs without a type checker
        if not isinstance(given, NewJob):
            msg = f'submit_many takes jobs such as NewJob("email", {{"to": "ada@example.com"}}), not {type(job).__name__}'
            raise TypeError(msg)
        try:
            request = submit_request(job, own_key=own_key)
        except UnicodeEncodeError as error:
            return cls(job, unsendable(error))
        except SickbayError as error:
            return cls(job, error)
        return cls(replace(job, request_id=request.request_id), request)

    @property
    def is_safe(self) -> bool:
        """Whether it may be sent again when it is unknown whether it was accepted."""
        return isinstance(self.request, SickbayError) or bool(self.request.request_id)

    @property
    def size(self) -> int:
        """Bytes of the request."""
        return self.request.ByteSize() if isinstance(self.request, SubmitJobRequest) else 0


def divide(jobs: Iterable[NewJob], *, own_keys: bool = True) -> Iterator[Sequence[Item]]:
    """The jobs in batches. If reading them fails, what was read before is one more batch, and then the error is raised."""
    divider: Divider[Item] = Divider()
    try:
        for job in jobs:
            item = Item.of(job, own_key=own_keys)
            if full := divider.add(item, item.size):
                yield full
    except Exception:
        if rest := divider.rest():
            yield rest
        raise
    if rest := divider.rest():
        yield rest


class Batch:
    """The requests of one call, until each has its result; those that may succeed later are sent again, and only those.

    while batch.due:
        batch.receive(reply of batch.request())    # or batch.fail(fault) if there is none
        pause = batch.pause(now)                   # sleep so long before the next round
    """

    def __init__(self, requests: Sequence[SubmitJobRequest], retries: Retries) -> None:
        """`retries` are those of the whole; it has the deadline."""
        self._requests, self._retries = requests, retries
        self.answers: dict[int, BatchSubmitResult | Fault] = {}
        """What each request was answered last, by its index; those that are due will be answered again."""
        self._ready_at: dict[int, float] = {}
        self._open: dict[int, Fault] = {}
        self.due: Sequence[int] = range(len(requests))
        """Which requests are to be sent now."""

    def request(self) -> BatchSubmitJobsRequest:
        """What is to be sent now."""
        return BatchSubmitJobsRequest(requests=[self._requests[index] for index in self.due])

    def receive(self, reply: BatchSubmitJobsResponse, now: float) -> None:
        """Record the results of what was sent."""
        for index, result in zip(self.due, reply.results, strict=True):
            self._record(index, batch_fault(result.error) if result.HasField("error") else result, now)

    def fail(self, fault: Fault, now: float) -> None:
        """The call itself has failed: so have all that were sent."""
        for index in self.due:
            self._record(index, fault, now)

    def pause(self, now: float) -> float:
        """The seconds to wait before `due` is sent; 0 if nothing is left."""
        limited = {index: max(0.0, self._ready_at[index] - now) for index, fault in self._open.items() if is_limit(fault)}
        passing = [index for index, fault in self._open.items() if not is_limit(fault)]
        pauses = [self._pause_for(limited, now), self._pause_after(passing, now)]
        pause = max((one for one in pauses if one is not None), default=0.0)
        due = [index for index in self._open if index not in limited or limited[index] <= pause]
        self.due = sorted(due)
        return pause

    @property
    def results(self) -> Sequence[BatchSubmitResult | Fault]:
        """In the order of the requests, once nothing is due."""
        return [self.answers[index] for index in range(len(self._requests))]

    def _record(self, index: int, result: BatchSubmitResult | Fault, now: float) -> None:
        self.answers[index] = result
        self._open.pop(index, None)
        if isinstance(result, Fault) and (is_limit(result) or is_passing(result)):
            self._open[index] = result
            self._ready_at[index] = now + (result.retry_after or 0.0)

    def _pause_for(self, waits: Mapping[int, float], now: float) -> float | None:
        """Until the first of those are due that limits have rejected; None if there are none, or not in time."""
        if not waits:
            return None
        shortest = max(min(waits.values()), min(max(waits.values()), TOGETHER_S), LEAST_PAUSE_S)
        return self._granted(waits, replace(self._open[next(iter(waits))], retry_after=shortest), now)

    def _pause_after(self, indices: Sequence[int], now: float) -> float | None:
        if not indices:
            return None
        longest = max((self._open[index] for index in indices), key=lambda fault: fault.retry_after or 0.0)
        return self._granted(indices, longest, now)

    def _granted(self, indices: Iterable[int], fault: Fault, now: float) -> float | None:
        """The pause that the retries grant; if none, these have their final results."""
        pause = self._retries.delay(fault, now)
        if pause is None:
            for index in list(indices):
                del self._open[index]
        return pause


class Outgoing:
    """One batch on its way, with what the driver needs of it: the state of the calls, and then the results in order."""

    def __init__(self, items: Sequence[Item], retries: Retries) -> None:
        """Items without a request are not sent; their errors are their results."""
        self._items = items
        self.retries = retries
        self.batch = Batch([item.request for item in items if isinstance(item.request, SubmitJobRequest)], retries)

    def results(self, explain: Any) -> Iterator[BatchResult]:
        """In the order of the items; `explain` makes a fault of gRPC's own readable."""
        answers = iter(self.batch.results)
        for item in self._items:
            result = BatchResult(item.job)
            if isinstance(item.request, SickbayError):
                yield result.failed(item.request)
                continue
            answer = next(answers)
            if isinstance(answer, Fault):
                yield result.failed(error_of(explain(answer)))
            else:
                yield replace(result, job_id=answer.job_id, duplicate=answer.duplicate, breaker=notice(answer))
