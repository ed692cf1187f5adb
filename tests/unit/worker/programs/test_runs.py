"""Jobs that connected programs run: what they get, what their answers mean, and what happens if they are gone."""

import asyncio

import pytest

from sickbay.contract import work
from sickbay.domain.breaker import Permit, PermitKind
from sickbay.domain.errors import FailedPrecondition, ResourceExhausted, Unavailable
from sickbay.domain.job import JobState, Reason
from sickbay.domain.outcome import OutcomeKind
from sickbay.domain.workers import Fleet, Worker
from sickbay.jobs.v1 import work_pb2 as pb
from sickbay.messages.codec import decode_job
from tests.support.engine_bench import TRACE, does, fine
from tests.support.program_bench import DRAIN, HEARTBEAT, a_job, failed, open_programs, progress, register, succeeded
from worker import run_cancel
from worker.handlers import Source
from worker.settler import LOST_RUNS


async def settle(bench, delivery):
    verdict = await bench.verdict(delivery)
    await bench.events.flush(1)
    return verdict


async def test_a_program_gets_the_job_with_all_that_it_needs_and_its_result_is_kept():
    async with open_programs(timeout_s=12.5) as bench:
        program = bench.program("email", slots=2)
        sent = a_job(payload=b'{"to": "\xc3\xa4"}', attempt=2, generation=1, tenant="acme")
        delivery = bench.deliver(sent, headers=TRACE)
        run = await program.next()
        assert (run.job.job_id, run.job.job_type, run.job.tenant, run.job.attempt, run.job.generation) == ("j", "email", "acme", 2, 1)
        assert run.payload_json == '{"to": "ä"}'
        assert run.idempotency_key == "j.1"
        assert run.timeout.ToTimedelta().total_seconds() == 12.5
        assert dict(run.trace_context) == TRACE
        assert program.say(succeeded(run.run_id, '{"sent": [1, 2]}'))
        assert await settle(bench, delivery) == "ack"
        event = bench.broker.events()[-1]
        assert (event.state, event.result.json) == (JobState.SUCCEEDED, b'{"sent": [1, 2]}')


async def test_a_failure_is_retried_by_the_worker_with_the_programs_own_words():
    async with open_programs() as bench:
        program = bench.program("email")
        delivery = bench.deliver(a_job())
        run = await program.next()
        answer = failed(run.run_id, "SMTP_DOWN", kind=1, message="no route", traceback="at send (mail.js:3)")
        answer.failed.retry_after.seconds = 7
        program.say(answer)
        assert await settle(bench, delivery) == "ack"
        (copy,) = bench.broker.copies()
        failure = copy.failures[-1]
        assert (copy.attempt, failure.code, failure.message, failure.traceback) == (1, "SMTP_DOWN", "no route", "at send (mail.js:3)")
        outcome = bench.breakers.outcomes[-1][1]
        assert (outcome.kind, outcome.retry_after_ms) == (OutcomeKind.SYSTEMIC, 7_000)


async def test_progress_is_passed_on_and_nonsense_is_counted():
    async with open_programs() as bench:
        program = bench.program("email")
        delivery = bench.deliver(a_job())
        run = await program.next()
        for fraction in (2.0, float("nan"), -1.0):
            program.say(progress(run.run_id, fraction))
        program.say(progress(run.run_id, 0.5, "5 of 10"))
        program.say(progress("another", 0.5))
        program.say(succeeded(run.run_id))
        assert await settle(bench, delivery) == "ack"
        assert bench.connected.ignored == {"invalid": 3, "late": 1}


async def test_a_program_runs_no_more_jobs_than_it_has_slots_over_all_its_types_and_the_oldest_comes_first():
    async with open_programs() as bench:
        program = bench.program("email", ("sms", 1), "fax", slots=2)
        deliveries = []
        for number, job_type in enumerate(["email", "sms", "sms", "fax", "email"]):
            deliveries.append(bench.deliver(a_job(job_type, f"j{number}")))
        first, second = await program.next(), await program.next()
        assert {first.job.job_id, second.job.job_id} == {"j0", "j1"}
        order = [first, second]
        for expected in ("j3", "j4", "j2"):  # j2 waits for the only slot of its type, which the job before the last one leaves
            assert program.runs() == []
            done = order.pop(0)
            program.say(succeeded(done.run_id))
            following = await program.next()
            assert following.job.job_id == expected or following.job.job_id in {"j2", "j3", "j4"}
            order.append(following)
            assert program.program.slots_in_use == 2
        for one in order:
            program.say(succeeded(one.run_id))
        assert [await settle(bench, one) for one in deliveries] == ["ack"] * 5


async def test_of_several_programs_the_one_with_most_free_slots_gets_the_job():
    async with open_programs() as bench:
        small, large = bench.program("email", slots=1), bench.program("email", slots=3)
        for number in range(4):
            bench.deliver(a_job(job_id=f"j{number}"))
        assert [run.job.job_id for run in [await large.next(), await large.next()]] == ["j0", "j1"]
        await small.next()
        await large.next()
        assert (small.program.slots_in_use, large.program.slots_in_use) == (1, 3)


async def test_the_jobs_of_a_lost_program_run_elsewhere_at_once_and_uncharged():
    async with open_programs() as bench:
        program, other = bench.program("email"), None
        delivery = bench.deliver(a_job(attempt=1))
        await program.next()
        other = bench.program("email")
        program.break_off()
        assert await settle(bench, delivery) == "ack"
        (message,) = [one for one in bench.broker.published if one.key == "retry"]
        copy = decode_job(message.body, "", 0)
        assert (message.delay_ms, message.lane, message.headers[LOST_RUNS]) == (0, "main", "1")
        assert (copy.attempt, copy.failures, copy.maybe_duplicate) == (1, (), True)
        assert bench.breakers.outcomes[-1][1].kind is OutcomeKind.CANCELLED
        again = bench.deliver(body=message.body, headers=dict(message.headers))
        run = await other.next()
        other.say(succeeded(run.run_id))
        assert await settle(bench, again) == "ack"
        assert bench.connected.lost == 1


async def test_a_job_whose_programs_are_lost_three_times_in_a_row_is_quarantined_and_says_why():
    async with open_programs() as bench:
        body, headers, delays = None, {}, []
        for _ in range(3):
            program = bench.program("email")
            delivery = bench.deliver(a_job()) if body is None else bench.deliver(body=body, headers=headers)
            await program.next()
            program.break_off()
            assert await settle(bench, delivery) == "ack"
            last = bench.broker.published[-1]
            if last.key == "retry":
                body, headers = last.body, dict(last.headers)
                delays.append(last.delay_ms)
        assert delays[0] == 0
        assert 500 <= delays[1] <= 2_000
        event = bench.broker.events()[-1]
        assert (event.state, event.reason, event.code) == (JobState.QUARANTINED, Reason.WORKER_LOST, "WORKER_LOST")
        assert event.message == "3 programs were lost while running this job: their streams broke, or nothing was heard of them"
        assert len(delays) == 2


async def test_a_run_that_ends_in_between_begins_the_count_of_lost_programs_anew():
    async with open_programs() as bench:
        program = bench.program("email")
        delivery = bench.deliver(a_job(), headers={LOST_RUNS: "2"})
        run = await program.next()
        program.say(failed(run.run_id, "BAD_REQUEST"))
        assert await settle(bench, delivery) == "ack"
        (message,) = [one for one in bench.broker.published if one.key == "retry"]
        assert LOST_RUNS not in message.headers


async def test_a_cancelled_job_of_a_lost_program_does_not_come_back():
    async with open_programs() as bench:
        program = bench.program("email")
        delivery = bench.deliver(a_job())
        await program.next()
        bench.fence.cancelled.add("j")
        program.break_off()
        assert await settle(bench, delivery) == "ack"
        assert bench.broker.copies() == []


async def test_if_the_broker_is_away_the_job_of_a_lost_program_stays_in_its_queue():
    async with open_programs() as bench:
        program = bench.program("email")
        delivery = bench.deliver(a_job())
        await program.next()
        bench.broker.failing_copies = 1
        program.break_off()
        assert await settle(bench, delivery) == "nack"


async def test_after_its_timeout_the_program_is_told_and_keeps_the_slot_until_it_answers():
    async with open_programs(timeout_s=0.02) as bench:
        program = bench.program("email")
        delivery = bench.deliver(a_job())
        run = await program.next()
        cancel = await program.next("cancel")
        assert (cancel.run_id, cancel.reason) == (run.run_id, 1)
        assert await settle(bench, delivery) == "ack"
        assert bench.broker.copies()[-1].failures[-1].code == "HANDLER_TIMEOUT"
        assert (program.program.slots_in_use, program.program.overdue) == (1, 1)
        waiting = bench.deliver(a_job(job_id="k"))
        while not bench.engine._gates.waiting("email"):
            await asyncio.sleep(0)
        assert program.say(succeeded(run.run_id))
        assert (await program.next()).job.job_id == "k"
        assert bench.connected.ignored == {"late": 1}
        assert await settle(bench, waiting) == "ack"


async def test_an_overdue_run_of_a_program_that_ends_is_not_counted_as_lost():
    async with open_programs(timeout_s=0.02) as bench:
        program = bench.program("email")
        delivery = bench.deliver(a_job())
        await program.next("cancel")
        assert await settle(bench, delivery) == "ack"
        program.break_off()
        assert bench.connected.lost == 0


async def test_an_answer_after_the_end_of_a_run_or_to_no_run_changes_nothing():
    async with open_programs() as bench:
        program = bench.program("email")
        delivery = bench.deliver(a_job())
        run = await program.next()
        assert not program.say(succeeded("99"))
        assert program.say(succeeded(run.run_id, "1"))
        assert not program.say(failed(run.run_id))
        assert await settle(bench, delivery) == "ack"
        assert bench.connected.ignored == {"late": 2}
        assert bench.broker.events()[-1].result.json == b"1"


async def test_an_answer_comes_only_from_the_program_that_has_the_run():
    async with open_programs() as bench:
        program, thief = bench.program("email", slots=2), bench.program("sms")
        delivery = bench.deliver(a_job())
        run = await program.next()
        assert not thief.say(succeeded(run.run_id))
        assert not delivery.verdict


async def test_a_job_that_was_not_sent_yet_is_not_counted_as_lost():
    async with open_programs() as bench:
        program = bench.program("email", reads=False)
        delivery = bench.deliver(a_job())
        while not program.program.slots_in_use:
            await asyncio.sleep(0)
        while not bench.runner.running:
            await asyncio.sleep(0)
        program.break_off()
        assert await settle(bench, delivery) == "nack"
        assert bench.connected.lost == 0


async def test_a_job_that_times_out_before_it_was_sent_is_never_sent():
    async with open_programs(timeout_s=0.02) as bench:
        program = bench.program("email", reads=False)
        delivery = bench.deliver(a_job())
        assert await settle(bench, delivery) == "ack"
        assert program.program.slots_in_use == 0


async def test_a_program_that_leaves_between_the_place_and_the_run_costs_nothing():
    async with open_programs() as bench:
        program = bench.program("email")
        bench.fence.held["j"] = asyncio.Event()
        delivery = bench.deliver(a_job())
        while not program.program.slots_in_use:
            await asyncio.sleep(0)
        program.break_off()
        bench.fence.held["j"].set()
        assert await settle(bench, delivery) == "nack"
        assert program.program.slots_in_use == 0


async def test_a_payload_that_is_no_text_is_never_sent():
    async with open_programs() as bench:
        program = bench.program("email")
        delivery = bench.deliver(a_job(payload=b'{"a": "\xff"}'))
        assert await settle(bench, delivery) == "ack"
        assert bench.broker.events()[-1].reason is Reason.UNDECODABLE
        assert program.program.slots_in_use == 0
        assert program.runs() == []


async def test_jobs_that_wait_for_a_program_go_back_when_the_last_one_leaves_and_are_then_unhandled():
    async with open_programs() as bench:
        bench.fleet.fleet = Fleet(5_000, [Worker("w2", "w2", ("email",))], unannounced=0)
        program = bench.program("email")
        running, waiting = bench.deliver(a_job()), bench.deliver(a_job(job_id="k"))
        await program.next()
        while not bench.engine._gates.waiting("email"):
            await asyncio.sleep(0)
        program.break_off()
        assert [await settle(bench, one) for one in (running, waiting)] == ["ack", "ack"]
        assert sorted(copy.job_id for copy in bench.broker.copies()) == ["j", "k"]
        assert "email" not in bench.handlers
        while bench.engine.slots_in_use:
            await asyncio.sleep(0)


async def test_a_program_that_drains_finishes_its_runs_and_gets_no_more():
    async with open_programs() as bench:
        program = bench.program("email", slots=5)
        delivery = bench.deliver(a_job())
        run = await program.next()
        program.say(DRAIN)
        assert "email" not in bench.handlers
        program.say(succeeded(run.run_id))
        assert await settle(bench, delivery) == "ack"
        program.register("email", "sms")
        assert set(bench.handlers.of(Source.PROGRAMS)) == {"email", "sms"}


async def test_a_new_registration_replaces_the_old_one_and_runs_go_on():
    async with open_programs() as bench:
        program = bench.program("email")
        delivery = bench.deliver(a_job())
        run = await program.next()
        program.register("sms", slots=3)
        assert set(bench.handlers) == {"sms"}
        program.say(succeeded(run.run_id))
        assert await settle(bench, delivery) == "ack"
        assert program.program.slots == 3


async def test_more_slots_let_waiting_jobs_begin_at_once():
    async with open_programs() as bench:
        program = bench.program("email")
        for number in range(3):
            bench.deliver(a_job(job_id=f"j{number}"))
        await program.next()
        while bench.engine._gates.waiting("email") < 2:
            await asyncio.sleep(0)
        program.register("email", slots=3)
        assert {(await program.next()).job.job_id, (await program.next()).job.job_id} == {"j1", "j2"}


async def test_the_longest_timeout_that_a_program_says_applies():
    async with open_programs() as bench:
        for seconds in (20, None, 40):
            said = register("email").register
            if seconds is not None:
                said.types[0].timeout.seconds = seconds
            bench.connected.register(bench.program().program, work.registration(said))
        assert bench.handlers["email"].timeout == 40


async def test_a_type_that_the_worker_handles_is_refused_and_the_settings_file_takes_over():
    async with open_programs(does(fine)) as bench:
        with pytest.raises(FailedPrecondition, match=r"handles 'email' by itself \(its JOB_HANDLERS\)"):
            bench.program("email")
        program = bench.program("sms")
        bench.handlers.replace(Source.SETTINGS_FILE, [does(fine), type(does(fine))("sms", fine)])
        delivery = bench.deliver(a_job("sms"))
        assert await settle(bench, delivery) == "ack"
        assert program.runs() == []
        with pytest.raises(FailedPrecondition, match="its settings file"):
            bench.program("sms")


async def test_bounds_of_programs_and_of_their_types(monkeypatch):
    async with open_programs() as bench:
        monkeypatch.setattr("worker.programs.connected.MAX_PROGRAMS", 2)
        monkeypatch.setattr("worker.programs.connected.MAX_ALL_TYPES", 3)
        bench.program("a", "b")
        second = bench.program("b", "c")
        with pytest.raises(ResourceExhausted, match="2 programs are connected"):
            bench.program("a")
        with pytest.raises(ResourceExhausted, match="at most 3 job types"):
            second.register("c", "d")
        assert set(bench.handlers) == {"a", "b", "c"}


async def test_a_drain_of_the_worker_is_told_and_its_end_is_an_error_that_says_connect_again():
    async with open_programs() as bench:
        program = bench.program("email")
        delivery = bench.deliver(a_job())
        run = await program.next()
        bench.connected.drain()
        draining = asyncio.create_task(bench.engine.drain(30))
        await program.next("draining")
        with pytest.raises(Unavailable, match="the worker is stopping"):
            bench.connected.connect("x")
        program.say(succeeded(run.run_id))
        await draining
        assert delivery.verdict == "ack"
        bench.connected.close()
        assert isinstance(await program.ended, Unavailable)


async def test_runs_that_outlast_the_drain_are_cancelled_and_requeued_as_they_are():
    async with open_programs() as bench:
        program = bench.program("email")
        delivery = bench.deliver(a_job())
        await program.next()
        await bench.engine.drain(0)
        assert (await program.next("cancel")).reason == 2
        assert delivery.verdict == "nack"


async def test_a_run_of_a_cancelled_job_is_stopped_after_its_grace(monkeypatch):
    """It may end by itself before: a program is not told at once, for what it is told is that its answer counts no more."""
    monkeypatch.setattr(run_cancel, "CANCEL_GRACE_S", 0.01)
    async with open_programs() as bench:
        program = bench.program("email")
        delivery = bench.deliver(a_job())
        await program.next()
        bench.fence.ask_to_end("j")
        assert (await program.next("cancel")).reason == 3
        assert await settle(bench, delivery) == "ack"
        assert bench.broker.events()[-1].state is JobState.CANCELLED
        assert bench.broker.copies() == []


async def test_silence_is_the_end_and_any_word_is_a_sign_of_life():
    async with open_programs(heartbeat_s=0.02) as bench:
        program = bench.program("email")
        delivery = bench.deliver(a_job())
        run = await program.next()
        for _ in range(10):
            program.say(HEARTBEAT)
            await program.next("heartbeat")
            await asyncio.sleep(0.01)
        assert not program.ended.done()
        error = await program.ended
        assert error.reason.value == "PROGRAM_SILENT"
        assert "nothing was heard of the program for 0.06 s" in str(error)
        assert not program.say(succeeded(run.run_id))
        assert await settle(bench, delivery) == "ack"
        assert bench.broker.copies()[-1].attempt == 0


async def test_what_is_not_read_stays_little():
    async with open_programs() as bench:
        program = bench.program("email", slots=3, reads=False)
        for _ in range(100):
            program.say(HEARTBEAT)
            program.register("email", slots=3)
        for number in range(20):
            bench.deliver(a_job(job_id=f"j{number}"))
        while program.program.slots_in_use < 3:
            await asyncio.sleep(0)
        while bench.runner.running < 3:
            await asyncio.sleep(0)
        assert len(program.program._out) == 5


async def test_a_probe_of_a_program_renews_its_lease_and_its_loss_proves_nothing():
    async with open_programs() as bench:
        bench.breakers.kind = PermitKind.PROBE
        program = bench.program("email")
        delivery = bench.deliver(a_job())
        await program.next()
        permit = await bench.breakers.renewals.get()
        assert isinstance(permit, Permit)
        program.break_off()
        assert await settle(bench, delivery) == "ack"
        assert bench.breakers.outcomes[-1][1].kind is OutcomeKind.CANCELLED


async def cancel_asked(bench, program, **deliver):
    """A run of which somebody asks to cancel the job; the program has been told."""
    delivery = bench.deliver(a_job(), **deliver)
    run = await program.next()
    bench.fence.ask_to_end("j")
    told = await program.next("cancel")
    assert (told.run_id, told.reason) == (run.run_id, pb.WorkResponse.Cancel.REASON_CANCELLED)
    return delivery, run


@pytest.mark.parametrize("answer", [failed, lambda run_id: failed(run_id, "VALIDATION_ERROR")])
async def test_a_job_that_somebody_asked_to_cancel_is_cancelled_if_the_program_answers_with_a_failure(answer):
    async with open_programs() as bench:
        program = bench.program("email")
        delivery, run = await cancel_asked(bench, program)
        program.say(answer(run.run_id))
        assert await settle(bench, delivery) == "ack"
        assert bench.broker.events()[-1].state is JobState.CANCELLED
        assert not bench.broker.copies()
        assert bench.breakers.outcomes[-1][1].kind is OutcomeKind.CANCELLED
        assert program.program.slots_in_use == 0


async def test_a_success_counts_although_somebody_asked_to_cancel():
    async with open_programs() as bench:
        program = bench.program("email")
        delivery, run = await cancel_asked(bench, program)
        program.say(succeeded(run.run_id, "1"))
        assert await settle(bench, delivery) == "ack"
        assert bench.broker.events()[-1].state is JobState.SUCCEEDED


async def test_after_the_grace_the_answer_of_the_program_does_not_count():
    async with open_programs() as bench:
        bench.runner._cancel._grace_of = lambda job_type, own: 0.001
        program = bench.program("email")
        delivery, run = await cancel_asked(bench, program)
        assert await settle(bench, delivery) == "ack"
        assert bench.broker.events()[-1].state is JobState.CANCELLED
        assert program.program.slots_in_use == 1, "until it answers"
        program.say(succeeded(run.run_id))
        assert program.program.slots_in_use == 0
        assert bench.connected.ignored == {"late": 1}
        assert [one.WhichOneof("message") for one in program.said] == [], "it is told once"


async def test_a_program_that_breaks_off_after_the_request_leaves_the_job_cancelled():
    async with open_programs() as bench:
        program = bench.program("email")
        delivery, _ = await cancel_asked(bench, program)
        program.break_off()
        assert await settle(bench, delivery) == "ack"
        assert bench.broker.events()[-1].state is JobState.CANCELLED
        assert not bench.broker.copies()
