"""Whatever happens, in whatever order: every accepted job ends once, as its history allows.

The real service, a process of its own, is killed, stopped, frozen and started; its engine, its node and
StorageHub go away, come back, restart and lose answers, while users submit, look and cancel. Hypothesis
writes the stories. Times are real, so a story does not end the same each time it is told: a failure
shows its journal and the service's log. For the same reason no rule's precondition may depend on how
far the service is: a rule that has nothing to do does nothing.

``make stateful`` tells many more of them.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from job_life.closing import check_all
from job_life.tickets import IMAGE, Fate, Program, Ticket, rank
from job_life.world import SETTLING, USERS, Limits, Row, World, wait_until
from ogc import assert_valid
from service_process import Answer, Call, Cancel, Look, Refusal, ServiceDied, Submit
from stand_in_engine import StandInEngine
from storagehub_fixture import ALICE, HubUser

from die_algorithm.documents import job_documents
from die_algorithm.fail_points import Point
from die_algorithm.links import Links
from die_algorithm.models import Job, JobState

EXAMPLES = int(os.environ.get("JOB_LIFE_EXAMPLES", "0"))
#: Stories of the short run, and the steps of one.
_FEW, _STEPS = 6, 30

_FAIL_POINTS = [f"{point.value}:{side}" for point in Point for side in ("before", "after")]
_LOSSES = [
    ("GET", "/distribution/"),
    ("POST", "/services/create"),
    ("POST", "/services/"),
    ("GET", "/services/"),
    ("GET", "/tasks"),
    ("GET", "/containers/"),
    ("DELETE", "/services/"),
]
_FAULTS: Mapping[str, Callable[[StandInEngine], None]] = {
    "refuses": lambda engine: engine.away(),
    "is silent": lambda engine: engine.away(silent=True),
    "is slow": lambda engine: engine.delay(0.05),
    "breaks connections": lambda engine: engine.restart(kill_containers=False),
    "has no room": lambda engine: engine.hold_pending(),
}
#: Which of the jobs there are by then.
_CHOICE = st.integers(0, 99)
_ODD_REQUESTS = (
    "again",
    "key of another",
    "cancel of another",
    "wrong token",
    "wrong image",
    "wrong item",
)
#: Program, user and the number of copies with a key.
_SUBMISSIONS = st.tuples(
    st.sampled_from(Program), st.sampled_from(USERS), st.sampled_from([0, 0, 1, 3])
)
_STATUS = {
    JobState.ACCEPTED: "ProcessAccepted",
    JobState.SUCCEEDED: "ProcessSucceeded",
    JobState.FAILED: "ProcessFailed",
    JobState.DISMISSED: "ProcessFailed",
}
_LINKS = Links(
    service="http://x/wps",
    status_prefix="http://x/status?id=",
    status_suffix="",
    results="http://x/r",
)

#: What was done in this run, over all stories.
COUNTS: Counter[str] = Counter()
#: What went wrong, in order. Hypothesis tells a failing story again, which may end otherwise.
FAILURES: list[Exception] = []


class JobLife(RuleBasedStateMachine):
    """One story."""

    world: World

    def __init__(self) -> None:
        super().__init__()
        self.tickets: list[Ticket] = []
        self.die_at = ""
        self.is_node_lost = False
        self.is_storagehub_away = False
        COUNTS["stories"] += 1

    @initialize(
        running=st.integers(1, 3),
        running_per_owner=st.integers(1, 2),
        waiting=st.integers(2, 5),
        waiting_per_owner=st.integers(1, 3),
        first=st.lists(_SUBMISSIONS, min_size=1, max_size=3),
    )
    def begin(
        self,
        running: int,
        running_per_owner: int,
        waiting: int,
        waiting_per_owner: int,
        first: list[tuple[Program, HubUser, int]],
    ) -> None:
        limits = Limits(
            max_running=running,
            max_running_per_owner=running_per_owner,
            max_waiting=waiting,
            max_waiting_per_owner=waiting_per_owner,
        )
        self.world = World(limits)
        self.note(f"begin: {limits}")
        self.world.start_service()
        self.submit_several(first)

    # -- users

    @rule(submissions=st.lists(_SUBMISSIONS, min_size=1, max_size=4))
    def submit_several(self, submissions: list[tuple[Program, HubUser, int]]) -> None:
        for submission in submissions:
            self.submit(*submission)

    @rule(submission=_SUBMISSIONS)
    def submit_one(self, submission: tuple[Program, HubUser, int]) -> None:
        self.submit(*submission)

    def submit(self, program: Program, user: HubUser, copies: int) -> None:
        """With an idempotency key if there are copies, which are all sent at once."""
        number = len(self.tickets) + 1
        key = f"key-{number}" if copies else None
        ticket = Ticket(number, program, user, key)
        ticket.node_was_lost = self.is_node_lost
        ticket.storagehub_was_away = self.is_storagehub_away
        self.tickets.append(ticket)
        self.send(ticket, max(copies, 1))

    @rule(request=st.sampled_from(_ODD_REQUESTS), choice=_CHOICE)
    def make_an_odd_request(self, request: str, choice: int) -> None:
        """That is to change nothing."""
        ticket = _one_of(self.with_jobs(), choice)
        keyed = _one_of([ticket for ticket in self.tickets if ticket.key], choice)
        if request == "again" and keyed:
            self.send(keyed, 1)
        elif request == "key of another" and keyed and keyed.job_id:
            call = self.submission(keyed, command="probe noop something-else")
            self.expect_refusal(f"reuse the key of {keyed}", call, "KeyReused")
        elif request == "cancel of another" and ticket:
            other = next(user for user in USERS if user is not ticket.user)
            cancel = Cancel(str(ticket.job_id), other.token)
            self.expect_refusal(f"cancel {ticket} of another", cancel, "NotFound")
        elif request.startswith("wrong"):
            self.submit_nonsense(request)

    def submit_nonsense(self, request: str) -> None:
        call = Submit(
            token="nobody" if request == "wrong token" else ALICE.token,
            image="ghcr.io/a/b" if request == "wrong image" else IMAGE,
            command="probe noop nonsense",
            item="0" * 36 if request == "wrong item" else self.world.items[ALICE],
        )
        kinds = {"wrong token": "TokenNotAccepted", "wrong item": "ItemNotAccessible"}
        kind = kinds.get(request, "InvalidParameterValue")
        self.expect_refusal(f"submit with a {request}", call, kind)

    @rule(choice=_CHOICE)
    def look(self, choice: int) -> None:
        ticket = _one_of(self.with_jobs(), choice)
        answers = ticket and self.call(f"look at {ticket}", Look(str(ticket.job_id)))
        if answers:
            (answer,) = answers
            assert isinstance(answer, Answer), answer
            self.check_document(answer)

    @rule(choice=_CHOICE)
    def cancel(self, choice: int) -> None:
        if ticket := _one_of(self.with_jobs(), choice):
            self.cancel_ticket(ticket)

    def cancel_ticket(self, ticket: Ticket) -> None:
        if not ticket.has_ended:
            ticket.cancel_asked = True
        call = Cancel(str(ticket.job_id), ticket.user.token)
        answers = self.call(f"cancel {ticket}", call)
        if answers is None:
            return
        (answer,) = answers
        if isinstance(answer, Refusal):
            assert answer.kind == "ServiceUnavailable", answer
            assert self.is_storagehub_away, answer
            return
        row = next(row for row in self.world.rows() if row.id == ticket.job_id)
        assert row.cancel_requested or row.state.is_final, "the cancel is lost"
        ticket.must_not_start = row.cancel_requested and not row.is_admitted

    # -- the service

    @rule()
    def kill(self) -> None:
        self.note("kill the service")
        self.world.kill_service()

    @rule()
    def stop(self) -> None:
        self.note("stop the service")
        try:
            self.world.stop_service()
        except ServiceDied:
            self.has_died()

    @rule()
    def start(self) -> None:
        if self.world.service is None:
            self.start_service("")

    @rule(die_at=st.sampled_from(_FAIL_POINTS))
    def start_to_die_at(self, die_at: str) -> None:
        self.world.kill_service()
        self.start_service(die_at)
        if self.world.service and self.world.service.dies_within(0.5):
            self.has_died()

    @rule(beyond_its_lease=st.booleans())
    def freeze(self, *, beyond_its_lease: bool) -> None:
        if self.world.service is None:
            return
        self.note(f"freeze the service, {beyond_its_lease=}")
        try:
            with self.world.service.frozen():
                time.sleep(0.6 if beyond_its_lease else 0.1)
        except ProcessLookupError:
            self.has_died()

    # -- the rest of the world

    @rule(fault=st.sampled_from(sorted(_FAULTS)), brief=st.booleans())
    def break_engine(self, fault: str, *, brief: bool) -> None:
        self.note(f"the engine {fault}")
        _FAULTS[fault](self.world.engine)
        if brief:
            time.sleep(0.2)
            self.mend_engine()

    @rule(in_order=st.booleans())
    def restart_engine(self, *, in_order: bool) -> None:
        self.note(f"the engine is restarted, {in_order=}")
        self.world.engine.restart(in_order=in_order)

    @rule(loss=st.sampled_from(_LOSSES))
    def lose_an_answer(self, loss: tuple[str, str]) -> None:
        self.note(f"the answer to {loss} will be lost")
        self.world.engine.lose_next_answer(*loss)

    @rule()
    def put_all_right(self) -> None:
        self.mend_engine()
        if self.is_node_lost:
            self.lose_node_or_have_it_back()
        if self.is_storagehub_away:
            self.storagehub_goes_or_comes()
        if self.die_at or not self.world.service:
            self.world.kill_service()
            self.start_service("")

    def mend_engine(self) -> None:
        self.note("the engine is well")
        self.world.engine.back()
        self.world.engine.delay(0)
        self.world.engine.release_pending()

    @rule()
    def lose_node_or_have_it_back(self) -> None:
        self.note("the node is back" if self.is_node_lost else "the node is lost")
        if self.is_node_lost:
            self.world.engine.node_returns()
        else:
            self.world.engine.lose_node()
        self.is_node_lost = not self.is_node_lost
        for ticket in self.tickets:
            ticket.node_was_lost |= not ticket.has_ended

    @rule(brief=st.booleans())
    def storagehub_is_away(self, *, brief: bool) -> None:
        if not self.is_storagehub_away:
            self.storagehub_goes_or_comes()
        if brief:
            time.sleep(0.1)
            self.storagehub_goes_or_comes()

    def storagehub_goes_or_comes(self) -> None:
        self.note("StorageHub is back" if self.is_storagehub_away else "StorageHub is away")
        if self.is_storagehub_away:
            self.world.storagehub.start()
        else:
            self.world.storagehub.stop()
        self.is_storagehub_away = not self.is_storagehub_away
        for ticket in self.tickets:
            ticket.storagehub_was_away |= not ticket.has_ended

    @rule(changes=st.sampled_from([1, 2, 5]))
    def jobs_go_on(self, changes: int) -> None:
        """Wait until some have, or do not."""
        self.note(f"time passes, {changes} changes at most")
        before = {row.id: row.state for row in self.world.rows()}

        def have_changed() -> bool:
            rows = self.world.rows()
            steps = sum(rank(row.state) - rank(before[row.id]) for row in rows)
            return steps >= changes

        wait_until(have_changed, seconds=1 if self.world.service else 0.1)

    # -- what always holds

    @invariant()
    def jobs_only_go_forward(self) -> None:
        COUNTS["steps"] += 1
        rows = self.world.rows()
        by_word = {ticket.word: ticket for ticket in self.tickets}
        for row in rows:
            assert row.word in by_word, f"a job that nobody submitted: {row}"
            self.observe(by_word[row.word], row)
        ids = {row.id for row in rows}
        for ticket in self.tickets:
            assert ticket.job_id is None or ticket.job_id in ids, f"{ticket} is lost"
        self.check_limits(rows)
        self.check_containers(rows)

    def observe(self, ticket: Ticket, row: Row) -> None:
        """Take what is known now of a job."""
        assert ticket.fate is not Fate.REJECTED, f"{ticket} was refused, and is there"
        assert ticket.job_id in (None, row.id), f"{ticket} has two jobs"
        assert row.owner == ticket.user.name
        ticket.fate, ticket.job_id = Fate.ACCEPTED, row.id
        assert rank(row.state) >= rank(ticket.state), f"{ticket} goes back to {row.state}"
        if row.state is not ticket.state:
            self.note(f"    {ticket} is seen {row.state.value}")
        ticket.state = row.state
        if ticket.has_ended:
            assert row.record == ticket.last_record, f"{ticket} has changed after its end"
        elif row.state.is_final:
            ticket.last_record = row.record
            assert not row.has_token, f"{ticket} has ended and keeps its token"

    def check_limits(self, rows: list[Row]) -> None:
        limits = self.world.limits
        under_way = Counter(row.owner for row in rows if row.is_under_way)
        waiting = Counter(row.owner for row in rows if row.waits)
        assert under_way.total() <= limits.max_running
        assert waiting.total() <= limits.max_waiting
        for user in USERS:
            assert under_way[user.name] <= limits.max_running_per_owner
            assert waiting[user.name] <= limits.max_waiting_per_owner

    def check_containers(self, rows: list[Row]) -> None:
        ended = {row.id for row in rows if row.state.is_final}
        alive = Counter(start.job_id for start in self.world.engine.alive())
        starts = Counter(start.job_id for start in self.world.engine.starts)
        assert all(count == 1 for count in starts.values()), "a job was started twice"
        forbidden = {ticket.job_id for ticket in self.tickets if ticket.must_not_start}
        assert not forbidden & set(starts), "a job was started that was cancelled before"
        if not any(ticket.node_was_lost for ticket in self.tickets):
            assert alive.total() <= self.world.limits.max_running
            assert not ended & set(alive), "a job has ended before its container"

    # -- the end

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        error = sys.exception()
        try:
            if error is None:
                began = time.monotonic()
                self.settle()
                check_all(self.world, self.tickets)
                self.note(f"settled in {time.monotonic() - began:.1f} seconds")
                self.count()
        except BaseException as late:
            error = late
            raise
        finally:
            if isinstance(error, Exception):
                error.add_note(self.world.story())
                FAILURES.append(error)
            self.world.close()

    def count(self) -> None:
        """Say what a story that ended well was about."""
        COUNTS["jobs"] += len(self.with_jobs())
        COUNTS.update(ticket.state.value for ticket in self.with_jobs())
        COUNTS.update(f"containers ended by {end.cause}" for end in self.world.engine.ends)

    def settle(self) -> None:
        """Put all right, and wait until all jobs have ended."""
        self.note("the end begins")
        self.put_all_right()
        self.jobs_only_go_forward()
        for ticket in self.with_jobs():
            if not ticket.program.ends and not ticket.has_ended:
                self.cancel_ticket(ticket)
        wait_until(self.all_have_ended)
        self.jobs_only_go_forward()
        left = [str(ticket) for ticket in self.with_jobs() if not ticket.has_ended]
        assert not left, f"{left} have not ended after {SETTLING} seconds"

    def all_have_ended(self) -> bool:
        return all(row.state.is_final for row in self.world.rows())

    # -- how it is done

    def note(self, text: str) -> None:
        self.world.note(text)

    def start_service(self, die_at: str) -> None:
        self.note(f"start the service, to die at {die_at}" if die_at else "start the service")
        self.die_at = die_at
        try:
            self.world.start_service(die_at)
        except ServiceDied:
            self.has_died()

    def has_died(self) -> None:
        assert self.die_at, "the service died by itself"
        self.note(f"the service has died at {self.die_at}")
        COUNTS["deaths at a fail point"] += 1
        self.world.kill_service()

    def call(self, text: str, *calls: Call) -> list[Answer | Refusal] | None:
        """Make calls at once; None if the service died before it answered. One that is down is started."""
        if self.world.service is None:
            self.start_service("")
        assert self.world.service is not None
        try:
            answers = self.world.service.at_once(*calls)
        except ServiceDied:
            self.note(f"{text}: no answer")
            self.has_died()
            return None
        told = [a.job.id if isinstance(a, Answer) else f"{a.kind}: {a.text}" for a in answers]
        self.note(f"{text}: {told}")
        return answers

    def with_jobs(self) -> list[Ticket]:
        return [ticket for ticket in self.tickets if ticket.job_id]

    def submission(self, ticket: Ticket, command: str = "") -> Submit:
        return Submit(
            token=ticket.user.token,
            image=ticket.program.image,
            command=command or ticket.command,
            item=self.world.items[ticket.user],
            headers={"Idempotency-Key": ticket.key} if ticket.key else {},
        )

    def send(self, ticket: Ticket, copies: int) -> None:
        """Submit a ticket, perhaps for another time."""
        before = self.world.rows()
        is_first = ticket.fate is Fate.UNCLEAR and ticket is self.tickets[-1]
        if ticket.fate is Fate.REJECTED:
            ticket.fate = Fate.UNCLEAR
            is_first = True
        text = f"submit {ticket} {ticket.user.name} {ticket.command!r} {copies=}"
        answers = self.call(text, *[self.submission(ticket)] * copies)
        if answers is None:
            return
        jobs = {answer.job.id for answer in answers if isinstance(answer, Answer)}
        assert len(jobs) <= 1, f"one key, several jobs: {jobs}"
        for answer in answers:
            if isinstance(answer, Refusal):
                self.check_refusal(answer, ticket, before)
        if jobs:
            assert ticket.job_id in (None, *jobs), f"{ticket} has two jobs"
            ticket.fate, (ticket.job_id,) = Fate.ACCEPTED, jobs
        elif is_first:
            ticket.fate = Fate.REJECTED

    def check_refusal(self, refusal: Refusal, ticket: Ticket, before: list[Row]) -> None:
        if refusal.kind == "ServiceUnavailable":
            assert self.is_storagehub_away, refusal
            return
        assert refusal.kind == "ServerBusy", refusal
        assert ticket.job_id is None, "there is a job for the key"
        waiting = Counter(row.owner for row in before if row.waits)
        limits = self.world.limits
        assert (
            waiting.total() >= limits.max_waiting
            or waiting[ticket.user.name] >= limits.max_waiting_per_owner
        ), "there was room"

    def expect_refusal(self, text: str, call: Call, kind: str) -> None:
        answers = self.call(text, call)
        if answers is None:
            return
        (answer,) = answers
        assert isinstance(answer, Refusal), f"it was accepted: {answer}"
        away = {"ServiceUnavailable"} if self.is_storagehub_away else set()
        assert answer.kind in {kind} | away, answer

    def check_document(self, answer: Answer) -> None:
        job: Job = answer.job
        documents = job_documents(self.world.settings, _LINKS)
        root = assert_valid(documents.execute_response(job, answer.place))
        name = _STATUS.get(job.state, "ProcessStarted")
        (status,) = root.findall(".//{*}Status/*")
        assert status.tag.endswith(f"}}{name}"), (job.state, status.tag)
        assert job.state is JobState.ACCEPTED or answer.place is None


def _one_of(tickets: Sequence[Ticket], choice: int) -> Ticket | None:
    return tickets[choice % len(tickets)] if tickets else None


def _settings(examples: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=_STEPS,
        deadline=None,
        # The short run tells the same stories each time; how they end is up to the machine.
        derandomize=examples == _FEW,
        database=None,
        # Times are real: a shorter story would be another one.
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        print_blob=True,
        report_multiple_bugs=False,
    )


def test_every_accepted_job_ends_once_as_its_history_allows(
    capsys: pytest.CaptureFixture[str],
) -> None:
    began = time.monotonic()
    try:
        run_state_machine_as_test(JobLife, settings=_settings(EXAMPLES or _FEW))
    except Exception as error:
        if FAILURES and error is not FAILURES[0]:
            raise FAILURES[0] from error
        raise
    if EXAMPLES:
        told = ", ".join(f"{count} {what}" for what, count in COUNTS.items())
        with capsys.disabled():
            print(f"\n{told} in {time.monotonic() - began:.0f} seconds")  # noqa: T201
