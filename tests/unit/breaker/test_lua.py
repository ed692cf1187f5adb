"""The script that runs inside Redis against the pure machine, in a Lua of this process; on a real Redis in tests/contract."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test
from redis.exceptions import RedisError

from sickbay.adapters.redis import script
from sickbay.breaker import machine as breaker
from sickbay.breaker.machine import AdmitRequest, Effect
from sickbay.breaker.ramp_state import MOST_RATE
from sickbay.breaker.window import Bucket
from sickbay.domain.breaker import Action, BreakerConfig, BreakerKey, Command, Permit, Refusal
from sickbay.domain.outcome import SUCCESS, Outcome, OutcomeKind
from tests.support import breaker_model
from tests.support.breaker_crowded import check_a_crowded_ramp
from tests.support.breaker_driver import START, Circuit
from tests.support.breaker_hanging import check_hanging_probes
from tests.support.differential import Twin
from tests.support.lua_redis import LuaRedis
from tests.unit.breaker import test_laws as test_breaker_laws
from tests.unit.breaker.test_rate_laws import RateLaws

OURS = script.source(*script.PARTS)
pytestmark = pytest.mark.no_cover  # the examples cover the machine; tracing would take as long as half of what is tested
LAWS = settings(
    max_examples=15, stateful_step_count=20, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck), database=None
)
MUTANTS = {
    "wrong token accepted": ("permit.epoch ~= doc.epoch or permit.token ~= doc.probeToken", "permit.epoch ~= doc.epoch"),
    "probeAt ignored": ("doc.state == 'OPEN' and now >= next_probe_at()", "doc.state == 'OPEN'"),
    "stale epoch counted": ("permit.epoch ~= doc.epoch or permit.token", "permit.token"),
    "lease expiry removed": ("if now >= doc.probeUntil then expire_probe() end", ""),
    "probe beside another after a hold": ("math.max(doc.probeAt, doc.probeUntil)", "doc.probeAt"),
    "probe forgotten by the end of a hold": ("probe_fields(outage_fields({probeAt = since}))", "outage_fields({probeAt = since})"),
    "long run not renewed": ("math.max(config.probe_max_ms, longest_ms + 2 * config.probe_lease_ms)", "config.probe_max_ms"),
    "a probe that hangs is not superseded": ("if renewable and doc.probeAt <= now then", "if false then"),
    "superseded too soon": ("if renewable and doc.probeAt <= now then", "if renewable then"),
    "any number of probes hang": (" and #doc.superseded < MAX_SUPERSEDED", ""),
    "a lost probe is superseded": (" and doc.probeAt < doc.probeUntil and", " and"),
    "patience does not grow": ("patience_ms * 2 ^ math.min(doc.hung, MAX_DOUBLINGS)", "patience_ms"),
    "patience grows for ever": (", math.max(patience_ms, most()))\nend", ", 2 ^ 50)\nend"),
    "patience below a second": ("math.max(LEAST_PATIENCE_MS, PATIENCE_PARTS * usual_ms)", "PATIENCE_PARTS * usual_ms"),
    "patience beyond the timeout": ("longest_ms > 0 and math.min(longest, longest_ms) or longest", "longest"),
    "a superseded probe cannot close": ("if position and outcome.kind == 'success' then", "if false then"),
    "a superseded probe that has ended takes room": ("  elseif position then\n    end_superseded(position)\n", ""),
    "a superseded probe is not renewed": ("    renew_superseded(one, permit.longest_ms)\n", ""),
    "a superseded probe that is lost takes room": ("if #doc.superseded > 0 then forget_ended() end", ""),
    "superseded probes forgotten": ("  fields.superseded = doc.superseded\n", ""),
    "the clock leaves superseded probes alone": (
        "one.since, one['until'] = math.max(1, one.since - back)",
        "one.since, one['until'] = math.max(1, one.since)",
    ),
    "a probe that hung delays the next": ("has_hung and math.max(now + asked_wait(outcome), doc.probeSince + cooldown) or ", ""),
    "a probe that hung hides what it was asked": (
        "math.max(now + asked_wait(outcome), doc.probeSince + cooldown)",
        "(doc.probeSince + cooldown)",
    ),
    "one that failed in time has hung": ("now - doc.probeSince >= doc.patience_ms", "true"),
    "slow runs are no sign": ("2 * ramp.slow > number", "false"),
    "half of the runs are enough": ("2 * ramp.slow > number", "2 * ramp.slow >= number"),
    "few slow runs are enough": ("ramp.slow >= FIRST_SLOW", "ramp.slow >= 2"),
    "a slow run makes it grow": ("not slow and not is_tested and now - ramp.scarce_at", "now - ramp.scarce_at"),
    "any run is slow": ("took_ms >= math.max(SLOW_PARTS", "true or took_ms >= math.max(SLOW_PARTS"),
    "a little slower is slow": ("usual_ms + LEAST_SLOWER_MS)", "usual_ms)"),
    "slow runs are not stored": ("if doc.ramp and doc.ramp.slow > 0 then", "if false then"),
    "slow runs of before are counted": (
        "ramp.good, ramp.bad, ramp.slow, ramp.share = now, 0, 0, 0, 0",
        "ramp.good, ramp.bad, ramp.share = now, 0, 0, 0",
    ),
    "it drains without an end": ("math.max(div(target, 2), div(ramp.rate * STILL_CROWDED, 100))", "div(ramp.rate * STILL_CROWDED, 100)"),
    "what drains is cut to nothing": ("rate = math.max(rate, div(ramp.rate, 2))", "rate = rate"),
    "what drains forgets where it returns to": ("target = math.max(rate, div(ramp.target, 2))", "target = rate"),
    "what is served is not measured": ("lasted >= INTERVAL_MS and div(ramp.good * 1000000, lasted) or ramp.rate", "ramp.rate"),
    "how often it hung is forgotten": ("has_hung and doc.hung + 1 or 0", "0"),
    "watermark ignored": ("failed.seq > watermark", "false"),
    "distinct jobs ignored": ("distinct >= math.min(config.distinct_jobs, config.failure_threshold) and", ""),
    "cap removed": ("math.min(most(), grown + ", "(grown + "),
    "a rate limit needs evidence": (" and not is_rate_limit(outcome) then", " then"),
    "a rate limit waits for the cooldown": ("is_rate_limit(outcome) and asked or ", ""),
    "times in floating point": ("string.format('%.0f', number)", "string.format('%g', number)"),
    "quotes left as they are": ("""string.gsub(text, '[\\\\"]', '\\\\%0')""", "text"),
    "probe ordered in any state": ("doc.state == 'OPEN' and doc.probeAt > now", "doc.probeAt > now"),
    "ordered probe never due": ("doc.probeAt = now\n", "\n"),
    "a row as short as ever opens it": ("needed(config.failure_threshold, share)", "config.failure_threshold"),
    "it measures for ever": ("return ramp_measured(ramp)", "return"),
    "few runs are enough": ("runs >= config.calls and ", ""),
    "any share is enough": ("1000 * bad >= config.rate * runs", "true"),
    "no run is slow": ("(config.slow_ms > 0 and config.slow_ms <= took_ms)", "false"),
    "a cancelled run is good": ("if outcome.kind == 'cancelled' or (", "if ("),
    "good runs of before are not counted": ("merged({doc.calls, earlier, ", "merged({doc.calls, "),
    "the window never ends": ("if now - start < config.window_ms then", "if true then"),
    "buckets of the future stay there": ("math.min(bucket.start, now)", "bucket.start"),
    "a good run opens it": ("if not (bad and (is_reached", "if not ((is_reached"),
    "a rate limit waits for a share": ("is_reached(calls, config) or is_rate_limit(outcome)", "is_reached(calls, config)"),
    "the clock leaves the buckets alone": ("bucket.start = math.max(1, bucket.start - back)", "bucket.start = bucket.start"),
    "who has another policy cuts the window": ("if config.rate > 0 then return merged", "if true then return merged"),
    "the window outlives its policy": ("if now - bucket.start < MAX_WINDOW_MS then", "if true then"),
    "rev may repeat": ("doc.rev = math.max(doc.rev + 1, now)", "doc.rev = now"),
}
BAD = Outcome(OutcomeKind.SYSTEMIC, "API_TIMEOUT")
texts = st.text(max_size=600)


def client():
    return LuaRedis()


def hold_laws(monkeypatch, twin, how=LAWS, laws=test_breaker_laws.Laws):
    """Run the laws of the pure machine with the script beside it, step by step."""
    monkeypatch.setattr(breaker_model, "breaker", twin)
    monkeypatch.setattr(test_breaker_laws, "breaker", twin)
    run_state_machine_as_test(laws, settings=how)


def test_the_script_and_the_machine_agree_on_every_step_of_the_laws(monkeypatch):
    twin = Twin(client())
    hold_laws(monkeypatch, twin)
    assert twin.compared > 800


def test_they_agree_on_every_step_with_the_policy_rate(monkeypatch):
    twin = Twin(client())
    hold_laws(monkeypatch, twin, laws=RateLaws)
    assert twin.compared > 800


@given(said=st.fixed_dictionaries(dict.fromkeys(("code", "message", "job", "worker", "by", "why"), texts)))
@settings(max_examples=40, derandomize=True, deadline=None)
def test_any_text_comes_to_the_same_bytes(said):
    """Whatever handlers, clients and admins write: cut, cleaned and quoted alike."""
    check_texts(Twin(client()), said)


def check_texts(twin, said):
    config, now = BreakerConfig(failure_threshold=2, distinct_jobs=1), START
    doc = breaker.new_document(BreakerKey("email", "acme"), now)
    for number in range(2):
        outcome = Outcome(OutcomeKind.UNKNOWN, said["code"], said["message"])
        doc, _ = twin.settle(doc, breaker.normal_permit(doc, f"{said['job']}{number}"), outcome, config, now)
    now = doc.probe_at
    doc, answer = twin.admit(doc, AdmitRequest(said["job"], "token", said["worker"]), config, now)
    assert isinstance(answer, Permit)
    twin.command(doc, Command(Action.FORCE_OPEN, 5, said["by"], said["why"]), config, now)
    twin.settle(doc, answer, Outcome(OutcomeKind.SYSTEMIC, "API_TIMEOUT", said["message"]), config, now)


def check_a_life(twin):
    """The ordinary life of a circuit, with what chance seldom brings: a late success, forged and lost probes, an outage that goes on."""
    check_hanging_probes(twin)
    check_a_crowded_ramp(twin)
    config, now = BreakerConfig(failure_threshold=3, max_cooldown_ms=900_000), START
    down = Outcome(OutcomeKind.SYSTEMIC, "API_TIMEOUT", 'he said "no"')
    doc = breaker.new_document(BreakerKey("email"), now)
    for _ in range(2):
        doc, _ = twin.settle(doc, breaker.normal_permit(doc, "poison"), down, config, now)
    doc, effect = twin.settle(doc, breaker.normal_permit(doc, "late"), SUCCESS, config, now, watermark=1)
    assert (effect, len(doc.run)) == (Effect.RESET, 1)
    for number in range(4):
        doc, effect = twin.settle(doc, breaker.normal_permit(doc, "poison" if number < 3 else "job"), down, config, now)
    assert effect is Effect.TRIPPED
    for _ in range(12):
        twin.admit(doc, AdmitRequest("early", "t"), config, doc.probe_at - 1)
        doc, permit = twin.admit(doc, AdmitRequest("probe", "token"), config, doc.probe_at)
        now = doc.probe_until
        twin.catch_up(doc, config, now, jitter=999)
        assert isinstance(permit, Permit)
        for forged in (replace(permit, token="guessed"), replace(permit, epoch=permit.epoch - 1)):
            assert twin.settle(doc, forged, SUCCESS, config, now - 1)[1] is Effect.STALE
        doc, _ = twin.renew(doc, permit, config, now - 1)
        doc, _ = twin.settle(doc, permit, down, config, now, jitter=777)
    assert doc.cooldown_ms == config.max_cooldown_ms
    doc = twin.catch_up(doc, config, now - 3_600_000)
    doc, permit = twin.admit(doc, AdmitRequest("probe", "token"), config, doc.probe_at)
    assert isinstance(permit, Permit)
    doc, _ = twin.settle(doc, permit, SUCCESS, config, doc.updated_at)
    check_a_hold_beside_the_probe(twin, config)
    check_a_rate_limit(twin, config)
    check_a_ramp(twin, config, doc)
    check_a_measured_ramp(twin, config)
    check_a_window(twin)


def check_a_window(twin):
    """The policy `rate`, watched and not."""
    check_one_window(twin, Effect.TRIPPED)
    check_one_window(twin, Effect.WOULD_TRIP)
    config, doc = BreakerConfig(rate=250, calls=4), breaker.new_document(BreakerKey("fax"), START)
    for outcome in (BAD, BAD, SUCCESS, SUCCESS, SUCCESS):
        doc, effect = twin.settle(doc, breaker.normal_permit(doc, "job"), outcome, config, START)
        assert effect is Effect.COUNTED
    assert twin.settle(doc, breaker.normal_permit(doc, "job"), Outcome(OutcomeKind.CANCELLED), config, START)[1] is Effect.NOTHING


def check_one_window(twin, opened):
    """Every line of it, and where its buckets end."""
    config = BreakerConfig(rate=500, calls=10, window_ms=60_000, slow_ms=5_000)
    data, limited = Outcome(OutcomeKind.DATA, "VALIDATION_ERROR"), Outcome(OutcomeKind.TRANSIENT, "RATE_LIMITED", "slow down", 10_000)
    doc, now = breaker.new_document(BreakerKey("fax"), START), START
    if opened is Effect.WOULD_TRIP:
        doc = twin.command(doc, Command(Action.METRICS_ONLY), config, now)

    def run(outcome, took_ms=0, earlier=(), config=config):
        nonlocal doc
        doc, effect = twin.settle(doc, breaker.normal_permit(doc, "job"), outcome, config, now, took_ms=took_ms, earlier=earlier)
        return effect

    assert run(SUCCESS) is run(data) is run(Outcome(OutcomeKind.CANCELLED), 9_000) is Effect.NOTHING
    before = (Bucket(now - 70_000, 5, 0), Bucket(now - 59_999, 2, 0), Bucket(now - 7_000, 3, 0), Bucket(now + 5_000, 9, 0))
    assert run(BAD, earlier=before) is Effect.COUNTED
    assert run(data, 5_000) is run(SUCCESS, 4_999) is run(data) is Effect.COUNTED
    for now in (START + 20_000, START + 50_000, START + 59_000, START - 100_000, START - 60_000):
        doc = twin.catch_up(doc, config, now)
        run(SUCCESS)
        run(SUCCESS, 7_000)
    now += 60_000
    assert run(SUCCESS, earlier=(Bucket(now, 7, 0),)) is Effect.COUNTED
    assert run(SUCCESS) is Effect.NOTHING
    assert run(BAD) is run(BAD, config=BreakerConfig()) is Effect.COUNTED
    for later in (61_000, 3_600_000):
        twin.catch_up(doc, BreakerConfig(window_ms=1_000), now + later)
    now += 120_000
    assert run(BAD, config=BreakerConfig()) is Effect.COUNTED
    assert run(SUCCESS) is Effect.COUNTED
    for _ in range(9):
        assert run(BAD) is Effect.COUNTED
    assert run(SUCCESS, 61_000) is opened
    assert doc.reason_code == ("SLOW_CALLS" if opened is Effect.TRIPPED else "")
    now += 60_000
    doc = twin.command(doc, Command(Action.RESET if doc.reason_code else Action.METRICS_ONLY), replace(config, ramp=False), now)
    assert run(limited) is opened
    assert run(BAD) is (Effect.STALE if opened is Effect.TRIPPED else Effect.NOTHING)


def check_a_ramp(twin, config, doc):
    """It doubles, is cut, learns that the cut did not help, grows and is over: every line of it."""
    now, number, epochs, borne = doc.updated_at, 0, {doc.epoch}, 0
    outcomes = {
        "good": SUCCESS,
        "bad": Outcome(OutcomeKind.TRANSIENT, "NETWORK_ERROR"),
        "data": Outcome(OutcomeKind.DATA, "VALIDATION_ERROR"),
    }
    phases = [("good", 20, 150), ("good good bad", 5, 1_500), ("good good data", 5, 600), ("good", 400, 100)]
    for pattern, gap_ms, steps in phases:
        words = pattern.split()
        for step in range(steps):
            if gap_ms < 100:
                doc, _ = twin.reserve(doc, 1 + number % 3, config, now, arrivals=30_000 * (number > 10))
            doc, permit = twin.admit(doc, AdmitRequest(f"job-{number}", "t", released=number % 2 == 0), config, now)
            if doc.ramp is None:
                break
            if isinstance(permit, Permit):
                doc, effect = twin.settle(doc, permit, outcomes[words[step % len(words)]], config, now)
                assert effect is not Effect.TRIPPED
            epochs.add(doc.epoch)
            borne = max(borne, doc.ramp.borne if doc.ramp else 0)
            now, number = now + gap_ms, number + 1
    assert doc.ramp is None
    assert len(epochs) > 2
    assert borne > 300


def check_a_measured_ramp(twin, config):
    """A closed breaker of whose runs a third fails: more failures in a row are needed, it measures, limits, and ends when they succeed."""
    doc, now, number, rates = breaker.new_document(BreakerKey("sms"), START), START, 0, set()
    bad = Outcome(OutcomeKind.TRANSIENT, "NETWORK_ERROR")
    for share, pattern, steps in ((333, (bad, bad, bad, bad, bad, SUCCESS), 6), (333, (SUCCESS, bad, SUCCESS), 400), (0, (SUCCESS,), 200)):
        for step in range(steps):
            doc, permit = twin.admit(doc, AdmitRequest(f"job-{number}", "t"), config, now)
            if isinstance(permit, Permit):
                doc, effect = twin.settle(doc, permit, pattern[step % len(pattern)], config, now, share=share)
                assert effect is not Effect.TRIPPED
            rates.add(doc.ramp and doc.ramp.rate)
            now, number = now + 20, number + 1
    assert MOST_RATE in rates
    assert any(rate and 20_000 < rate < 40_000 for rate in rates)
    few = breaker.new_document(BreakerKey("sms"), START)
    few, _ = twin.settle(few, breaker.normal_permit(few, "a"), bad, config, START, share=200)
    few, _ = twin.settle(few, breaker.normal_permit(few, "b"), SUCCESS, config, START, share=200)
    assert few.ramp is not None
    few, _ = twin.settle(few, breaker.normal_permit(few, "b"), bad, config, START + 6_000, share=200)
    assert few.ramp is None


def check_a_rate_limit(twin, config):
    """One answer that says until when, watched and not, and a probe that gets it again."""
    limited, watched = Outcome(OutcomeKind.TRANSIENT, "RATE_LIMITED", "slow down", 10_000), breaker.new_document(BreakerKey("sms"), START)
    doc, effect = twin.settle(watched, breaker.normal_permit(watched, "job"), limited, config, START)
    assert effect is Effect.TRIPPED
    doc = twin.command(doc, Command(Action.PROBE), config, START + 1)
    assert doc.probe_at == START + 1
    doc, probe = twin.admit(doc, AdmitRequest("probe", "token"), config, doc.probe_at)
    assert isinstance(probe, Permit)
    assert twin.command(doc, Command(Action.PROBE), config, doc.updated_at) is doc
    assert twin.settle(doc, probe, limited, config, doc.updated_at, jitter=500)[1] is Effect.REOPENED
    watched = twin.command(watched, Command(Action.METRICS_ONLY), config, START)
    watched, effect = twin.settle(watched, breaker.normal_permit(watched, "job"), limited, config, START)
    assert effect is Effect.WOULD_TRIP
    assert twin.command(watched, Command(Action.PROBE), config, START) is watched


def check_a_hold_beside_the_probe(twin, config):
    """A slow probe, a hold of a second beside it, and its end."""
    doc = twin.command(breaker.new_document(BreakerKey("sms"), START), Command(Action.FORCE_OPEN), config, START)
    doc = twin.command(doc, Command(Action.AUTO), config, START)
    doc, probe = twin.admit(doc, AdmitRequest("slow", "token", longest_ms=300_000), config, START)
    assert isinstance(probe, Permit)
    doc = twin.command(doc, Command(Action.FORCE_OPEN, 1_000), config, START)
    for now in (START + 1_000, START + 14_000, START + 28_000):
        doc = twin.catch_up(doc, config, now)
        assert isinstance(twin.admit(doc, AdmitRequest("other", "second"), config, now)[1], Refusal)
        doc, renewed = twin.renew(doc, probe, config, now)
        assert renewed
    for now in range(START + 42_000, START + 329_000, 14_000):
        doc, renewed = twin.renew(doc, probe, config, now)
        assert renewed
    twin.catch_up(doc, config, doc.probe_until)
    doc, effect = twin.settle(doc, probe, SUCCESS, config, START + 320_000)
    assert (effect, doc.probe_token) == (Effect.STALE, "")
    assert isinstance(twin.admit(doc, AdmitRequest("next", "third"), config, START + 320_000)[1], Permit)


def test_the_script_and_the_machine_agree_on_an_ordinary_life():
    """Also the ground that the mutants below stand on: it passes with the script as it is."""
    check_a_life(Twin(client()))


def test_more_codes_than_a_run_can_hold_are_counted_as_other():
    twin, config = Twin(client()), BreakerConfig(failure_threshold=4)
    doc = breaker.new_document(BreakerKey("email"), START)
    for number in range(67):
        code = f"CODE_{number}"
        doc, _ = twin.settle(doc, breaker.normal_permit(doc, f"job-{number}"), Outcome(OutcomeKind.UNKNOWN, code), config, START + number)
    assert {failed.code for failed in doc.run} == {f"CODE_{number}" for number in range(64)} | {"OTHER"}


def test_a_circuit_is_born_alike():
    """A type nobody knew: the same document as `new_document`, then the first failure of its first job."""
    redis, config, key = client(), BreakerConfig(), BreakerKey("email", "acme")
    words = script.admit_args(AdmitRequest("job", "token", "worker"))
    begin = script.common_args("admit", key, config, "events", now=START, jitter=0)
    _, total, text, answer, _ = redis.eval(OURS, 1, "breaker:acme/email", *begin, *words)
    assert (total, text.decode(), answer) == (0, breaker.to_json(breaker.new_document(key, START)), b"normal")


@pytest.mark.parametrize(
    "junk",
    ["", "junk", "[]", "null", '{"v":2}', '{"v":1,"jobType":"email","state":"ODD"}', '{"v":1,"jobType":"email","state":"OPEN","rev":"x"}'],
)
def test_what_is_no_document_begins_anew(junk):
    redis = client()
    redis.set("breaker:email", junk)
    begin = script.common_args("admit", BreakerKey("email"), BreakerConfig(), "events", now=START, jitter=0)
    _, _, text, answer, _ = redis.eval(OURS, 1, "breaker:email", *begin, "job", "token", "worker")
    assert answer == b"normal"
    assert redis.get("breaker:email") == text == breaker.to_json(breaker.new_document(BreakerKey("email"), START)).encode()


def test_a_document_edited_by_hand_is_read_if_it_can_be():
    circuit, redis = Circuit().open(), client()
    pretty = re.sub(r'([,:])"', r'\1  "', breaker.to_json(circuit.doc)).replace("{", '{"hint":"a\\u0001b",')
    redis.set("breaker:email", pretty)
    begin = script.common_args("admit", BreakerKey("email"), BreakerConfig(), "events", now=START, jitter=0)
    _, _, text, answer, _ = redis.eval(OURS, 1, "breaker:email", *begin, "job", "token", "worker")
    assert (text.decode(), answer) == (breaker.to_json(circuit.doc), b"refused")


@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_line_in_the_script_is_noticed(name):
    """The comparison is itself tested: with a line broken it must find the two machines apart."""
    right, wrong = MUTANTS[name]
    assert right in OURS
    with pytest.raises((AssertionError, ValueError, RedisError)):
        check_a_life(Twin(client(), OURS.replace(right, wrong)))
