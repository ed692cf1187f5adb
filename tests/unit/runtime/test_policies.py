"""What is in force for a job type, and how a changed file takes its place."""

import logging

import pytest

from sickbay.domain.breaker import BreakerKey
from sickbay.domain.rate_limit import Frequency, Rate
from sickbay.domain.retry import RetryOptions, RetryPolicy
from sickbay.domain.settings_status import SettingsFileStatus
from sickbay.runtime.policies import Policies
from sickbay.runtime.settings import Settings
from sickbay.runtime.settings_file import SettingsFileError

EMAIL = BreakerKey("email")


def policies(path=None, **variables):
    """Those of this file and these variables."""
    return Policies(Settings.read(sickbay_config=str(path) if path else None, **variables))


def test_without_a_file_the_environment_and_the_handler_are_in_force():
    """The handler's own timeout before HANDLER_TIMEOUT."""
    ours = policies(handler_timeout=20, max_retries=2, cooldown_period=7)
    assert (ours.timeout_s("email", None), ours.timeout_s("email", 9.0)) == (20, 9.0)
    own = ours.retry("email", RetryOptions(delay_ms=70, retries_by_code={"X": 1}))
    assert (own.max_retries, own.delay_ms, own.retries_by_code) == (2, 70, {"X": 1})
    assert (ours.retry("email").max_retries, ours.breaker(EMAIL).cooldown_ms) == (2, 7_000)


def test_a_share_is_that_of_the_type_or_the_default_one_or_none(tmp_path):
    path = tmp_path / "sickbay.toml"
    path.write_text("[types.email]\nshare = 0.25\n")
    assert [policies(path).share(job_type) for job_type in ("email", "sms")] == [0.25, None]
    path.write_text("[defaults]\nshare = 0.5\n[types.email]\nshare = 1\n")
    assert [policies(path).share(job_type) for job_type in ("email", "sms")] == [1, 0.5]
    for wrong in ("0", "1.1", "-0.5", "nan", '"half"'):
        path.write_text(f"[types.email]\nshare = {wrong}\n")
        with pytest.raises(SettingsFileError, match="share"):
            policies(path)


def test_the_file_wins_and_its_defaults_stand_for_the_environment(tmp_path):
    """A type's table, then the handler, then [defaults], then the environment."""
    path = tmp_path / "sickbay.toml"
    path.write_text("""
[defaults]
timeout = "3s"
cancel_grace = "4s"
retry = { max = 4, delay = "1s" }
breaker = { threshold = 8 }
[types.email]
timeout = "2s"
cancel_grace = "0s"
retry = { max = 1 }
breaker = { cooldown = "90s" }
""")
    ours = policies(path, handler_timeout=20)
    assert [ours.timeout_s(*who) for who in (("email", 9.0), ("sms", 9.0), ("sms", None))] == [2, 9, 3]
    assert [ours.cancel_grace_s(*who) for who in (("email", 9.0), ("sms", 0.0), ("sms", None))] == [0, 0, 4]
    assert (ours.retry("email").max_retries, ours.retry("email").delay_ms, ours.retry("sms").max_retries) == (1, 1_000, 4)
    email, sms = ours.breaker(EMAIL), ours.breaker(BreakerKey("sms"))
    assert (email.failure_threshold, email.cooldown_ms, email.max_cooldown_ms) == (8, 90_000, 90_000)
    assert (sms.failure_threshold, sms.cooldown_ms) == (8, 60_000)


def test_each_part_of_a_retry_policy_has_its_own_winner(tmp_path):
    """Also each error code."""
    path = tmp_path / "sickbay.toml"
    path.write_text("""
[defaults]
retry = { max = 4, backoff = 2, jitter = 0.5, codes = { A = 1, B = 1, C = 1 } }
[types.email]
retry = { max_delay = "1m", codes = { C = 3 } }
""")
    own = RetryOptions(max_retries=9, jitter=0.0, retries_by_code={"B": 2, "C": 2})
    found = policies(path, retry_delay_ms=70).retry("email", own)
    assert found == RetryPolicy(9, 70, 2.0, 60_000, 0.0, {"A": 1, "B": 2, "C": 3})


def test_a_start_with_an_invalid_file_fails(tmp_path):
    """It names the file."""
    with pytest.raises(SettingsFileError, match=r"none\.toml"):
        policies(tmp_path / "none.toml")


def test_types_with_one_dependency_ask_its_breaker_until_the_file_changes(tmp_path):
    """Its parameters are those that any of them sets; the rule that was handed out follows the file."""
    path = tmp_path / "sickbay.toml"
    path.write_text("""
[defaults]
breaker = { threshold = 8 }
[types.email]
dependency = "smtp"
breaker = { cooldown = "90s" }
[types.sms]
dependency = "smtp"
""")
    ours = policies(path)
    rule = ours.rule
    assert rule.key_of("email", "acme") == rule.key_of("sms", "default") == BreakerKey("dependency:smtp")
    config = ours.breaker(rule.key_of("sms", "default"))
    assert (config.failure_threshold, config.cooldown_ms) == (8, 90_000)
    path.write_text("[types.email]\n")
    heard = []
    ours.on_change(lambda: heard.append(rule.key_of("email", "acme")))
    assert ours.poll()
    assert heard == [EMAIL], "the healer hears of it at once"


def test_how_the_file_fares_is_known_for_metrics(tmp_path):
    """An invalid change leaves the time of the settings in force."""
    path = tmp_path / "sickbay.toml"
    path.write_text("")
    now = iter([1.0, 2.0, 3.0])
    ours = Policies(Settings.read(sickbay_config=str(path)), lambda: next(now))
    assert ours.status == SettingsFileStatus(valid=True, loaded_at_s=1.0)
    path.write_text("nonsense")
    ours.poll()
    assert ours.status == SettingsFileStatus(valid=False, loaded_at_s=1.0, rejected=1)
    path.write_text("[types.email]")
    ours.poll()
    assert ours.status == SettingsFileStatus(valid=True, loaded_at_s=2.0, applied=1, rejected=1)
    assert policies().status is None


def test_a_type_without_a_handler_is_named_with_the_nearest_that_has_one(tmp_path, caplog):
    """At the start and after each change; silence if all have one."""
    path = tmp_path / "sickbay.toml"
    path.write_text("[types.emial]\n[types.sms]\n")
    ours = policies(path)
    ours.report_unhandled(["email", "sms"])
    assert "no handler for: emial (did you mean email?)" in caplog.text
    caplog.clear()
    path.write_text("[types.email]\n")
    assert ours.poll()
    assert "no handler" not in caplog.text
    path.write_text("".join(f"[types.t{number:02}]\n" for number in range(12)))
    assert ours.poll()
    assert "t00, t01, t02, t03, t04, t05, t06, t07, t08, t09, 2 more" in caplog.text


def test_a_start_says_what_is_in_force(tmp_path, caplog):
    """One line, and none without a file."""
    path = tmp_path / "sickbay.toml"
    path.write_text("[defaults]\ntimeout = '1s'\n[types.email]\n")
    with caplog.at_level(logging.INFO):
        policies().report()
        assert caplog.records == []
        policies(path).report()
    assert f"the settings file is in force: {path} (defaults and 1 job type)" in caplog.text


def test_the_symlink_swap_of_a_config_map_is_noticed(tmp_path):
    """..data leads to another folder from one moment to the next."""
    for name, most in (("..1", 1), ("..2", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "sickbay.toml").write_text(f"[defaults]\nretry = {{ max = {most} }}\n")
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "sickbay.toml").symlink_to("..data/sickbay.toml")
    ours = policies(tmp_path / "sickbay.toml")
    assert not ours.poll()
    (tmp_path / "..tmp").symlink_to("..2")
    (tmp_path / "..tmp").replace(tmp_path / "..data")
    assert ours.poll()
    assert ours.retry("email").max_retries == 2


def test_a_half_written_or_deleted_file_replaces_nothing(tmp_path, caplog):
    """One line of the log for each, and the whole file is taken when it is there."""
    path = tmp_path / "sickbay.toml"
    path.write_text("[defaults]\nretry = { max = 1 }\n")
    ours = policies(path)
    with caplog.at_level(logging.WARNING):
        path.write_text("[defaults]\nretry = { max")
        assert not ours.poll()
        assert not ours.poll()
        path.unlink()
        assert not ours.poll()
    assert len(caplog.records) == 2
    assert ours.retry("email").max_retries == 1
    path.write_text("[defaults]\nretry = { max = 5 }\n")
    assert ours.poll()
    assert ours.retry("email").max_retries == 5


def test_the_policy_rate_is_set_for_all_types_or_for_one(tmp_path):
    """Its other keys hold once it is in force, wherever they are."""
    path = tmp_path / "sickbay.toml"
    path.write_text(
        """
[defaults]
breaker = { rate = 0.3, slow = "5s" }
[types.email]
breaker = { policy = "rate", calls = 50, window = "30s" }
[types.sms]
breaker = { policy = "rate", rate = 0.25, slow = "0s" }
"""
    )
    ours = Policies(Settings.read(sickbay_config=str(path)))
    email, sms, other = (ours.breaker(BreakerKey(name)) for name in ("email", "sms", "fax"))
    assert (email.rate, email.calls, email.window_ms, email.slow_ms) == (300, 50, 30_000, 5_000)
    assert (sms.rate, sms.calls, sms.window_ms, sms.slow_ms) == (250, 20, 60_000, 0)
    assert (other.rate, other.slow_ms) == (0, 0)
    path.write_text("[defaults]\nbreaker = { policy = 'rate' }\n[types.email]\nbreaker = { policy = 'consecutive' }\n")
    assert ours.poll()
    assert (ours.breaker(BreakerKey("fax")).rate, ours.breaker(EMAIL).rate) == (500, 0)


def test_the_rate_of_runs_is_that_of_the_type_or_of_each(tmp_path):
    """Each key for itself; without a burst it is half a second's worth."""
    (tmp_path / "x.toml").write_text(
        '[defaults]\nrate = "60/m"\n[types.email]\nrate = "10/s"\n[types.sms]\nburst = 7\n[types.slow]\nrate = "5/h"\n'
    )
    ours = policies(tmp_path / "x.toml")
    assert {name: ours.run_rate(name) for name in ("email", "sms", "slow", "other")} == {
        "email": Rate(Frequency(10, 1_000), 5),
        "sms": Rate(Frequency(60, 60_000), 7),
        "slow": Rate(Frequency(5, 3_600_000), 1),
        "other": Rate(Frequency(60, 60_000), 1),
    }
    assert policies().run_rate("email") is None
