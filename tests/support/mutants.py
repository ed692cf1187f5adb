"""Breaks the breaker on purpose, one line at a time, and demands that its tests notice: `python tests/support/mutants.py [name ...]`.

Each mutant is applied to a copy of the sources in a temporary folder. A mutant whose text is no longer in the source is a failure
too: whoever changes the line changes the mutant with it.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import cache_from_source
from pathlib import Path
from queue import SimpleQueue

from tests.support.mutant_runs import Runner

ROOT = Path(__file__).resolve().parents[2]
PYTEST_INI = "[pytest]\naddopts = --import-mode=importlib\npythonpath = .\nfilterwarnings = error\nmarkers = no_cover\n"
# The mutants only ask whether a law is broken; searching the smallest way to break it would take minutes.
CONFTEST = """
from hypothesis import Phase, settings
settings.register_profile("mutants", phases=[Phase.generate], database=None)
settings.load_profile("mutants")
"""
EXAMPLES = tuple(f"tests/unit/breaker/test_{part}.py" for part in ("machine", "run", "commands", "document", "probes"))
LAWS = ("tests/unit/breaker/test_laws.py",)
PROBES = ("tests/unit/breaker/test_probes.py",)
DURATIONS = ("tests/unit/breaker/test_durations.py",)
CROWDED = ("tests/unit/breaker/test_crowded.py",)
RAMP = ("tests/unit/breaker/test_ramp.py",)
SLOWLY = (f"{RAMP[0]}::test_it_goes_on_while_jobs_are_released_slowly_and_its_rate_stays",)
BORNE = (f"{RAMP[0]}::test_errors_that_do_not_come_from_the_load_limit_nothing_for_long",)
NEVER_ASKED = (f"{RAMP[0]}::test_released_jobs_that_never_ask_for_their_permits_hold_up_no_others",)
SEVERAL = (f"{RAMP[0]}::test_breakers_that_feel_for_one_capacity_do_not_mislead_each_other",)
ALONE = (f"{RAMP[0]}::test_one_failure_alone_cuts_nothing",)
LONG_RUNS = (f"{RAMP[0]}::test_slow_runs_are_waited_for",)
WINDOW = tuple(f"tests/unit/breaker/test_{part}.py" for part in ("window", "tally"))
RATE = (*WINDOW, "tests/unit/breaker/test_rate_laws.py")
BOTH = EXAMPLES + LAWS
"""For what the laws come to by chance alone."""
FAILED = 1
"""What pytest returns when tests ran and some failed; anything else but 0 means that they did not run."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One wrong line; `by` names the tests that must notice."""

    name: str
    module: str
    right: str
    wrong: str
    by: tuple[str, ...] = LAWS


MUTANTS = (
    Mutant(
        "probe ordered in any state",
        "commands",
        "doc.state is BreakerState.OPEN and doc.probe_at > now",
        "doc.probe_at > now",
        by=BOTH,
    ),
    Mutant("ordered probe never due", "commands", "with_changes(doc, now, probe_at=now)", "with_changes(doc, now)", by=BOTH),
    Mutant(
        "wrong token accepted",
        "machine",
        "permit.epoch != doc.epoch or permit.token != doc.probe_token",
        "permit.epoch != doc.epoch",
    ),
    Mutant(
        "stale epoch counted",
        "machine",
        "permit.epoch != doc.epoch or permit.token != doc.probe_token",
        "permit.token != doc.probe_token",
    ),
    Mutant(
        "probeAt ignored",
        "machine",
        "doc.state is BreakerState.OPEN and now >= probes.next_probe_at(doc)",
        "doc.state is BreakerState.OPEN",
    ),
    Mutant(
        "lease expiry removed",
        "probes",
        "_expire_probe(doc, context) if context.now >= doc.probe_until else doc",
        "doc",
    ),
    Mutant("watermark ignored", "trip_rule", "if failed.seq > watermark", "if failed.seq > 10**9"),
    Mutant("distinct jobs ignored", "trip_rule", "len({failed.job for failed in mine}) >= enough and ", ""),
    Mutant(
        "cooldown cap removed",
        "cooldown",
        "return min(longest, grown + grown * context.jitter // JITTER_SCALE)",
        "return (grown + grown * context.jitter // JITTER_SCALE)",
        BOTH,
    ),
    Mutant("code cap removed", "trip_rule", "len(codes - {OTHER}) < MAX_CODES", "True", EXAMPLES),
    Mutant("age of the run ignored", "trip_rule", "now - mine[0].at >= confirm_ms", "True", by=BOTH),
    Mutant("window ignored", "trip_rule", "if now - failed.at <= window_ms", "if True"),
    Mutant(
        "bad data fails the probe",
        "machine",
        "    if outcome.kind.is_breaker_failure:\n",
        "    if outcome.kind is not OutcomeKind.CANCELLED:\n",
        BOTH,
    ),
    Mutant(
        "forced hold ends closed",
        "commands",
        "return transitions.end_hold(doc, now, now)",
        "return enter_state(doc, BreakerState.CLOSED, now)",
        by=BOTH,
    ),
    Mutant(
        "renewal without end",
        "probes",
        "min(now + config.probe_lease_ms, since + longest)",
        "now + config.probe_lease_ms",
        by=BOTH,
    ),
    Mutant(
        "long run not renewed",
        "probes",
        "max(config.probe_max_ms, longest_ms + 2 * config.probe_lease_ms)",
        "config.probe_max_ms",
        by=EXAMPLES,
    ),
    Mutant("probe forgotten by a hold", "commands", "            **probes.probe_fields(doc),\n", ""),
    Mutant("probe forgotten by the end of a hold", "transitions", "probe_at=since, **probes.probe_fields(doc), **", "probe_at=since, **"),
    Mutant("probe beside another after a hold", "probes", "max(doc.probe_at, doc.probe_until)", "doc.probe_at"),
    Mutant(
        "place kept after a hold's verdict",
        "machine",
        "if _is_probe_under_hold(doc, permit) else doc), Effect",
        "if False else doc), Effect",
    ),
    Mutant("lease not renewed in a hold", "machine", "if not is_mine and not _is_probe_under_hold(doc, permit):", "if not is_mine:"),
    Mutant("a rate limit needs evidence", "machine", " and not outcome.is_rate_limit:", ":"),
    Mutant("a rate limit waits for the cooldown", "cooldown", "return asked if outcome.is_rate_limit else ", "return "),
    Mutant(
        "a Retry-After without an end",
        "cooldown",
        "min(outcome.retry_after_ms or 0, MAX_RETRY_AFTER_MS)",
        "outcome.retry_after_ms or 0",
        by=BOTH,
    ),
    Mutant("no growth", "cooldown", "context.config.cooldown_ms << min(doc.trips, MAX_DOUBLINGS)", "context.config.cooldown_ms"),
    Mutant("clock steps back unnoticed", "transitions", "if context.now < doc.updated_at:", "if False:"),
    Mutant("a bunch of refusals opens it again", "machine", "max(config.trip_confirm_ms, ramps.CONFIRM_MS)", "0", BOTH),
    Mutant("the ramp is never cut", "ramp_judging", "(1_000 - min(cut, 900)) * SUCCEEDED // 100_000", "100_000 // 100_000", RAMP),
    Mutant("the ramp only doubles", "ramp", "if ramp.target == 0 or ramp.rate < ramp.target else", "if True else", RAMP),
    Mutant(
        "nothing is borne", "ramp_judging", "if ramp.share and (share < FEW_BORNE or _has_not_helped(ramp, share)):", "if False:", BORNE
    ),
    Mutant("the ramp never ends", "ramp", "now - max(scarce_at, ramp.reserved_at) >= UNUSED_MS", "False", RAMP),
    Mutant("the ramp ends while jobs are released", "ramp", "max(scarce_at, ramp.reserved_at)", "scarce_at", SLOWLY),
    Mutant(
        "reservations never lapse while jobs are released", "ramp", "ramp.reserved_at if held and not lapsed else now", "now", NEVER_ASKED
    ),
    Mutant("a rate that nobody uses grows", "ramp", "not is_tested and now - ramp.scarce_at < USED_MS", "not is_tested", SLOWLY),
    Mutant("a cut is judged at once", "ramp_judging", "return ramp.bad < TELLING_FAILURES or", "return False and", SEVERAL),
    Mutant("what others send is borne", "ramp_judging", "(ramp.borne > 0 or share <= 2 * ramp.share)", "True", SEVERAL),
    Mutant("a rate grows while its cut is judged", "ramp", "not slow and not is_tested and", "not slow and", SEVERAL),
    Mutant("one failure is enough", "ramp_judging", "is_chance = ramp.share ==", "is_chance = False and ramp.share ==", ALONE),
    Mutant("a cut without a bound", "ramp_judging", "min(MOST_CUT, max(share, LEAST_CUT))", "max(share, LEAST_CUT)", RAMP),
    Mutant("nothing is measured", "machine", "doc.ramp is None and share >= LIMITED_SHARE and", "False and", EXAMPLES),
    Mutant(
        "a row as short as ever opens it", "trip_rule", "< needed(config.failure_threshold, share):", "< config.failure_threshold:", BOTH
    ),
    Mutant("a ramp that bears failures ends", "ramp", "if ramp.borne == 0 and now - max(", "if now - max(", BORNE),
    Mutant("what came before is not known", "ramp", "if ramp.rate < known < MOST_RATE and", "if False and", RAMP),
    Mutant("few runs are judged", "ramp_judging", "number >= MORE_RUNS", "number >= INTERVAL_RUNS", BORNE),
    Mutant("long runs are not waited for", "ramp", "max(1, BURST_PARTS_PER_RUN * ramp.running)", "1", LONG_RUNS),
    Mutant(
        "outcomes of before a cut count", "machine", "replace(changed, epoch=max(doc.epoch + 1, now)) if is_cut", "changed if is_cut", BOTH
    ),
    Mutant("a reset is a flood", "commands", "ramp=ramps.begin(now) if ramps_up else None", "ramp=None", EXAMPLES),
    Mutant("few runs are enough", "window", "runs >= config.calls and ", "", RATE),
    Mutant("any share is enough", "window", "and 1_000 * bad >= config.rate * runs", "", RATE),
    Mutant("no run is slow", "window", "or 0 < config.slow_ms <= took_ms", "", RATE),
    Mutant("every run is slow", "window", "0 < config.slow_ms <= took_ms", "config.slow_ms <= took_ms", RATE),
    Mutant("the window never ends", "window", "if now - start < config.window_ms:", "if True:", RATE),
    Mutant("buckets of the future stay there", "window", "min(bucket.start, now)", "bucket.start", WINDOW),
    Mutant("buckets as others cut them", "window", "start = at - at % width", "start = at", WINDOW),
    Mutant("who has another policy cuts the window", "window", "    if config.rate:\n", "    if True:\n", WINDOW),
    Mutant("the window outlives its policy", "window", "if now - bucket.start < MAX_WINDOW_MS", "", WINDOW),
    Mutant("good runs of before are not counted", "machine", "(*doc.calls, *earlier, window", "(*doc.calls, window", RATE),
    Mutant("the window is not counted", "machine", "(*doc.calls, *earlier, window", "(*earlier, window", RATE),
    Mutant("a good run opens it", "machine", "if not (bad and (window.is_reached", "if not ((window.is_reached", RATE),
    Mutant(
        "a rate limit waits for a share",
        "machine",
        "(window.is_reached(calls, config) or outcome.is_rate_limit)",
        "window.is_reached(calls, config)",
        RATE,
    ),
    Mutant("a slow run opens it under no code", "machine", "if not outcome.kind.is_breaker_failure:", "if False:", RATE),
    Mutant(
        "it counts where it would be open",
        "machine",
        "OutcomeKind.CANCELLED or (metrics_only and now < doc.probe_at)",
        "OutcomeKind.CANCELLED",
        RATE,
    ),
    Mutant("a cancelled run is good", "machine", "if outcome.kind is OutcomeKind.CANCELLED or (", "if (", RATE),
    Mutant("its window decides about the ramp", "machine", "if config.rate and doc.ramp is None and", "if config.rate and", RATE),
    Mutant(
        "it counts while it is disabled",
        "machine",
        "doc.ramp is None and doc.state is not BreakerState.DISABLED:",
        "doc.ramp is None:",
        RATE,
    ),
    Mutant("old runs stay in sight", "transitions", "if doc.calls and (calls :=", "if False and (calls :=", RATE),
    Mutant(
        "with bad runs it is quiet",
        "document",
        "return rests and not has_bad(self.calls)",
        "return rests",
        RATE,
    ),
    Mutant("the clock leaves the buckets alone", "document", "max(1, bucket.start + by)", "bucket.start", WINDOW),
    Mutant("good runs are reported one by one", "tally", "0 <= now - runs.reported_at < self._report_ms", "False", WINDOW),
    Mutant("what was taken stays", "tally", "runs.calls, (), now", "runs.calls, runs.calls, now", RATE),
    Mutant("runs of another epoch count", "tally", "return runs if runs.epoch == permit.epoch else None", "return runs", WINDOW),
    Mutant("a new epoch keeps the runs of before", "tally", "runs is None or runs.epoch < permit.epoch", "runs is None", RATE),
    Mutant("third lost prober forgiven", "probes", "if times < MAX_EXPIRIES:", "if True:"),
    Mutant("a probe that hangs is not superseded", "probes", "        return _supersede(doc, context)\n", "        return doc\n", PROBES),
    Mutant("superseded too soon", "probes", "if doc.probe_at <= context.now and", "if", PROBES),
    Mutant("any number of probes hang", "probes", " and len(doc.superseded) < MAX_SUPERSEDED", "", PROBES),
    Mutant("a lost probe is superseded", "probes", "0 < doc.probe_at < doc.probe_until", "0 < doc.probe_at", BOTH),
    Mutant("patience does not grow", "probes", "patience_ms << min(doc.hung, MAX_DOUBLINGS)", "patience_ms", PROBES),
    Mutant("patience grows for ever", "probes", ", max(patience_ms, longest_cooldown(config)))", ", 10**15)", PROBES),
    Mutant("patience below a second", "probes", "max(LEAST_PATIENCE_MS, PATIENCE_PARTS * usual_ms)", "PATIENCE_PARTS * usual_ms", PROBES),
    Mutant("patience beyond the timeout", "probes", "min(most, longest_ms) if longest_ms else most", "most", PROBES),
    Mutant(
        "a superseded probe cannot close",
        "machine",
        "            return transitions.close(doc, context), Effect.CLOSED\n",
        "            pass\n",
        PROBES,
    ),
    Mutant("a superseded probe that has ended takes room", "probes", "if one is not ended))", "))", PROBES),
    Mutant("a superseded probe is not renewed", "probes", "replace(one, until=until) if one is renewed else one", "one", PROBES),
    Mutant("a superseded probe that is lost takes room", "transitions", "    if doc.superseded:\n", "    if False:\n", PROBES),
    Mutant("the clock leaves superseded probes alone", "document", "until=shifted(one.until)", "until=one.until", PROBES),
    Mutant("a probe that hung delays the next", "probes", " if has_hung else now + cooldown", " if False else now + cooldown", PROBES),
    Mutant(
        "a probe that hung hides what it was asked",
        "probes",
        "max(now + asked_wait(outcome), doc.probe_since + cooldown)",
        "(doc.probe_since + cooldown)",
        PROBES,
    ),
    Mutant("one that failed in time has hung", "probes", "0 < doc.patience_ms <= now - doc.probe_since", "True", PROBES),
    Mutant(
        "superseded probes outlive a command",
        "commands",
        "            opened_at=doc.opened_at or now,\n",
        "            opened_at=doc.opened_at or now,\n            superseded=doc.superseded,\n",
        PROBES,
    ),
    Mutant("slow runs are no sign", "ramp_judging", "return enough and 2 * ramp.slow > number", "return False", CROWDED),
    Mutant("a slow run makes it grow", "ramp", "grows = not slow and", "grows =", CROWDED),
    Mutant(
        "any number of slow runs", "ramp_judging", "return enough and 2 * ramp.slow > number", "return enough and ramp.slow > 0", CROWDED
    ),
    Mutant("it drains without an end", "ramp_judging", "max(target // 2, ramp.rate * STILL_CROWDED // 100)", "1", CROWDED),
    Mutant("what drains is cut to nothing", "ramp_judging", "rate = max(rate, ramp.rate // 2)", "pass", CROWDED),
    Mutant("it never returns", "ramp_judging", "target=max(rate, target), cut_at=now, since", "target=rate, cut_at=now, since", CROWDED),
    Mutant("every run is taken into account", "durations", "or not 0 <= now - average.at < SAMPLE_MS", "or True", DURATIONS),
    Mutant("a run that is a little slower is slow", "durations", "usual_ms + LEAST_SLOWER_MS)", "usual_ms)", DURATIONS),
    Mutant("slow runs are not stored", "document_json", "doc.ramp.slow if doc.ramp else 0", "0", CROWDED),
    Mutant("probes count as usual runs", "durations", " or permit.token:", ":", DURATIONS),
    Mutant(
        "a long run weighs more", "durations", "min(took_ms * _SCALE, most) - average.value", "took_ms * _SCALE - average.value", DURATIONS
    ),
)


def check_unbroken() -> str:
    """Why the tests cannot judge mutants (they fail on the unbroken source); empty if they can."""
    with Runner() as runner, _compiled(runner) as place:
        code, output = runner.test(place, EXAMPLES + LAWS + RATE)
        return "" if code == 0 else f"the tests fail without any mutant:\n{output}"


def verdicts(mutants: Sequence[Mutant]) -> dict[str, str]:
    """By name why a mutant is a failure, empty if it was killed; several at a time."""
    count = min(os.cpu_count() or 1, len(mutants))
    with ExitStack() as stack:
        runners: SimpleQueue[Runner] = SimpleQueue()
        for runner in [stack.enter_context(Runner()) for _ in range(count)]:
            runners.put(runner)
        sources = stack.enter_context(_compiled(runner))

        def judged(mutant: Mutant) -> str:
            mine = runners.get()
            try:
                return _survives(mutant, sources, mine)
            finally:
                runners.put(mine)

        pool = stack.enter_context(ThreadPoolExecutor(count))
        return dict(zip((mutant.name for mutant in mutants), pool.map(judged, mutants), strict=True))


def _survives(mutant: Mutant, sources: Path, runner: Runner) -> str:
    """Why the mutant is a failure; empty if the tests killed it."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        place = Path(shutil.copytree(sources, folder, dirs_exist_ok=True))
        source = place / "sickbay" / "breaker" / f"{mutant.module}.py"
        text = source.read_text()
        if text.count(mutant.right) != 1:
            return f"its line occurs {text.count(mutant.right)} times in {source.name}"
        source.write_text(text.replace(mutant.right, mutant.wrong))
        Path(cache_from_source(str(source))).unlink()
        code, output = runner.test(place, mutant.by)
        if code == 0 and mutant.by == LAWS:  # which examples they try depends on every constant in the sources: give them more
            code, output = runner.test(place, mutant.by, LAWS_EXAMPLES="3000")
        if code == FAILED:
            return ""
        return "no test noticed" if code == 0 else f"the tests did not run:\n{output}"


@contextmanager
def _compiled(runner: Runner) -> Iterator[Path]:
    """A folder with the sources and their tests, all compiled, which takes as long as many of these tests."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        place = Path(folder)
        _copy_sources(place)
        code, output = runner.run(place, "--collect-only", "-q", *BOTH, *RAMP, *RATE)
        assert code == 0, output
        yield place


def _copy_sources(place: Path) -> None:
    (place / "pytest.ini").write_text(PYTEST_INI)
    (place / "conftest.py").write_text(CONFTEST)
    shutil.copytree(ROOT / "sickbay", place / "sickbay", ignore=shutil.ignore_patterns("adapters", "server", "__pycache__"))
    for folder, names in (("unit/breaker", "test_*.py"), ("support", "breaker_*.py")):
        (place / "tests" / folder).mkdir(parents=True)
        for file in (ROOT / "tests" / folder).glob(names):
            shutil.copy(file, place / "tests" / folder)


def main(names: list[str]) -> int:
    """Try the named mutants, or all of them; 0 if every one was killed by tests that pass without it."""
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    if not chosen:
        _say(f"no such mutant; there are: {', '.join(mutant.name for mutant in MUTANTS)}")
        return 2
    unsound = check_unbroken()
    if unsound:
        _say(unsound)
        return 1
    survivors = verdicts(chosen)
    for name, survived in survivors.items():
        _say(f"SURVIVED  {name}: {survived}" if survived else f"killed    {name}")
    return 1 if any(survivors.values()) else 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
