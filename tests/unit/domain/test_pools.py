"""Which queue a job waits in, by what the workers of the fleet announce."""

from hypothesis import given
from hypothesis import strategies as st

from sickbay.domain.workers import UNKNOWN, Fleet, Worker

pools = st.sampled_from(["", "reports", "video"])
types = st.sets(st.sampled_from("abc"), max_size=3).map(sorted).map(tuple)
workers = st.builds(Worker, worker_id=st.uuids().map(str), name=st.just("w"), job_types=types, pool=pools, draining=st.booleans())


def fleet(*workers, unannounced=0):
    return Fleet(1, workers, unannounced)


def of(pool, *job_types, **more):
    return Worker(f"{pool}-{job_types}", "w", job_types, pool=pool, **more)


@given(st.lists(workers, max_size=6), st.sampled_from("abc"), st.text(max_size=40))
def test_a_job_waits_where_a_worker_that_handles_it_takes_from(found, job_type, job_id):
    """In the common lanes if one of those does; it waits nowhere else than where somebody takes it who does not stop right now."""
    seen = fleet(*found)
    takers = {worker.pool for worker in found if job_type in worker.job_types and not worker.draining}
    pool = seen.pool_of(job_type, job_id)
    assert pool == seen.pool_of(job_type, job_id)
    assert pool in takers or (pool == "" and not takers)
    assert pool == "" or "" not in takers
    assert seen.handles(job_type) == bool(takers)


def test_several_pools_with_one_type_share_its_jobs():
    seen = fleet(of("reports", "pdf"), of("video", "pdf", "mp4"))
    counts = [seen.pool_of("pdf", f"job-{number}") for number in range(1_000)]
    assert 400 < counts.count("reports") < 600
    assert seen.pool_of("mp4", "job-1") == "video"


def test_nothing_is_known_of_an_unknown_fleet():
    assert (UNKNOWN.pool_of("email", "j"), UNKNOWN.pools, UNKNOWN.takes_lanes) == ("", [], False)


def test_lanes_are_taken_if_every_common_worker_does_whatever_pools_do():
    assert fleet(of("", "email", lanes=True), of("reports", "pdf")).takes_lanes
    assert not fleet(of("reports", "pdf")).takes_lanes
    assert not fleet(of("", "email"), of("", "sms", lanes=True)).takes_lanes
    assert fleet(of("reports", "pdf", draining=True)).pools == ["reports"]
