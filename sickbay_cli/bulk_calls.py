"""One call for each of many jobs: continues after a failure, and prints a summary at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Final, TypeAlias

import click

from sickbay.jobs.v1.job_pb2 import Job
from sickbay.server.rest.views import View, job_view
from sickbay_cli.client import translate_errors
from sickbay_cli.exit_codes import Refused, Unreachable
from sickbay_cli.interrupts import interrupt_calls
from sickbay_cli.options import Endpoint
from sickbay_cli.output import count, document, progress, remark

AT_ONCE: Final = 16
"""Concurrent calls: services commit in groups, so sequential calls would each wait for the disk."""
LAST_S: Final = 2.0
"""How long to wait after Ctrl-C for the calls in flight, so that their results can be printed."""
_TURN_S: Final = 0.5
"""A signal in the moment before the wait begins does not end it: Python calls the handler after it. So no wait is longer than this."""
_NAMED: Final = 3

_Finished: TypeAlias = tuple[str, Future[Job | click.ClickException]]


class _Tally:
    """The results so far, by job."""

    def __init__(self, job_ids: Sequence[str]) -> None:
        self.job_ids = job_ids
        self._done: dict[str, Job] = {}
        self._failed: dict[str, click.ClickException] = {}
        self.in_flight: dict[str, None] = {}
        self._interrupted = False
        self._results: SimpleQueue[_Finished | None] = SimpleQueue()
        """None wakes the reader. A SimpleQueue, because a signal handler may put into it at any moment."""

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt where results are collected or batches begin; called by a signal handler."""
        self._interrupted = True
        self._results.put(None)

    def batches(self, size: int) -> Iterator[Sequence[str]]:
        for begin in range(0, len(self.job_ids), size):
            if self._interrupted:
                raise KeyboardInterrupt
            yield self.job_ids[begin : begin + size]

    def finished(self, job_id: str, future: Future[Job | click.ClickException]) -> None:
        """Called by the thread of the call."""
        self._results.put((job_id, future))

    def collect(self) -> None:
        """Wait for the results of all calls in flight."""
        while self.in_flight:
            with suppress(Empty):
                self._record(self._results.get(timeout=_TURN_S))
            if self._interrupted:
                raise KeyboardInterrupt

    def collect_within(self, seconds: float) -> None:
        """Wait so long at most; calls without a result by then remain in flight."""
        end = time.monotonic() + seconds
        while self.in_flight:
            try:
                self._record(self._results.get(timeout=max(0.0, end - time.monotonic())))
            except Empty:
                return

    def _record(self, finished: _Finished | None) -> None:
        if finished is None:
            return
        job_id, future = finished
        result = future.result()
        del self.in_flight[job_id]
        if isinstance(result, Job):
            self._done[job_id] = result
        else:
            self._failed[job_id] = result

    @property
    def done(self) -> list[Job]:
        """In the order of the ids."""
        return [self._done[one] for one in self.job_ids if one in self._done]

    @property
    def failed(self) -> dict[str, click.ClickException]:
        """In the order of the ids."""
        return {one: self._failed[one] for one in self.job_ids if one in self._failed}


class BulkCalls:
    """Runs a call for each job id. `verb` is used in messages, for example "resubmitted"."""

    def __init__(self, verb: str, endpoint: Endpoint, *, as_json: bool, verb_of: Callable[[Job], str] | None = None) -> None:
        """`endpoint` and `as_json` are options of the command; `verb_of` says what was done with a single job, if not always `verb`."""
        self._verb = verb
        self._verb_of = verb_of or (lambda _: verb)
        self._endpoint = endpoint
        self._as_json = as_json

    def run(self, job_ids: Sequence[str], call: Callable[[str], Job], *, alone: bool) -> None:
        """Call for each, once. If it is `alone`, the single job that was named, its own result or failure is that of the command.

        Otherwise raises a summary if any failed. An unavailable service ends the work at once: the other calls would fail, too.
        """
        unique = list(dict.fromkeys(job_ids))
        if alone:
            self._run_alone(unique[0], call)
            return
        tally = _Tally(unique)
        with interrupt_calls(tally.interrupt):
            self._run_all(tally, call)
        self._report(tally.done, tally.failed, len(unique))

    def _run_all(self, tally: _Tally, call: Callable[[str], Job]) -> None:
        pool = ThreadPoolExecutor(AT_ONCE)
        try:
            with progress(len(tally.job_ids), self._verb) as advance:
                for some in tally.batches(AT_ONCE):
                    for job_id in some:
                        tally.in_flight[job_id] = None
                        pool.submit(self._attempt, call, job_id).add_done_callback(partial(tally.finished, job_id))
                    tally.collect()
                    advance(len(some))
                    if any(isinstance(error, Unreachable) for error in tally.failed.values()):
                        break
        except KeyboardInterrupt:
            tally.collect_within(LAST_S)
            self._report_interruption(tally)
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _run_alone(self, job_id: str, call: Callable[[str], Job]) -> None:
        try:
            with translate_errors(self._endpoint):
                self._show(call(job_id))
        except KeyboardInterrupt:
            remark(f"interrupted: {job_id} may or may not have been {self._verb}")
            raise

    def _report_interruption(self, tally: _Tally) -> None:
        """Print what was done before the interruption."""
        if self._as_json:
            document(self._view(tally.done, tally.failed))
        done, total = len(tally.done), count(len(tally.job_ids), "job")
        words = [f"interrupted: {done:,} of {total} {self._verb}"]
        if tally.failed:
            words.append(f"{len(tally.failed):,} failed")
        if tally.in_flight:
            words.append(f"{len(tally.in_flight):,} may or may not have been ({', '.join(list(tally.in_flight)[:_NAMED])})")
        remark(f"{', '.join(words)}; the others were not touched")

    def _attempt(self, call: Callable[[str], Job], job_id: str) -> Job | click.ClickException:
        try:
            with translate_errors(self._endpoint):
                return call(job_id)
        except click.ClickException as error:
            return error

    def _show(self, job: Job) -> None:
        if self._as_json:
            document(job_view(job))
        else:
            click.echo(f"{self._verb_of(job)} {job.job_id}")

    def _report(self, done: Sequence[Job], failed: dict[str, click.ClickException], total: int) -> None:
        for job_id, error in failed.items():
            remark(f"{job_id}: {error.message}")
        if self._as_json:
            document(self._view(done, failed))
        else:
            click.echo(f"{self._verb} {count(len(done), 'job')}" if total else "no job matches")
        if failed:
            raise self._summary(len(done), failed, total)

    def _view(self, done: Sequence[Job], failed: dict[str, click.ClickException]) -> View:
        errors = [{"jobId": job_id, "message": error.message} for job_id, error in failed.items()]
        return {"jobs": list(map(job_view, done)), "errors": errors}

    def _summary(self, done: int, failed: dict[str, click.ClickException], total: int) -> click.ClickException:
        """An error of the class that all failures have; otherwise Refused."""
        kinds = {type(error) for error in failed.values()}
        untried = total - done - len(failed)
        words = f"{len(failed):,} of {total:,} failed" + (f", {untried:,} were not tried" if untried else "")
        if Unreachable in kinds:
            return Unreachable(words)
        return kinds.pop()(words) if len(kinds) == 1 else Refused(words)
