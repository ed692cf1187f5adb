"""The settings file: what it may say, and how its mistakes are reported."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sickbay.domain.job import NAME_PATTERN, is_name
from sickbay.domain.retry import RetryOptions
from sickbay.runtime.settings_file import MAX_FILE_BYTES, SettingsFileError, json_schema, load_file, parse_file, shown, value_at

EXAMPLE = b"""
[defaults]
retry = { max = 4 }

[types.email]
timeout = "30s"
retry = { max = 5, delay = "500ms" }
breaker = { threshold = 7, cooldown = "1.5m" }
"""


def mistakes(text: bytes) -> list[str]:
    """What is reported of this file."""
    with pytest.raises(SettingsFileError) as caught:
        parse_file(text, "sickbay.toml")
    assert str(caught.value).startswith("sickbay.toml: ")
    return caught.value.mistakes


def test_a_file_sets_what_it_names_and_nothing_else():
    """Durations become milliseconds, and what is absent is None."""
    file = parse_file(EXAMPLE, "sickbay.toml")
    own, defaults = file.policies("email")
    assert (own.timeout, own.retry.max, own.retry.delay) == (30_000, 5, 500)
    assert (own.breaker.threshold, own.breaker.cooldown) == (7, 90_000)
    assert (defaults.timeout, defaults.retry.max, defaults.retry.delay, defaults.breaker.threshold) == (None, 4, None, None)
    assert file.policies("sms")[0].timeout is None
    retry = parse_file(b"[defaults]\nretry = { backoff = 2, max_delay = '10m', jitter = 0.5, codes = { SLOW = 3 } }", "x").defaults.retry
    assert retry.options == RetryOptions(backoff=2.0, max_delay_ms=600_000, jitter=0.5, retries_by_code={"SLOW": 3})


def test_an_empty_file_says_nothing():
    """It is valid."""
    assert parse_file(b"", "x").types == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"[type.email]", "type: unknown key; did you mean types?"),
        (b"[defaults]\ntimeuot = '1s'", "defaults.timeuot: unknown key; did you mean timeout?"),
        (b"[types.email]\nretry = { maxx = 1 }", "types.email.retry.maxx: unknown key; did you mean max?"),
        (b"[types.retry]\nbreaker = { cooldwn = '1s' }", "types.retry.breaker.cooldwn: unknown key; did you mean cooldown?"),
        (b"[types.email]\nzzz = 1", "types.email.zzz: unknown key; known are timeout, retry, breaker"),
        (b"[types.email.v2]\ntimeout = '1s'", 'types.email.v2: unknown key; if the job type is email.v2, write [types."email.v2"]'),
        (b"[types.email.rety]\nmax = 1", "types.email.rety: unknown key; did you mean retry?"),
        (b"[types.'a b']", "types.'a b': a job type must match [a-z0-9][a-z0-9._-]{0,63} (lower-case letters"),
        (b"[types.a]\ndependency = 'SMTP'", "types.a.dependency: a dependency must match [a-z0-9][a-z0-9._-]{0,63} (lower-case letters"),
        (b"[types.a]\ndependency = 1", "types.a.dependency: input should be a valid string"),
        (b"[defaults]\ndependency = 'smtp'", "defaults.dependency: unknown key; known are timeout, retry, breaker"),
        (
            b"[types.a]\ndependency = 'x'\nbreaker.threshold = 3\n[types.b]\ndependency = 'x'\nbreaker.threshold = 4",
            "types.b.breaker.threshold: 4 differs from 3 of types.a.breaker.threshold, but both types share the breaker of",
        ),
        (b"[types.'']", "types.'': a job type must match"),
        (b"[defaults]\ntimeout = 30", "defaults.timeout: write a duration like"),
        (b"[defaults]\ntimeout = '0s'", "defaults.timeout: input should be greater than or equal to 1"),
        (b"[defaults]\nbreaker = { threshold = 0 }", "defaults.breaker.threshold: input should be greater than or equal to 1"),
        (
            b"[types.a]\nbreaker = { policy = 'consecutive', rate = 0.5, slow = '5s' }",
            'types.a.breaker: only policy = "rate" has rate, slow: write that, or leave them out',
        ),
        (b"[defaults]\nbreaker = { policy = 'window' }", "defaults.breaker.policy: input should be 'consecutive' or 'rate'"),
        (b"[defaults]\nbreaker = { rate = 0 }", "defaults.breaker.rate: input should be greater than or equal to 0.01"),
        (b"[defaults]\nbreaker = { rate = 50 }", "defaults.breaker.rate: input should be less than or equal to 1"),
        (b"[defaults]\nbreaker = { window = '2h' }", "defaults.breaker.window: input should be less than or equal to 3600000"),
        (b"[defaults]\nretry = { max = true }", "defaults.retry.max: input should be a valid integer"),
        (b"[defaults]\nretry = { max = '3' }", "defaults.retry.max: input should be a valid integer"),
        (b"[defaults]\nretry = { backoff = 0.5 }", "defaults.retry.backoff: input should be greater than or equal to 1"),
        (b"[defaults]\nretry = { backoff = nan }", "defaults.retry.backoff: input should be a finite number"),
        (b"[defaults]\nretry = { jitter = 1.5 }", "defaults.retry.jitter: input should be less than or equal to 1"),
        (b"[defaults]\nretry = { max_delay = '2d' }", "defaults.retry.max_delay: write a duration like"),
        (b"[defaults]\nretry.codes.slow = 1", "defaults.retry.codes.slow: an error code must match"),
        (b"[defaults]\nretry.codes.SLOW = -1", "defaults.retry.codes.SLOW: input should be greater than or equal to 0"),
        (b"[defaults]\nsubmit = 5", 'defaults.submit: write a rate like "100/s"'),
        (b"[tenants.acme]\nsubmit = '0/s'", 'tenants.acme.submit: write a rate like "100/s"'),
        (b"[tenants.acme]\nsubmit = '9/d'", 'tenants.acme.submit: write a rate like "100/s"'),
        (b"[tenants.acme]\nqueud = 9", "tenants.acme.queud: unknown key; did you mean queued?"),
        (b"[tenants.acme]\nqueued = 0", "tenants.acme.queued: input should be greater than or equal to 1"),
        (b"[tenants.Acme]", "tenants.Acme: a tenant must match"),
        (b"[tenants.acme.eu]\nsubmit = '1/s'", 'tenants.acme.eu: unknown key; if the tenant is acme.eu, write [tenants."acme.eu"]'),
        (b"[defaults.tenant]\nx = 1", "defaults.tenant.x: unknown key; known are submit, submit_burst, queued"),
        (b"[limits]\nqueue = 1", "limits.queue: unknown key; did you mean queued?"),
        (b"[defaults]\nhandler = 'https://x/'", "defaults.handler: unknown key; known are timeout"),
        (b"[types.a]\nhandler = 5", 'types.a.handler: write "https://host/path", or a table with that as url'),
        (b"[types.a]\nhandler = {}", "types.a.handler.url: field required"),
        (b"[types.a]\nhandler = 'ftp://x'", "types.a.handler.url: it must be https://host/path or http://host:port/path"),
        (b"[types.a]\nhandler = 'https://u:hunter2@x'", "types.a.handler.url: it must not contain a user or a password; sign the requests"),
        (
            b"[types.a]\nhandler = 'http://169.254.169.254/'",
            "types.a.handler: the address 169.254.169.254 of url is not allowed: it is link",
        ),
        (b"[types.a.handler]\nurl = 'http://x/'\nca_file = 'a'", "types.a.handler: only https has ca_file"),
        (b"[types.a.handler]\nurl = 'https://x/'\nkey_file = 'a'", "types.a.handler: key_file is the key of cert_file"),
        (b"[types.a.handler]\nurl = 'http://x/'\nsecrt = 'hunter2'", "types.a.handler.secrt: unknown key; did you mean secret?"),
        (
            b"[types.a.handler]\nurl = 'http://x/'\nsecret = 'hunter2'",
            "types.a.handler.secret: a secret is not written into this file: name",
        ),
        (b"[types.a.handler]\nurl = 'http://x/'\nsecret = { evn = 'A' }", "types.a.handler.secret.evn: unknown key; did you mean env?"),
        (b"[types.a.handler]\nurl = 'http://x/'\nsecret = {}", 'types.a.handler.secret: name a variable, { env = "NAME" }, or a file'),
        (
            b"[types.a.handler]\nurl = 'http://x/'\nheaders.A = 5",
            "types.a.handler.headers.A: write a text, or for a secret name a variable",
        ),
        (
            b"[types.a.handler]\nurl = 'http://x/'\nheaders.A = { fiel = 'x' }",
            "types.a.handler.headers.A.fiel: unknown key; did you mean file?",
        ),
        (b"[types.a.handler]\nurl = 'http://x/'\nheaders.Host = 'hunter2'", "types.a.handler.headers: the header 'Host' is set by Sickbay"),
        (
            b"[types.a.handler]\nurl = 'http://x/'\nheaders.A = 'hunter2 '",
            "types.a.handler.headers: the header 'A' must have a value of",
        ),
        (b"[types.a.handler]\nurl = 'http://x/'\nheaders = { A = 'b', a = 'b' }", "types.a.handler.headers: a header is named twice"),
        (
            b"[types.a.handler]\nurl = 'http://x/'\nkinds = { http_401 = 'data' }",
            "types.a.handler.kinds.http_401: an error code must match",
        ),
        (
            b"[types.a.handler]\nurl = 'http://x/'\nkinds = { A = 'date' }",
            "types.a.handler.kinds.A: input should be 'systemic', 'transient'",
        ),
        (b"[types.a]\nconcurrency = 0", "types.a.concurrency: input should be greater than or equal to 1"),
        (b"[defaults\n", "the file is not TOML: "),
        (b"\xff", "the file is not UTF-8 at byte 0"),
        (b"#" * (MAX_FILE_BYTES + 1), "the file is larger than"),
    ],
)
def test_a_mistake_is_reported_by_its_key(text, expected):
    """With the nearest known key if it is unknown; what may be a secret is not repeated."""
    found = mistakes(text)[0]
    assert found.startswith(expected)
    assert "hunter2" not in found


def test_a_type_in_capitals_gets_a_hint():
    """Names of types are lower case."""
    assert mistakes(b"[types.Email]")[0].endswith("; did you mean email?")


def test_every_mistake_is_reported_at_once():
    """And the sentence of the error says how many there are."""
    text = b"[defaults]\na = 1\n[types.email]\ntimeout = 'soon'\n"
    assert len(mistakes(text)) == 2
    with pytest.raises(SettingsFileError, match="and 1 more"):
        parse_file(text, "x")


def test_types_with_one_dependency_set_its_breaker_together():
    """Each key once; the type that says nothing has what the other says."""
    file = parse_file(
        b"[types.b]\ndependency = 'x'\nbreaker.threshold = 4\n[types.a]\ndependency = 'x'\nbreaker.cooldown = '1s'\n[types.c]", "x"
    )
    assert file.dependencies == {"b": "x", "a": "x"}
    for name in ("a", "b", "dependency:x"):
        assert [(whose, table.threshold, table.cooldown) for whose, table in file.breaker_tables(name)] == [
            ("a", None, 1_000),
            ("b", 4, None),
        ]
    assert [whose for whose, _ in file.breaker_tables("c")] == ["c"]
    assert file.breaker_tables("dependency:y") == file.breaker_tables("d") == []


def test_a_missing_file_is_named(tmp_path):
    """By its path."""
    with pytest.raises(SettingsFileError, match=r"absent\.toml: the file cannot be read: No such file"):
        load_file(tmp_path / "absent.toml")


@given(st.binary(max_size=200) | st.text(alphabet="[]{}=.'\"\n defaultsypr0123456789mx", max_size=80).map(str.encode))
def test_any_file_loads_or_is_refused(data):
    """Nothing but a SettingsFileError is raised, and it says something."""
    try:
        parse_file(data, "x")
    except SettingsFileError as error:
        assert all(error.mistakes)  # noqa: PT017 - either way is right


_VALUES = st.none() | st.integers() | st.booleans() | st.sampled_from(["1s", "10m", "0ms", "x"])
_KEYS = st.sampled_from(
    [
        "timeout",
        "retry.max",
        "retry.delay",
        "retry.jitter",
        "retry.codes.A",
        "retry.codes.a",
        "breaker.threshold",
        "breaker.cooldown",
        "breaker.x",
        "y",
    ]
)


@given(st.dictionaries(_KEYS, _VALUES.filter(lambda value: value is not None)))
def test_a_refused_file_names_a_key_that_it_has(pairs):
    """Law: every mistake begins with the path of a key in the file."""
    lines = [f"{key} = {str(value).lower() if not isinstance(value, str) else repr(value)}" for key, value in pairs.items()]
    try:
        parse_file("\n".join(["[types.email]", *lines]).encode(), "x")
    except SettingsFileError as error:
        named = {mistake.partition(":")[0] for mistake in error.mistakes}
        assert named and named <= {f"types.email.{key}" for key in pairs} | {"the file is not TOML"}  # noqa: PT018 - one law


@given(st.text(max_size=70) | st.from_regex(NAME_PATTERN, fullmatch=True))
def test_a_type_can_be_named_exactly_if_a_job_can_have_it(name):
    """Law: the same rule as for jobs and handlers."""
    try:
        parse_file(f"[types.{json.dumps(name)}]".encode("utf-8", "replace"), "x")
    except SettingsFileError as error:
        assert not is_name(name) and len(error.mistakes) == 1  # noqa: PT017, PT018 - one law
    else:
        assert is_name(name.encode("utf-8", "replace").decode())


@pytest.mark.parametrize(
    ("text", "extent"),
    [
        ("", "0 job types"),
        ("[types.a]", "1 job type"),
        (EXAMPLE.decode(), "defaults and 1 job type"),
        ("[tenants.a]\n[tenants.b]\n[limits]\nqueued = 1", "defaults and 0 job types, 2 tenants"),
    ],
)
def test_the_extent_is_told_in_words(text, extent):
    """For the line of the log at the start."""
    assert parse_file(text.encode(), "x").extent == extent


@pytest.mark.parametrize(("ms", "text"), [(0, "0s"), (1, "1ms"), (1_500, "1500ms"), (30_000, "30s"), (90_000, "90s"), (7_200_000, "2h")])
def test_a_duration_is_shown_as_the_file_may_write_it(ms, text):
    """Law of a few cases: it means the same when it is read again."""
    assert shown("retry.delay", ms) == text
    assert value_at(parse_file(f"[defaults]\nretry = {{ delay = '{text}' }}".encode(), "x").defaults, "retry.delay") == ms


def test_the_schema_has_every_key_and_no_other():
    """Editors complete and check with it."""
    schema = json_schema()
    assert schema["additionalProperties"] is False
    of_types = {"timeout", "retry", "breaker", "cancel_grace", "concurrency", "share", "rate", "burst", "submit", "submit_burst"}
    assert set(schema["$defs"]["DefaultsTable"]["properties"]) == of_types | {"tenant", "principal"}
    assert set(schema["$defs"]["TypeTable"]["properties"]) == of_types | {"dependency", "handler"}
    assert set(schema["$defs"]["TenantTable"]["properties"]) == {"submit", "submit_burst", "queued"}
    assert set(schema["$defs"]["LimitsTable"]["properties"]) == {"queued"}
    texts_and_tables = [[one["type"] for one in schema["$defs"][name]["anyOf"]] for name in ("HandlerTable", "HeaderTable")]
    assert texts_and_tables == [["string", "object"]] * 2
    assert schema["$defs"]["DefaultsTable"]["properties"]["timeout"]["anyOf"][0]["type"] == "string"
    assert schema["$defs"]["TenantTable"]["properties"]["submit"]["anyOf"][0]["type"] == "string"
