"""Every rule about the requests of ScheduleService, and that what is shown of a schedule says all of it."""

from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from sickbay.contract import schedules as contract
from sickbay.contract.schedule_words import schedule_change
from sickbay.contract.schedules import Shown
from sickbay.domain.access import ANYBODY, Principal, Role
from sickbay.domain.errors import ErrorReason, InvalidArgument, NotFound, PermissionDenied
from sickbay.domain.job import JobState
from sickbay.domain.priority import Priority
from sickbay.domain.schedule import (
    DEFAULT_CATCH_UP_MS,
    MAX_CATCH_UP_MS,
    MAX_JITTER_MS,
    MIN_EVERY_MS,
    Origin,
    Overlap,
    RunOutcome,
    Schedule,
    ScheduleKey,
    ScheduleQuery,
    ScheduleRun,
    ScheduleSpec,
    ScheduleState,
    Timing,
    Trigger,
    WhileOpen,
)
from sickbay.domain.schedule_checks import MAX_EVERY_MS
from sickbay.schedules.v1 import schedule_pb2
from sickbay.schedules.v1 import schedule_service_pb2 as pb

NOW = 1_800_000_000_000
OPERATE = frozenset({Role.OPERATE})
OURS = Principal("ann", OPERATE, frozenset({"acme"}))
BOTH = Principal("both", OPERATE, frozenset({"acme", "beta"}))

lines = st.text(st.characters(categories=("L", "N", "P", "S")), max_size=60)
moments = st.integers(0, 253_402_300_799_999)
timings = st.builds(
    Timing,
    cron=st.sampled_from(["", "0 3 * * *", "@daily", "*/5 * * * * *"]),
    every_ms=st.just(0) | st.integers(MIN_EVERY_MS, MAX_EVERY_MS),
    timezone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York"]),
    start_at=moments,
    end_at=moments,
    jitter_ms=st.integers(0, MAX_JITTER_MS),
)
specs = st.builds(
    ScheduleSpec,
    job_type=st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True),
    timing=timings,
    payload_json=st.sampled_from([b"{}", b'{"a": 9007199254740993}', b'{ "b":[1e3, 1.50] }', '{"ä":"\U0001f600"}'.encode()]),
    priority=st.sampled_from(Priority),
    overlap=st.sampled_from(Overlap),
    while_open=st.sampled_from(WhileOpen),
    catch_up_ms=st.integers(0, MAX_CATCH_UP_MS),
    pause_on_failure=st.booleans(),
    description=lines,
)


@given(specs)
def test_what_is_shown_of_a_spec_makes_the_same_spec(spec):
    """Byte for byte, also through the wire: so that what was read can be changed and sent back."""
    message = contract.spec_message(spec)
    assert contract.spec(message) == spec
    assert contract.spec(schedule_pb2.ScheduleSpec.FromString(message.SerializeToString())) == spec


@given(specs)
def test_a_list_shows_everything_but_the_payload(spec):
    whole, listed = contract.spec_message(spec), contract.spec_message(spec, has_payload=False)
    assert not listed.HasField("payload_json")
    listed.payload_json = whole.payload_json
    assert listed == whole


def test_the_defaults_of_a_spec():
    found = contract.spec(schedule_pb2.ScheduleSpec(job_type="report", cron=" 0 3 * * * "))
    assert found == ScheduleSpec("report", Timing(cron="0 3 * * *"))
    assert (found.catch_up_ms, found.overlap, found.while_open) == (DEFAULT_CATCH_UP_MS, Overlap.SKIP, WhileOpen.RUN)
    none = contract.spec(schedule_pb2.ScheduleSpec(job_type="report", cron="@daily", catch_up_window=Duration()))
    assert none.catch_up_ms == 0, "which is not the default"


def test_a_struct_is_taken_as_payload_too():
    payload = Struct()
    payload.update({"a": 3, "b": [True, None]})
    found = contract.spec(schedule_pb2.ScheduleSpec(job_type="report", cron="@daily", payload=payload))
    assert found.payload_json in {b'{"a":3,"b":[true,null]}', b'{"b":[true,null],"a":3}'}


def struct(value):
    made = Struct()
    made.update({"a": value})
    return made


BAD: dict[str, tuple[dict[str, Any], ErrorReason, str]] = {
    "no job type": ({"job_type": ""}, ErrorReason.INVALID_JOB_TYPE, "job type is missing"),
    "bad job type": ({"job_type": "E Mail"}, ErrorReason.INVALID_JOB_TYPE, "job type 'E Mail' is invalid"),
    "no JSON": ({"payload_json": "{'a'}"}, ErrorReason.INVALID_PAYLOAD, "not valid JSON"),
    "no object": ({"payload_json": "[1]"}, ErrorReason.INVALID_PAYLOAD, "must be a JSON object"),
    "empty payload": ({"payload_json": ""}, ErrorReason.INVALID_PAYLOAD, "not valid JSON"),
    "large payload": ({"payload_json": f'{{"a":"{"x" * 1024 * 1024}"}}'}, ErrorReason.PAYLOAD_TOO_LARGE, "at most 1,048,576"),
    "large integer": ({"payload": struct(2.0**53 + 2)}, ErrorReason.NUMBER_TOO_LARGE, "beyond 2^53"),
    "unknown priority": ({"priority": 9}, ErrorReason.INVALID_FIELD, "priority 9 is unknown"),
    "unknown overlap": (
        {"overlap": 9},
        ErrorReason.INVALID_FIELD,
        "overlap 9 is unknown; use OVERLAP_SKIP, OVERLAP_BUFFER_ONE, OVERLAP_ALL",
    ),
    "negative overlap": ({"overlap": -1}, ErrorReason.INVALID_FIELD, "overlap -1 is unknown"),
    "unknown while_open": ({"while_open": 9}, ErrorReason.INVALID_FIELD, "while_open 9 is unknown; use WHILE_OPEN_RUN, WHILE_OPEN_SKIP"),
    "long cron": ({"cron": "*" * 257}, ErrorReason.INVALID_FIELD, "cron expression is 257 characters long"),
    "cron of two lines": ({"cron": "0 3 * * *\n"}, ErrorReason.INVALID_FIELD, "cron expression has an unprintable character"),
    "long time zone": ({"timezone": "x" * 65}, ErrorReason.INVALID_FIELD, "time zone is 65 characters long"),
    "short interval": ({"interval": Duration(nanos=999_000_000)}, ErrorReason.INVALID_FIELD, "interval must be 1 to"),
    "negative interval": ({"interval": Duration(seconds=-60)}, ErrorReason.INVALID_FIELD, "not -60"),
    "long interval": ({"interval": Duration(seconds=MAX_EVERY_MS // 1000 + 1)}, ErrorReason.INVALID_FIELD, "interval must be"),
    "no duration": ({"interval": Duration(seconds=1, nanos=-1)}, ErrorReason.INVALID_FIELD, "not a valid google.protobuf.Duration"),
    "early start": (
        {"start_time": Timestamp(seconds=-1)},
        ErrorReason.INVALID_FIELD,
        "start_time must be a time in the years 1970 to 9999",
    ),
    "bad start": ({"start_time": Timestamp(nanos=-1)}, ErrorReason.INVALID_FIELD, "start_time must be"),
    "late end": ({"end_time": Timestamp(seconds=253_402_300_800)}, ErrorReason.INVALID_FIELD, "end_time must be"),
    "end at the epoch": ({"end_time": Timestamp()}, ErrorReason.INVALID_FIELD, "leave it out for a schedule without an end"),
    "negative jitter": ({"jitter": Duration(seconds=-1)}, ErrorReason.INVALID_FIELD, "jitter must be 0 to 86400"),
    "long jitter": ({"jitter": Duration(seconds=86_401)}, ErrorReason.INVALID_FIELD, "jitter must be 0 to 86400"),
    "negative window": ({"catch_up_window": Duration(seconds=-1)}, ErrorReason.INVALID_FIELD, "catch_up_window must be 0 to"),
    "long window": ({"catch_up_window": Duration(seconds=367 * 86_400)}, ErrorReason.INVALID_FIELD, "catch_up_window must be 0 to"),
    "long description": ({"description": "x" * 501}, ErrorReason.INVALID_FIELD, "description is 501 characters long"),
    "description of two lines": ({"description": "a\nb"}, ErrorReason.INVALID_FIELD, "description has an unprintable character"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_field_of_a_spec_is_named(case):
    fields, reason, words = BAD[case]
    with pytest.raises(InvalidArgument) as caught:
        contract.spec(schedule_pb2.ScheduleSpec(**{"job_type": "report"} | fields))
    assert caught.value.reason is reason
    assert words in str(caught.value)


def test_every_field_of_a_spec_has_a_bad_value_here():
    """Except the flag, which has none."""
    tried = {name for fields, _, _ in BAD.values() for name in fields}
    assert tried == {field.name for field in schedule_pb2.ScheduleSpec.DESCRIPTOR.fields} - {"pause_on_failure"}


@pytest.mark.parametrize("request_", [pb.CreateScheduleRequest(), pb.UpdateScheduleRequest()])
def test_a_spec_is_required(request_):
    with pytest.raises(InvalidArgument, match="the spec is missing"):
        contract.required_spec(request_)


@pytest.mark.parametrize("name", ["", "Nightly", "a b", "-a", "a" * 65, "a/b", "ä", "a\n"])
def test_a_name_is_that_of_the_pattern(name):
    for read in (contract.new_key, contract.key_of):
        with pytest.raises(InvalidArgument, match="the schedule id"):
            read(pb.CreateScheduleRequest(schedule_id=name))


def test_a_schedule_is_of_a_tenant():
    def key(**fields):
        return contract.key_of(pb.GetScheduleRequest(schedule_id="a", **fields), principal)

    for principal, expected in ((ANYBODY, "default"), (OURS, "acme")):
        assert key() == ScheduleKey(expected, "a")
        assert contract.new_key(pb.CreateScheduleRequest(schedule_id="a"), principal) == key()
    assert key(tenant="acme") == ScheduleKey("acme", "a")
    with pytest.raises(NotFound) as foreign:
        key(tenant="beta")
    assert (foreign.value.reason, str(foreign.value)) == (ErrorReason.SCHEDULE_NOT_FOUND, "there is no schedule 'a'")
    with pytest.raises(PermissionDenied, match="ann may not use the tenant 'beta'"):
        contract.new_key(pb.CreateScheduleRequest(schedule_id="a", tenant="beta"), OURS)
    principal = BOTH
    assert key(tenant="beta") == ScheduleKey("beta", "a")
    with pytest.raises(PermissionDenied, match="several tenants; name one of them"):
        key()
    with pytest.raises(InvalidArgument, match="the tenant 'A/B' is invalid"):
        key(tenant="A/B")


def test_filters_of_lists():
    def query(principal=ANYBODY, **fields):
        return contract.schedule_query(pb.ListSchedulesRequest(**fields), principal)

    assert query() == ScheduleQuery()
    everything = query(tenant="acme", job_type="report", state="STATE_PAUSED", origin="ORIGIN_CODE")
    assert everything == ScheduleQuery(frozenset({"acme"}), "report", ScheduleState.PAUSED, Origin.CODE)
    assert query(OURS).tenants == {"acme"}
    assert query(OURS, tenant="beta").tenants == frozenset()
    assert contract.outcome_filter(pb.ListScheduleRunsRequest()) is None
    assert contract.outcome_filter(pb.ListScheduleRunsRequest(outcome="OUTCOME_MISSED")) is RunOutcome.MISSED


@pytest.mark.parametrize(
    "read",
    [
        lambda: contract.schedule_query(pb.ListSchedulesRequest(state=77)),
        lambda: contract.schedule_query(pb.ListSchedulesRequest(origin=77)),
        lambda: contract.schedule_query(pb.ListSchedulesRequest(job_type="E Mail")),
        lambda: contract.schedule_query(pb.ListSchedulesRequest(tenant="A/B")),
        lambda: contract.outcome_filter(pb.ListScheduleRunsRequest(outcome=77)),
        lambda: contract.note("a\nb"),
        lambda: contract.note("x" * 501),
        lambda: contract.manual_run(pb.TriggerScheduleRequest(request_id="caf\u00e9"), NOW),
        lambda: contract.manual_run(pb.TriggerScheduleRequest(request_id="x" * 129), NOW),
        lambda: contract.manual_run(pb.TriggerScheduleRequest(actor="x" * 129), NOW),
    ],
)
def test_other_bad_fields_are_rejected(read):
    with pytest.raises(InvalidArgument):
        read()


def test_an_idempotency_key_belongs_to_its_principal_and_no_key_is_no_repeat():
    def run(principal, **fields):
        return contract.manual_run(pb.TriggerScheduleRequest(**fields), NOW, principal)

    first = run(OURS, request_id="k", actor="somebody else")
    assert (first.tick_at, first.run_at, first.trigger, first.actor) == (NOW, NOW, Trigger.MANUAL, "ann")
    assert run(OURS, request_id="k").request_id == first.request_id
    others = [run(OURS, request_id="l"), run(BOTH, request_id="k"), run(ANYBODY, request_id="k"), run(OURS), run(OURS)]
    assert len({first.request_id, *(one.request_id for one in others)}) == 6
    assert run(ANYBODY, actor="ada").actor == "ada"


def stamp(ms):
    return Timestamp(seconds=ms // 1000, nanos=ms % 1000 * 1_000_000)


def test_a_backfill_is_of_the_past():
    def window(start, end):
        fields = {name: stamp(ms) for name, ms in (("start_time", start), ("end_time", end)) if ms is not None}
        return contract.backfill_window(pb.BackfillScheduleRequest(**fields), NOW)

    assert window(NOW - 5, NOW) == (NOW - 5, NOW)
    for start, end, words in [
        (None, NOW, "required"),
        (NOW, None, "required"),
        (None, None, "required"),
        (NOW, NOW, "start_time must be before end_time"),
        (NOW, NOW - 1, "start_time must be before end_time"),
        (NOW - 5, NOW + 1, "end_time must be in the past"),
    ]:
        with pytest.raises(InvalidArgument, match=words):
            window(start, end)


RUN = ScheduleRun(NOW, Trigger.TICK, RunOutcome.SUBMITTED, "id", JobState.RUNNING, NOW + 1, count=3)
SCHEDULE = Schedule(
    key=ScheduleKey("acme", "nightly"),
    spec=ScheduleSpec("report", Timing(cron="0 3 * * *"), b'{"secret": 1}'),
    state=ScheduleState.PAUSED,
    origin=Origin.CODE,
    pause_note="why",
    paused_by="ada",
    created_at=NOW,
    updated_at=NOW + 1_500,
    buffered_at=NOW + 2_000,
    last_run=RUN,
    revision=3,
)


def test_a_schedule_with_everything_is_shown_with_everything():
    shown = contract.schedule(SCHEDULE, Shown((NOW + 5, NOW + 6), "in words", is_orphaned=True))
    unset = {field.name for field in shown.DESCRIPTOR.fields} - {field.name for field, _ in shown.ListFields()}
    assert unset == {"payload_hidden"}
    assert [time.ToMilliseconds() for time in shown.next_times] == [NOW + 5, NOW + 6]
    assert (shown.etag, shown.update_time.ToMilliseconds(), shown.buffered_time.ToMilliseconds()) == (
        SCHEDULE.etag,
        NOW + 1_500,
        NOW + 2_000,
    )
    assert shown.last_run == contract.run(RUN)
    assert (shown.spec.payload_json, shown.tenant, shown.pause_note, shown.paused_by) == ('{"secret": 1}', "acme", "why", "ada")


def test_payloads_are_hidden_and_left_out_of_lists():
    hidden = contract.schedule(SCHEDULE, Shown(), hides_payload=True)
    listed = contract.schedule(SCHEDULE, Shown(), has_payload=False)
    assert (hidden.payload_hidden, listed.payload_hidden) == (True, False)
    assert "secret" not in f"{hidden}{listed}"


def test_a_run_is_shown():
    assert contract.run(RUN) == schedule_pb2.ScheduleRun(
        tick_time=stamp(NOW),
        trigger="TRIGGER_TICK",
        outcome="OUTCOME_SUBMITTED",
        job_id="id",
        job_state="STATE_RUNNING",
        handle_time=stamp(NOW + 1),
        count=3,
    )
    missed = contract.run(ScheduleRun(NOW, Trigger.TICK, RunOutcome.MISSED, handled_at=NOW, ended_at=0))
    assert (missed.job_state, missed.job_id, missed.HasField("end_time")) == (0, "", False)


def test_the_audit_log_hears_what_differs_and_never_a_payload():
    spec = replace(SCHEDULE.spec, timing=Timing(every_ms=60_000), payload_json=b'{"secret": 2}')
    assert schedule_change(SCHEDULE, replace(SCHEDULE, spec=spec)) == (
        "PAUSED, payload_json=(13 characters), cron=0 3 * * *",
        "PAUSED, payload_json=(13 characters), interval=60s",
    )
    assert schedule_change(SCHEDULE, replace(SCHEDULE, state=ScheduleState.ACTIVE)) == ("PAUSED", "ACTIVE")
    created, deleted = schedule_change(None, SCHEDULE), schedule_change(SCHEDULE, None)
    assert created == (deleted[1], deleted[0])
    assert created[0] == ""
    assert "cron=0 3 * * *" in created[1]
    assert "secret" not in created[1]
