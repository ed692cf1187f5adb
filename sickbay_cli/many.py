"""One call for each of many jobs: goes on after one that fails, and tells at the end what became of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import click

from gen.sickbay.jobs.v1.job_pb2 import Job
from sickbay.rpc.views import View, job_view
from sickbay_cli.client import translated
from sickbay_cli.failures import Refused, Unreachable
from sickbay_cli.options import Endpoint
from sickbay_cli.output import count, document, progress, remark


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
        with progress(len(unique), self._verb) as advance:
            for job_id in unique:
                try:
                    with translated(self._endpoint):
                        done.append(call(job_id))
                except click.ClickException as error:
                    failed[job_id] = error
                    if isinstance(error, Unreachable):
                        break
                advance(1)
        self._report(done, failed, len(unique))

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
        last = list(failed.values())[-1]
        untried = total - done - len(failed)
        words = f"{len(failed):,} of {total:,} failed" + (f", {untried:,} were not tried" if untried else "")
        if isinstance(last, Unreachable):
            return Unreachable(words)
        return kinds.pop()(words) if len(kinds) == 1 else Refused(words)
