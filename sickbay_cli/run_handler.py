"""`sickbay run`: one handler, once, in the foreground, where a debugger can stop it."""

from __future__ import annotations

import bdb
import contextlib
import json
import math
import sys
from typing import Any, Final

import click

from sickbay.domain.errors import SickbayError
from sickbay.domain.job import is_name
from sickbay.domain.raised import text_of
from sickbay.handlers.loading import load_module
from sickbay.handlers.registry import HandlerSpec
from sickbay.runtime.policies import Policies
from sickbay.runtime.settings import Settings
from sickbay.telemetry.logs import configure_logging
from sickbay.testing import Result, make_job
from sickbay.testing.jobs import spec_of
from sickbay.testing.run import Call
from sickbay_cli.options import as_json as as_json_option
from sickbay_cli.options import examples, settings_file
from sickbay_cli.output import document, plain, remark
from sickbay_cli.payload import PAYLOAD

_CODES: Final = """\b
Exit codes:
  0    the handler succeeded
  1    it failed
  2    usage error, or the handler cannot be run
  130  interrupted"""
_EXAMPLES: Final = examples(
    'sickbay run my_handlers.send_email \'{"to": "ada@example.com"}\'',
    "sickbay run my_handlers.send_email @payload.json --attempt 4",
    "generate | sickbay run my_handlers.send_email - --json",
)


class _Interrupted(click.ClickException):
    """Ctrl-C, or the debugger was told to quit."""

    exit_code = 130


class _NoHandler(click.ClickException):
    """The handler cannot be run."""

    exit_code = 2


@click.command(epilog=f"{_EXAMPLES}\n\n{_CODES}")
@click.argument("target", metavar="MODULE.FUNCTION")
@click.argument("payload", type=PAYLOAD, default="{}")
@click.option("--type", "job_type", help="The job type, if the function handles several.")
@click.option("--attempt", type=click.IntRange(min=1), default=1, show_default=True, help="Which run of the job this is.")
@click.option("--tenant", default="default", show_default=True, help="The tenant of the job.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    help="End it after so many seconds; a plain function then runs in a thread. Default: never, because of debuggers.",
)
@as_json_option
@settings_file
def run(target: str, payload: str, *, as_json: bool, config: object, **options: Any) -> None:
    """Run one handler once, in the foreground, without any service.

    MODULE.FUNCTION is a function marked @handler; modules in the current folder come first. PAYLOAD is a JSON object, @FILE, or - for
    stdin. breakpoint() works in the handler: it runs in the main thread. Shown is how the run ended, and where the job would go with the
    settings that are in force here.
    """
    try:
        call = _call(target, payload, None if config is None else str(config), **options)
    except SickbayError as error:
        raise _NoHandler(str(error).removeprefix("JOB_HANDLERS: ")) from None
    # What the handler prints must not get into the JSON.
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        ended = call.perform()
    if isinstance(ended.exception, KeyboardInterrupt | bdb.BdbQuit):
        raise _Interrupted("interrupted")
    if as_json:
        document(_view(ended))
    else:
        _show(ended)
    if not ended.succeeded:
        raise click.exceptions.Exit(1)


def _call(target: str, payload: str, config: str | None, *, job_type: str | None, attempt: int, tenant: str, timeout: float | None) -> Call:
    settings = Settings.read(sickbay_config=config)
    configure_logging(settings.log_level, settings.log_format)
    policies = Policies(settings)
    if not is_name(tenant):
        raise click.BadParameter(f"{tenant!r} is no name of a tenant", param_hint="--tenant")
    spec = _find(target, job_type)
    job = make_job(spec.job_type, payload.encode(), attempt=attempt, tenant=tenant)
    return Call(spec, job, math.inf if timeout is None else timeout, policies.retry(spec.job_type, spec.retry))


def _find(target: str, job_type: str | None) -> HandlerSpec:
    module, _, name = target.rpartition(".")
    if not module:
        raise _NoHandler(f"{target!r} must be MODULE.FUNCTION, for example my_handlers.send_email")
    loaded = load_module(module)
    if name not in vars(loaded):
        raise _NoHandler(f"module {module!r} has nothing that is called {name!r}")
    try:
        return spec_of(vars(loaded)[name], job_type)
    except TypeError as error:
        raise _NoHandler(text_of(error).replace("job_type=...", "--type")) from None


def _show(ended: Result) -> None:
    for report in ended.progress:
        remark(f"progress {report.fraction:.0%}  {report.message}".rstrip())
    for follow_up in ended.submitted:
        remark(f"would submit {follow_up.job_type}  {json.dumps(follow_up.payload, ensure_ascii=False)}")
    if ended.succeeded:
        click.echo(f"SUCCEEDED after {ended.seconds:.3g} s")
        if ended.outcome.result is not None:
            click.echo(ended.result_note or json.dumps(ended.result, indent=2, ensure_ascii=False))
        return
    click.echo(f"FAILED after {ended.seconds:.3g} s with {ended.code} ({ended.kind}): {plain(ended.message)}")
    if ended.traceback:
        click.echo("\n".join(f"  {plain(line)}" for line in ended.traceback.splitlines()))
    counts = "counts" if ended.breaker_counts else "does not count"
    where = f"The job would run again in {ended.retry_in:g} s" if ended.will_retry else "The job would be quarantined"
    click.echo(f"{where}; the breaker {counts} this failure.")


def _view(ended: Result) -> dict[str, Any]:
    return {
        "jobType": ended.job.job_type,
        "succeeded": ended.succeeded,
        "result": ended.result,
        "resultNote": ended.result_note,
        "code": ended.code,
        "kind": ended.kind,
        "message": ended.message,
        "traceback": ended.traceback,
        "goesTo": ended.goes_to,
        "retryInSeconds": ended.retry_in,
        "breakerCounts": ended.breaker_counts,
        "progress": [{"fraction": one.fraction, "message": one.message} for one in ended.progress],
        "submitted": [{"jobType": one.job_type, "payload": one.payload} for one in ended.submitted],
        "seconds": ended.seconds,
    }
