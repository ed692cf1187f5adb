"""What the dashboard shows, row by row, from an overview to the processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from deploy.grafana.panels import Codes, Panel, buckets, lines, number, rows, states
from deploy.grafana.promql import (
    OURS,
    RATE,
    TENANT,
    TYPE,
    a_second,
    added,
    breaker_codes,
    fact,
    facts,
    news,
    only,
    quantile,
    spread,
    spread_by,
)
from sickbay.domain.breaker import BreakerState

COLORS: Final = {
    BreakerState.CLOSED: "green",
    BreakerState.HALF_OPEN: "yellow",
    BreakerState.OPEN: "red",
    BreakerState.FORCED_OPEN: "purple",
    BreakerState.DISABLED: "blue",
    BreakerState.METRICS_ONLY: "light-blue",
}
PARTS: Final[Codes] = (("away", "red"), ("up", "green"))
FIRING: Final = 'ALERTS{alertname=~"Sickbay.+",alertstate="firing",namespace=~"$namespace"}'
CIRCUIT: Final = "{{job_type}} {{tenant}}"
PROCESS: Final = "* on (namespace, job, instance) group_left (service) sickbay_build_info"


def overview() -> Iterator[Panel]:
    """What one wants to know first."""
    done = only("sickbay_jobs_total", 'outcome="succeeded"')
    unwell = only("sickbay_breakers", 'state=~"OPEN|HALF_OPEN|FORCED_OPEN"')
    parked, quarantined = (only("sickbay_ledger_jobs", f'state="{state}"') for state in ("PARKED", "QUARANTINED"))
    lanes, retry = (only("sickbay_queue_messages", f'queue=~"{queue}"') for queue in ("jobs[.](high|main|demoted|low)", "jobs[.]retry.*"))
    yield number("Jobs done", "Jobs that succeeded, a second.", a_second(done), unit="cps")
    yield number("Open breakers", "Job types that do not run now.", added(fact(unwell, "state")), alarm=((1, "orange"),))
    yield number("Parked", "Jobs that are not at fault and come back by themselves.", facts(parked), alarm=((1, "yellow"),))
    yield number("Quarantined", "Jobs that wait for a person.", facts(quarantined), alarm=((1, "orange"),))
    yield number("Waiting", "Jobs in all lanes.", added(fact(lanes, "queue")))
    yield number("Waiting to retry", "Jobs in jobs.retry and the queues for longer waits.", added(fact(retry, "queue")))
    lag = "max(sickbay_keeper_lag_seconds)"
    yield number("Lag of states", "Age of the oldest event in the ledger's last batch.", lag, unit="s", alarm=((5, "yellow"), (60, "red")))
    yield number("Alerts", "Alerts that are firing.", f"count({FIRING}) or vector(0)", alarm=((1, "red"),))
    ends = (a_second(only("sickbay_jobs_total", TYPE), "outcome"), "{{outcome}}")
    yield lines("Deliveries by outcome", "Results of jobs that were delivered to workers.", ends, unit="cps", stacked=True)
    yield lines("Queues", "Waiting messages.", (facts("sickbay_queue_messages", "queue"), "{{queue}}"))
    moved = a_second(only("sickbay_jobs_demoted_total", TYPE), "job_type")
    sent = a_second(only("sickbay_submissions_demoted_total", TYPE), "job_type")
    text = "Jobs of floods that wait behind others: sent there by the Job API, or moved there by workers."
    yield lines("Demoted", text, (f"{sent} or vector(0)", "{{job_type}} sent"), (f"{moved} or vector(0)", "{{job_type}} moved"), unit="cps")
    yield rows("Firing alerts", "docs/monitoring.md says what to do about each.", FIRING, hidden=("__name__", "alertstate"))


def breakers() -> Iterator[Panel]:
    """The circuits' own story."""
    codes = [(state.value, color) for state, color in COLORS.items()]
    text = "The state of each breaker, of 200 at most: those that are not closed first. The overview counts all."
    yield states("Breakers", text, breaker_codes(tuple(COLORS)), CIRCUIT, codes)
    changes = facts(news(only("sickbay_breaker_transitions_total", TYPE)), "job_type", "state")
    yield lines("Changes", "Changes of breakers to each state.", (f"{changes} > 0", "{{job_type}} {{state}}"))
    probes = added(news(only("sickbay_breaker_probes_total", TYPE)), "job_type", "result")
    text = "Results of probes: success closes, failure opens for another cooldown, inconclusive tries again."
    yield lines("Probes", text, (f"{probes} > 0", "{{job_type}} {{result}}"))
    cooldowns = fact(only("sickbay_breaker_cooldown_seconds", TYPE, TENANT), "job_type", "tenant")
    yield lines("Cooldowns", "How long an open breaker waits for its next probe.", (f"{cooldowns} > 0", CIRCUIT), unit="s")


def jobs() -> Iterator[Panel]:
    """What comes, how it ends, how long it takes."""
    taken = a_second(only("sickbay_submissions_total", TYPE), "job_type", "result")
    text = "Submitted jobs: accepted, repeats of an idempotency key, rejected."
    yield lines("Submissions", text, (taken, "{{job_type}} {{result}}"), unit="cps")
    limited = a_second("sickbay_limit_rejections_total", "limit", "name")
    skipped = (added(news("sickbay_limits_skipped_total")), "accepted unchecked")
    text = "Jobs rejected by rates of tenants and types, or because too many wait; jobs whose limits could not be checked."
    yield lines("Rejected by limits", text, (limited, "{{limit}} {{name}}"), skipped, unit="cps")
    waiting = (facts("sickbay_waiting_jobs", "tenant"), "{{tenant}}")
    known = ("min(sickbay_waiting_jobs_known)", "counted everywhere (1)")
    yield lines("Waiting jobs", "Of the tenants with the most, while they are limited.", waiting, known)
    done = a_second(only("sickbay_jobs_total", TYPE, 'outcome="succeeded"'), "job_type")
    yield lines("Done by type", "Jobs that succeeded.", (done, "{{job_type}}"), unit="cps", stacked=True)
    failed = f"topk(10, {a_second(only('sickbay_job_failures_total', TYPE), 'job_type', 'code')})"
    yield lines("Failed runs by code", "The ten most frequent.", (failed, "{{job_type}} {{code}}"), unit="cps")
    kinds = a_second(only("sickbay_job_runs_total", TYPE), "kind")
    text = "How runs ended. Systemic, transient and unknown failures count towards opening the breaker, data does not."
    yield lines("Runs by kind", text, (kinds, "{{kind}}"), unit="cps", stacked=True)
    yield lines("Run time", "How long handlers run.", *spread("sickbay_job_run_seconds", TYPE), unit="s")
    yield buckets("Run times", "How many runs took how long.", a_second(only("sickbay_job_run_seconds_bucket", TYPE), "le"))
    yield lines("Waiting time", "From submission to the start of the first run.", *spread("sickbay_job_wait_seconds", TYPE), unit="s")
    yield buckets("Waiting times", "How many jobs waited how long.", a_second(only("sickbay_job_wait_seconds_bucket", TYPE), "le"))
    may = ("sum(sickbay_worker_concurrency)", "may run")
    yield lines("Handlers", "Handlers that are running, and the maximum.", ("sum(sickbay_jobs_running)", "run"), may)
    overdue = (added(only("sickbay_handlers_overdue", TYPE), "job_type"), "{{job_type}} hang")
    blocked = (added(news(only("sickbay_handler_loop_blocked_total", TYPE)), "job_type"), "{{job_type}} blocked the loop")
    yield lines(
        "Handlers that hang",
        "Those that still run after their timeout, and async ones that blocked their event loop.",
        overdue,
        blocked,
    )
    live = (facts(only("sickbay_live_workers", TYPE), "job_type"), "{{job_type}}")
    strange = (facts("sickbay_unannounced_workers"), "not in the registry")
    yield lines("Live workers", "Workers that take jobs of a type; 0 if jobs wait and no worker does.", live, strange)
    unheard = fact(only("sickbay_oldest_unfinished_job_seconds", TYPE), "job_type", "state")
    text = "Time since the last event of the unfinished job whose last event is the oldest."
    yield lines("Oldest unfinished job", text, (unheard, "{{job_type}} {{state}}"), unit="s")


def tenants() -> Iterator[Panel]:
    """Who submits, how it goes for each, and who waits."""
    taken = a_second(only("sickbay_tenant_submissions_total", TENANT, 'result="accepted"'), "tenant")
    text = "Accepted jobs of each tenant; those without metrics of their own are `other`."
    yield lines("Submissions by tenant", text, (taken, "{{tenant}}"), unit="cps", stacked=True)
    ends = a_second(only("sickbay_tenant_jobs_total", TENANT), "tenant", "outcome")
    yield lines("Deliveries by tenant", "Results of jobs of each tenant.", (ends, "{{tenant}} {{outcome}}"), unit="cps")
    waiting = facts(only("sickbay_tenant_waiting_jobs", TENANT), "tenant")
    text = "Queued, retrying and parked jobs by the ledger, of the tenants with the most."
    yield lines("Waiting by tenant", text, (waiting, "{{tenant}}"), stacked=True)
    slow = spread_by("sickbay_tenant_job_wait_seconds", "tenant", TENANT)
    text = "From submission to the start of the first run: the slowest in a hundred of each tenant."
    yield lines("Waiting time by tenant", text, slow, unit="s")
    running = added(only("sickbay_tenant_jobs_running", TENANT), "tenant")
    yield lines("Slots by tenant", "Handlers that are running, by tenant.", (running, "{{tenant}}"), stacked=True)


def schedules() -> Iterator[Panel]:
    """What is to run later, and again and again."""
    later = (facts("sickbay_scheduled_jobs"), "to run later")
    running = (facts("sickbay_schedule_jobs_running"), "of schedules, not ended")
    yield lines("Scheduled jobs", "Jobs that are to run later, and jobs of schedules that have not ended.", later, running)
    overdue = [(facts(f"sickbay_{name}_overdue_seconds"), name.replace("_", " ")) for name in ("scheduled_jobs", "schedules")]
    text = "For how long the job, and the schedule, that is due for longest has been due: a moment."
    yield lines("Overdue", text, *overdue, unit="s")
    sent = (a_second(only("sickbay_scheduled_jobs_sent_total", TYPE), "job_type"), "{{job_type}}")
    yield lines("Sent when due", "Jobs that were to run later, were due, and were sent to the workers.", sent, unit="cps")
    text = "From the time a job was due until it was sent to the workers."
    yield lines("Late jobs", text, *spread("sickbay_scheduled_job_late_seconds"), unit="s")
    yield lines("Schedules", "By state.", (facts("sickbay_schedules", "state"), "{{state}}"), stacked=True)
    times = (added(news("sickbay_schedule_runs_total"), "outcome"), "{{outcome}}")
    text = "What became of times of schedules: a job was submitted, skipped, or missed in an outage."
    yield lines("Times of schedules", text, times)
    text = "From the time of a schedule until its job was in the ledger."
    yield lines("Late schedules", text, *spread("sickbay_schedule_late_seconds"), unit="s")
    ended = (added(news("sickbay_schedule_jobs_ended_total"), "state"), "jobs {{state}}")
    failing = (facts(only("sickbay_schedule_failing", TENANT), "tenant", "schedule_id"), "{{tenant}} {{schedule_id}} fails")
    failures = (facts("sickbay_schedules_failing"), "schedules that fail")
    pauses = (added(news("sickbay_schedule_pauses_total")), "pauses after a failure")
    orphaned = (facts("sickbay_schedules_orphaned"), "schedules whose code is gone")
    waiting = (facts("sickbay_schedules_buffered"), "schedules that wait for a job to end")
    text = "How jobs of schedules have ended, schedules whose latest job failed, that were paused for it, or whose code is gone."
    yield lines("Jobs of schedules", text, ended, failures, failing, pauses, orphaned, waiting)


def healing() -> Iterator[Panel]:
    """What is set aside and comes back."""
    parked = fact(only("sickbay_parked_jobs", TYPE, TENANT), "job_type", "tenant")
    yield lines("Parked by type", "Parked jobs that still wait: the progress of a release.", (parked, CIRCUIT))
    aside = a_second(only("sickbay_jobs_set_aside_total", TYPE), "reason")
    yield lines(
        "Parked and quarantined by reason", "Jobs that were parked (CIRCUIT_OPEN) or quarantined.", (aside, "{{reason}}"), unit="cps"
    )
    beyond = (added(news(only("sickbay_jobs_retried_beyond_limit_total", TYPE)), "job_type"), "{{job_type}}")
    text = "Retries of jobs whose dependency fails, and that would be quarantined by now if they were at fault."
    yield lines("Retries beyond the limit", text, beyond)
    open_ones = (f"{facts('sickbay_incidents_open', 'job_type')} or vector(0)", "open {{job_type}}")
    told = (a_second("sickbay_webhook_attempts_total", "result"), "webhook, {{result}}")
    yield lines("Incidents", "Open incidents, and attempts per second to tell the webhook of changes.", open_ones, told)
    released, broken = a_second("sickbay_released_jobs_total", "by"), a_second("sickbay_release_failures_total")
    text = "Jobs released from quarantine, and interrupted releases."
    yield lines("Released", text, (released, "by {{by}}"), (broken, "interrupted"), unit="cps")
    swept = a_second("sickbay_sweep_copies_total", "verdict")
    text = "Copies in jobs.quarantine that it checked: ghosts are removed, missing ones recreated."
    yield lines("The sweep", text, (swept, "{{verdict}}"), unit="cps")
    text = "Copies in jobs.quarantine minus parked and quarantined jobs; below 0 copies are missing."
    yield lines("Surplus of copies", text, (fact("sickbay_quarantine_surplus"), "copies"))
    states_ = facts(only("sickbay_ledger_jobs", 'state!="SUCCEEDED"'), "state")
    yield lines("Jobs in the ledger", "By state, without those that succeeded.", (states_, "{{state}}"))


def servers() -> Iterator[Panel]:
    """RabbitMQ, Redis and PostgreSQL, and what flows between."""
    text = "Whether all processes of a service can use RabbitMQ (broker), Redis (breakers, keys) and PostgreSQL (ledger)."
    yield states("Servers", text, "min by (job, backend) (sickbay_backend_up)", "{{job}} {{backend}}", PARTS, width=8)
    yield lines("Publishing", "From a publish to RabbitMQ's confirm.", *spread("sickbay_broker_publish_seconds"), unit="s")
    confirmed = (a_second("sickbay_broker_published_messages_total", "job"), "{{job}}")
    refused = (a_second("sickbay_broker_publish_failures_total", "job"), "{{job}} failed")
    yield lines("Published messages", "Messages confirmed, and publishes that were not.", confirmed, refused, unit="cps")
    text = "Processes that RabbitMQ blocks, control planes with breakers as last known, and what workers without Redis refuse."
    degraded = ("sum(sickbay_breakers_degraded)", "without Redis")
    held = ("sum(sickbay_releases_held_back) or vector(0)", "types whose releases are held back")
    shut = ("sum(sickbay_breaker_shut_here) or vector(0)", "breakers open in one process alone")
    files = ("sum(sickbay_settings_file_valid == bool 0) or vector(0)", "settings files that are invalid")
    yield lines("Troubles", text, ("sum(sickbay_broker_blocked)", "blocked"), degraded, held, shut, files)
    text = "Processes that do their work, and those that accept traffic."
    serving = ("sum by (job) (sickbay_healthy)", "{{job}} do their work")
    yield lines("Health", text, serving, ("sum by (job) (sickbay_ready)", "{{job}} ready"))
    text = "Processes in which a part of the service is up."
    yield lines("Parts", text, ("sum by (job, check) (sickbay_health_check)", "{{job}} {{check}}"))
    yield lines("Consumers", "Consumers of the queues, of all processes.", (facts("sickbay_queue_consumers", "queue"), "{{queue}}"))
    lag = ("sickbay_keeper_lag_seconds", "{{instance}}")
    yield lines("Lag of states", "Age of the oldest event in the last batch of each keeper.", lag, unit="s")
    events = (a_second("sickbay_ledger_events_total", "state"), "{{state}}")
    yield lines("Events to the ledger", "By state.", events, unit="cps", stacked=True)
    yield lines("Writing to the ledger", "How long one batch of events takes.", *spread("sickbay_ledger_apply_seconds"), unit="s")
    refused = (a_second("sickbay_ledger_apply_failures_total"), "rejected batches a second")
    extra = (facts("sickbay_ledger_duplicates"), "extra executions")
    yield lines("Troubles of the ledger", "Batches that it rejected, and extra executions of all jobs in it.", refused, extra)


def calls() -> Iterator[Panel]:
    """Calls over gRPC and REST, which are the same."""
    every = a_second(only("grpc_server_handled_total", OURS), "grpc_method")
    yield lines("Calls", "Finished calls, over gRPC or REST.", (every, "{{grpc_method}}"), unit="cps", stacked=True)
    failed = a_second(only("grpc_server_handled_total", OURS, 'grpc_code!="OK"'), "grpc_method", "grpc_code")
    yield lines("Calls that failed", "Also clients' mistakes, as NOT_FOUND.", (failed, "{{grpc_method}} {{grpc_code}}"), unit="cps")
    slow = quantile(0.99, only("grpc_server_handling_seconds_bucket", OURS, 'grpc_method!~"Watch.*"'), "grpc_method")
    yield lines("Time of the slowest in a hundred", "How long calls take, without the streams.", (slow, "{{grpc_method}}"), unit="s")


def processes() -> Iterator[Panel]:
    """The processes as the operating system sees them; with `sickbay up` the three services are one."""
    name = "{{service}} {{instance}}"
    yield lines("CPU", "Cores that each process uses.", (f"rate(process_cpu_seconds_total{RATE}) {PROCESS}", name))
    yield lines("Memory", "Resident memory of each process.", (f"process_resident_memory_bytes {PROCESS}", name), unit="bytes")
    yield lines("Open files", "Files and connections of each process.", (f"process_open_fds {PROCESS}", name), width=4)
    yield rows("Versions", "What runs.", "count by (service, version) (sickbay_build_info)", width=4)


ROWS: Final = {
    "": overview,
    "Breakers": breakers,
    "Jobs": jobs,
    "Tenants": tenants,
    "Schedules": schedules,
    "Quarantine and healing": healing,
    "Servers, and the way of events": servers,
    "Calls": calls,
    "Processes": processes,
}
