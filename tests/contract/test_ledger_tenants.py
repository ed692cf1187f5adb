"""Whatever is asked for some tenants, nothing of another one is in the answer, and nothing of theirs is missing (SQLite and PostgreSQL)."""

from collections import Counter
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sickbay.domain.errors import FailedPrecondition, NotFound
from sickbay.domain.incident import IncidentQuery
from sickbay.domain.job import JobState
from sickbay.domain.queries import JobEdit, JobQuery, LostQuery, QuarantineQuery
from tests.support.incident_snapshots import Patient
from tests.support.ledger_events import START, parked, quarantined, queued, running, succeeded

pytest_plugins = ["tests.support.ledger_fixtures"]

NAMES = ["default", "acme", "beta", "gamma"]
MAKE = [queued, running, parked, quarantined, succeeded]
ASKED = st.none() | st.frozensets(st.sampled_from([*NAMES, "nobody"]))
LATER = START + 10_000


def population():
    """Jobs of every kind, tenant and time, of which many have the same time."""
    return [
        make(f"{tenant}-{make.__name__}-{number}", tenant=tenant, at=START + 1_000 + number // 2, submitted_at=START + number // 2)
        for tenant in NAMES
        for make in MAKE
        for number in range(3)
    ]


async def all_pages(ask, limit):
    """Every item, page by page."""
    cursor, found = "", []
    while True:
        page = await ask(limit, cursor)
        found += page.items
        if not page.cursor:
            return found
        cursor = page.cursor


async def test_lists_have_exactly_what_is_of_the_tenants(ledger):
    events = population()
    await ledger.writer.apply(events)
    seen = []

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(ASKED, st.integers(1, 9))
    def collect(tenants, limit):
        seen.append((tenants, limit))

    collect()
    for tenants, limit in seen:
        wanted = [event for event in events if tenants is None or event.job.tenant in tenants]

        def ids(*states, wanted=wanted):
            return sorted(event.job.job_id for event in wanted if not states or event.state in states)

        jobs = await all_pages(partial(ledger.reader.find, JobQuery(tenants=tenants)), limit)
        assert sorted(one.job.job_id for one in jobs) == ids()
        assert jobs == sorted(jobs, key=lambda one: (one.job.submitted_at, one.job.job_id), reverse=True)
        aside = await all_pages(partial(ledger.quarantine.list_quarantined, QuarantineQuery(tenants=tenants)), limit)
        assert sorted(one.job.job_id for one in aside) == ids(JobState.PARKED, JobState.QUARANTINED)
        assert (await ledger.quarantine.list_quarantined(QuarantineQuery(tenants=tenants), 1, "")).total == len(aside)
        groups = await all_pages(partial(ledger.quarantine.groups, "", tenants), limit)
        assert sum(group.count for group in groups) == len(aside)
        assert {group.sample_job_id for group in groups} <= {one.job.job_id for one in aside}
        lost = await all_pages(partial(ledger.lost.find_lost, LostQuery(LATER, tenants=tenants)), limit)
        assert sorted(one.record.job.job_id for one in lost) == ids(JobState.QUEUED, JobState.RUNNING)


async def test_groups_tell_times_and_samples_of_the_tenants_alone(ledger):
    mine = [quarantined(f"m{number}", tenant="acme", at=START + 500 + number) for number in range(2)]
    others = [quarantined(f"a{number}", tenant="beta", at=START + 10 * number, message="no answer in 99 s") for number in range(90)]
    await ledger.writer.apply([*mine, *others])
    (group,) = (await ledger.quarantine.groups("", frozenset({"acme"}), 5, "")).items
    assert (group.count, group.sample_job_id, group.first_at, group.last_at) == (2, "m0", START + 500, START + 501)
    assert group.sample_message == "no answer in 30 s"


async def test_named_jobs_of_another_tenant_are_not_found(ledger):
    await ledger.writer.apply([queued("mine", tenant="acme"), queued("theirs", tenant="beta")])
    query = LostQuery(LATER, tenants=frozenset({"acme"}), job_ids=("mine", "theirs"))
    assert [one.record.job.job_id for one in (await ledger.lost.find_lost(query, 9, "")).items] == ["mine"]


@pytest.mark.parametrize("state", ["parked", "quarantined", "discarded", "queued"])
async def test_what_another_tenant_has_set_aside_is_neither_leased_nor_discarded(ledger, state):
    event = {"parked": parked, "quarantined": quarantined, "discarded": parked, "queued": queued}[state]("j1", tenant="beta")
    await ledger.writer.apply([event])
    if state == "discarded":
        await ledger.quarantine.discard("j1", "", "bob")
    before, history = await ledger.reader.get("j1"), await ledger.reader.history("j1")
    acme = frozenset({"acme"})
    for job_id in ("j1", "nobody"):
        with pytest.raises(NotFound, match=f"^no job '{job_id}'$"):
            await ledger.quarantine.lease_job(job_id, JobEdit(b"{}"), "", "eve", acme)
        with pytest.raises(NotFound, match=f"^no job '{job_id}'$"):
            await ledger.quarantine.discard(job_id, "", "eve", acme)
    assert (await ledger.reader.get("j1"), await ledger.reader.history("j1")) == (before, history)
    if state == "queued":
        with pytest.raises(FailedPrecondition):
            await ledger.quarantine.discard("j1", "", "bob", frozenset({"beta"}))
    else:
        assert (await ledger.quarantine.discard("j1", "", "bob", frozenset({"acme", "beta"}))).state is JobState.DISCARDED


async def test_incidents_of_the_tenants(ledger):
    for tenant in NAMES:
        await ledger.incidents.observe(Patient("email", tenant).trip())
    for tenants in (None, frozenset(), frozenset({"acme"}), frozenset({"acme", "default"})):
        found = await all_pages(partial(ledger.incidents.find_incidents, IncidentQuery(tenants=tenants)), 1)
        assert Counter(one.key.tenant for one in found) == Counter(NAMES if tenants is None else tenants)
