"""One call for each of many jobs: goes on after one that fails, and tells at the end what became of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import click

from gen.sickbay.jobs.v1.job_pb2 import Job
from sickbay.rpc.views import View, job_view
from sickbay_cli.client import translated
from sickbay_cli.failures import Refused, Unreachable
from sickbay_cli.options import Endpoint
from sickbay_cli.output import count, document, progress, remark

AT_ONCE: Final = 16
"""Calls under way at a time: services commit in groups, so one after the other would wait for the disk each time."""


class Many:
    """Runs a call for each job id. `verb` is what the jobs then are: "resubmitted"."""

    def __init__(self, verb: str, endpoint: Endpoint, *, as_json: bool) -> None:
        """Take how to speak about it."""
        self._verb = verb
        self._endpoint = endpoint
        self._as_json = as_json

    def run(self, job_ids: Sequence[str], call: Callable[[str], Job], *, alone: bool) -> None:
        """Call for each, once. If it is `alone`, the one job that a person named, its own answer or failure is the command's.

        Otherwise raises a summary if any failed. An unreachable service ends the work at once: the others would fail alike.
        """
        unique = list(dict.fromkeys(job_ids))
        if alone:
            with translated(self._endpoint):
                self._show(call(unique[0]))
            return
        done: list[Job] = []
        failed: dict[str, click.ClickException] = {}
        with progress(len(unique), self._verb) as advance, ThreadPoolExecutor(AT_ONCE) as pool:
            for begin in range(0, len(unique), AT_ONCE):
                some = unique[begin : begin + AT_ONCE]
                for job_id, result in zip(some, pool.map(lambda job_id: self._attempt(call, job_id), some), strict=True):
                    if isinstance(result, Job):
                        done.append(result)
                    else:
                        failed[job_id] = result
                advance(len(some))
                if any(isinstance(error, Unreachable) for error in failed.values()):
                    break
        self._report(done, failed, len(unique))

    def _attempt(self, call: Callable[[str], Job], job_id: str) -> Job | click.ClickException:
        try:
            with translated(self._endpoint):
                return call(job_id)
        except click.ClickException as error:
            return error

    def _show(self, job: Job) -> None:
        if self._as_json:
            document(job_view(job))
        else:
            click.echo(f"{self._verb} {job.job_id}")

    def _report(self, done: Sequence[Job], failed: dict[str, click.ClickException], total: int) -> None:
        for job_id, error in failed.items():
            remark(f"{job_id}: {error.message}")
        if self._as_json:
            errors: list[View] = [{"jobId": job_id, "message": error.message} for job_id, error in failed.items()]
            document({"jobs": list(map(job_view, done)), "errors": errors})
        else:
            click.echo(f"{self._verb} {count(len(done), 'job')}" if total else "no job matches")
        if failed:
            raise self._summary(len(done), failed, total)

    def _summary(self, done: int, failed: dict[str, click.ClickException], total: int) -> click.ClickException:
        """Of the kind that all failures share; else plainly Refused."""
        kinds = {type(error) for error in failed.values()}
        untried = total - done - len(failed)
        words = f"{len(failed):,} of {total:,} failed" + (f", {untried:,} were not tried" if untried else "")
        if Unreachable in kinds:
            return Unreachable(words)
        return kinds.pop()(words) if len(kinds) == 1 else Refused(words)
