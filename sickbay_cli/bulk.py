"""Submitting many jobs: batches over BatchSubmitJobs, and a result for every line."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import BinaryIO, Final, cast

import click
import msgspec

from sickbay.client.batches import Batch, Divider
from sickbay.contract.faults import Fault
from sickbay.contract.times import MAX_DELAY_MS
from sickbay.domain.errors import InvalidArgument, SickbayError
from sickbay.jobs.v1.job_pb2 import Priority
from sickbay.jobs.v1.job_service_pb2 import BatchSubmitResult, OnOpen, SubmitJobRequest
from sickbay.server import enums
from sickbay.server.errors import fault_of
from sickbay.server.rest.body import Body, decode, text
from sickbay.server.rest.views import View, batch_result_view
from sickbay_cli import client
from sickbay_cli.exit_codes import Refused
from sickbay_cli.options import Endpoint
from sickbay_cli.output import Advance, count, document, progress, record, remark
from sickbay_cli.retrying import Retries

BATCH_JOBS: Final = 100
MOST_DELAY_S: Final = MAX_DELAY_MS // 1000
BATCH_BYTES: Final = 8 * 1024 * 1024
"""Half of the maximum size of a request; a single payload is at most 1 MiB."""


class Line(Body, frozen=True):
    """A line of a file of jobs; the same as an item of `POST /jobs:batch`."""

    job_type: str = ""
    payload: msgspec.Raw = msgspec.Raw()
    tenant: str = ""
    idempotency_key: str = ""
    on_open: str = ""
    priority: str = ""
    delay_seconds: float | None = None
    run_at: str = ""


@dataclass(frozen=True, slots=True)
class Item:
    """One line: a request, or why it cannot be one. `size` is its length in bytes."""

    number: int
    request: SubmitJobRequest | Fault
    size: int


@dataclass(slots=True)
class Tally:
    """The results so far, by line."""

    results: dict[int, BatchSubmitResult | Fault] = field(default_factory=dict)

    @property
    def accepted(self) -> list[str]:
        """The ids of the jobs that were accepted."""
        return [result.job_id for result in self.results.values() if isinstance(result, BatchSubmitResult)]

    @property
    def notes(self) -> Mapping[str, int]:
        """What was said about open circuits, and of how many accepted jobs."""
        results = (result for result in self.results.values() if isinstance(result, BatchSubmitResult))
        return Counter(result.breaker.note for result in results if result.HasField("breaker"))

    @property
    def refused(self) -> dict[int, Fault]:
        """The errors, by line number."""
        return {number: result for number, result in self.results.items() if isinstance(result, Fault)}


def submit_file(endpoint: Endpoint, source: BinaryIO, usual: SubmitJobRequest, retries: Retries, *, as_json: bool) -> None:
    """Submit every line; Refused if any was rejected. `usual` has what holds for lines that do not say it."""
    tally = Tally()
    with progress(_size(source), "submitting") as advance:
        _send(endpoint, _items(source, usual), tally, advance, retries)
    _report(tally, as_json=as_json)
    for number, fault in tally.refused.items():
        remark(f"line {number}: {fault.message}")
    if tally.refused:
        raise Refused(f"{count(len(tally.refused), 'line')} of {len(tally.results):,} rejected")


def submit_copies(endpoint: Endpoint, request: SubmitJobRequest, copies: int, retries: Retries, *, quiet: bool, as_json: bool) -> list[str]:
    """Submit so many copies and return their ids; Refused with the message of the first that was rejected. `quiet` if more follows."""
    tally = Tally()
    items = (Item(number, one, request.ByteSize()) for number, one in enumerate(repeat(request, copies), start=1))
    with progress(copies * request.ByteSize(), "submitting") as advance:
        _send(endpoint, items, tally, advance, retries)
    if len(tally.refused) == copies:
        raise Refused(tally.refused[1].message)
    _report(tally, lines=quiet, as_json=as_json)
    if tally.refused:
        raise Refused(f"{len(tally.refused):,} of {copies:,} rejected: {next(iter(tally.refused.values())).message}")
    return tally.accepted


def _send(endpoint: Endpoint, items: Iterable[Item], tally: Tally, advance: Advance, retries: Retries) -> None:
    """Submit batch by batch, and what limits reject again while that helps; if that stops halfway, print where to continue."""
    in_flight: list[Item] = []
    try:
        with client.jobs(endpoint) as stub:
            for batch in _batches(items):
                faults = {item.number: item.request for item in batch if isinstance(item.request, Fault)}
                sent = [item for item in batch if item.number not in faults]
                sending = Batch([cast("SubmitJobRequest", item.request) for item in sent], retries.of_call())
                while sending.due:
                    in_flight = [sent[index] for index in sending.due]
                    sending.receive(stub.BatchSubmitJobs(sending.request(), timeout=endpoint.timeout), retries.now())
                    answers = {sent[index].number: answer for index, answer in sending.answers.items()}
                    tally.results.update(sorted((faults | answers).items()))
                    in_flight = []
                    pause = sending.pause(retries.now())
                    if sending.due:
                        retries.pause(pause)
                tally.results.update(faults)
                advance(sum(item.size for item in batch))
    except BaseException as error:
        if tally.results or isinstance(error, KeyboardInterrupt):
            _report_interruption(tally, in_flight)
        raise


def _report_interruption(tally: Tally, in_flight: Sequence[Item]) -> None:
    """Print what was accepted; it is unknown for the batch in flight, whose response is missing."""
    numbers = [item.number for item in in_flight]
    if tally.results and not numbers:
        remark(f"stopped after line {max(tally.results)}: {count(len(tally.accepted), 'job')} accepted")
    elif numbers:
        unsure = f"lines {numbers[0]} to {numbers[-1]} may or may not have been"
        remark(f"stopped: {count(len(tally.accepted), 'job')} accepted, {unsure}; continue with line {numbers[0]}")


def _batches(items: Iterable[Item]) -> Iterator[Sequence[Item]]:
    divider: Divider[Item] = Divider(BATCH_JOBS, BATCH_BYTES)
    for item in items:
        if full := divider.add(item, item.size):
            yield full
    if rest := divider.rest():
        yield rest


def _items(source: BinaryIO, usual: SubmitJobRequest) -> Iterator[Item]:
    for number, data in enumerate(source, start=1):
        if data.strip():
            yield Item(number, _read(data.removeprefix(b"\xef\xbb\xbf"), usual), len(data))


def _read(data: bytes, usual: SubmitJobRequest) -> SubmitJobRequest | Fault:
    try:
        line = decode(data, Line)
        payload = text(line.payload)
        on_open = enums.number(OnOpen, "ON_OPEN", line.on_open) or usual.on_open
        priority = enums.number(Priority, "PRIORITY", line.priority) or usual.priority
        request = SubmitJobRequest(
            job_type=line.job_type, tenant=line.tenant, request_id=line.idempotency_key, on_open=on_open, priority=priority
        )
        _set_run_time(request, line, usual)
    except SickbayError as error:
        return fault_of(error)
    if payload:
        request.payload_json = payload
    return request


def _set_run_time(request: SubmitJobRequest, line: Line, usual: SubmitJobRequest) -> None:
    """What the line says, or else what holds for all; InvalidArgument if that is no time."""
    if line.delay_seconds is None and not line.run_at:
        if usual.HasField("delay"):
            request.delay.CopyFrom(usual.delay)
        if usual.HasField("run_time"):
            request.run_time.CopyFrom(usual.run_time)
    if line.delay_seconds is not None:
        if not 0 <= line.delay_seconds <= MOST_DELAY_S:
            raise InvalidArgument(f"delaySeconds must be 0 to {MOST_DELAY_S}, not {line.delay_seconds:g}")
        request.delay.FromMilliseconds(round(line.delay_seconds * 1000))
    if line.run_at:
        try:
            request.run_time.FromJsonString(line.run_at)
        except ValueError:
            raise InvalidArgument(f"runAt: write a time with its offset, such as 2027-01-01T08:00:00+01:00, not {line.run_at!r}") from None


def _size(source: BinaryIO) -> int:
    """The file's length in bytes, 0 if it is unknown."""
    try:
        return os.fstat(source.fileno()).st_size
    except OSError:
        return 0


def _report(tally: Tally, *, as_json: bool, lines: bool = False) -> None:
    refused = len(tally.refused)
    if as_json:
        results = [_view(result) for result in tally.results.values()]
        (record if lines else document)({"accepted": len(tally.accepted), "refused": refused, "results": results})
    else:
        click.echo(f"accepted {count(len(tally.accepted), 'job')}" + (f", rejected {refused:,}" if refused else ""))
        for note, number in tally.notes.items():
            remark(f"{count(number, 'job')}: {note}")


def _view(result: BatchSubmitResult | Fault) -> View:
    """As an item of the REST response."""
    from sickbay.server.rest.errors import item_error_view  # noqa: PLC0415 - loads a web framework, and only --json needs it

    return {"error": item_error_view(result)} if isinstance(result, Fault) else batch_result_view(result)
